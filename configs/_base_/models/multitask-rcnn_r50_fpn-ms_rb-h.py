# RB+H: refinement in the backbone and in the keypoint head. With the
# heatmaps' own refinement this is the report's full model.
_base_ = './multitask-rcnn_r50_fpn-ms_rb.py'

model = dict(
    roi_head=dict(keypoint_head=dict(conv_cfg=dict(type='RefinedConv2d'))))
