_base_ = './multitask-rcnn_r26-w24_fpn-ms_rb_1xb4-base-1000_sample-256.py'

model = dict(roi_head=dict(keypoint_head=dict(conv_cfg=dict(type='RefinedConv2d'))))
