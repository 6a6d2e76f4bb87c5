# RB+H: refinement in the backbone and in the keypoint head. With the
# heatmaps' own refinement this is the report's full model.
_base_ = './multitask-rcnn_r50_fpn-ms_regular.py'

refined = dict(type='RefinedConv2d')

model = dict(
    backbone=dict(dcn=refined, stage_with_dcn=(False, True, True, True)),
    roi_head=dict(keypoint_head=dict(conv_cfg=refined)),
)
