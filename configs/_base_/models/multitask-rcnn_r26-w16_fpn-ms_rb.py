# RB on the small network.
_base_ = './multitask-rcnn_r26-w16_fpn-ms_regular.py'

model = dict(
    backbone=dict(dcn=dict(type='RefinedConv2d'), stage_with_dcn=(False, True, True, True))
)
