# Command: bash tools/dist_train.sh CONFIG 8
# Cost: 90000 iterations of 16 images; time and memory not measured.
# Expected result: not measured.
#
# RB+H with the start and schedule of the regular recipe. Offset layers learn at
# a tenth of the rate (why: ../_base_/schedules/schedule_90k_adamw.py).
_base_ = './multitask-rcnn_r50-tnr-pre_fpn-ms_regular_8xb2-adamw-90k_coco.py'

refined = dict(type='RefinedConv2d')
model = dict(
    backbone=dict(dcn=refined, stage_with_dcn=(False, True, True, True)),
    roi_head=dict(keypoint_head=dict(conv_cfg=refined)),
)
