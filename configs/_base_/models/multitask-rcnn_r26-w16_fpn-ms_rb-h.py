# RB+H on the small network.
_base_ = './multitask-rcnn_r26-w16_fpn-ms_regular.py'

refined = dict(type='RefinedConv2d')

model = dict(
    backbone=dict(dcn=refined, stage_with_dcn=(False, True, True, True)),
    roi_head=dict(keypoint_head=dict(conv_cfg=refined)),
)
