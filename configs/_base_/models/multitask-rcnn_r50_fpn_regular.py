# The standard FPN: conv2 to conv5, as in Mask R-CNN and its successors.
_base_ = './multitask-rcnn_r50_fpn-ms_regular.py'

strides = [4, 8, 16, 32]
levels = dict(featmap_strides=strides, finest_scale=56)

model = dict(
    backbone=dict(out_indices=(0, 1, 2, 3)),
    neck=dict(in_channels=[256, 512, 1024, 2048], num_outs=5),
    rpn_head=dict(anchor_generator=dict(scales=[8], strides=[*strides, 64])),
    roi_head=dict(bbox_roi_extractor=levels, instance_roi_extractor=levels),
)
