# Command: python tools/train.py CONFIG
# Cost: 500 iterations of 4 images; time in docs/offsets-experiment.md.
# Expected result: docs/offsets-experiment.md.
_base_ = './multitask-rcnn_r26-w24_fpn-ms_rb-h_1xb4-base-500_sample-256.py'

model = dict(roi_head=dict(keypoint_head=dict(refine=False)))
