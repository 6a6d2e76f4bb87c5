# Command: python tools/train.py CONFIG
# Cost: 500 iterations of 4 images; time in docs/offsets-experiment.md.
# Expected result: docs/offsets-experiment.md.
_base_ = './multitask-rcnn_r26-w24_fpn-ms_heatmap-offset_1xb4-base-500_sample-256.py'

model = dict(
    backbone=dict(dcn=dict(type='RefinedConv2d'), stage_with_dcn=(False, True, True, True))
)
