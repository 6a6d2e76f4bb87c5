# RB: refinement in the backbone, every 3x3 convolution of conv3 to conv5.
_base_ = './multitask-rcnn_r50_fpn-ms_regular.py'

model = dict(
    backbone=dict(dcn=dict(type='RefinedConv2d'), stage_with_dcn=(False, True, True, True))
)
