# Command: python tools/train.py CONFIG
# Cost: 500 iterations of 4 images; time in docs/offsets-experiment.md.
# Expected result: docs/branches.md.
#
# The predicted mask of a person modulates the feature of the keypoint head.
_base_ = './multitask-rcnn_r26-w24_fpn-ms_regular_1xb4-base-500_sample-256.py'

model = dict(roi_head=dict(mask_gate=dict(type='MaskGate', in_channels=64)))
