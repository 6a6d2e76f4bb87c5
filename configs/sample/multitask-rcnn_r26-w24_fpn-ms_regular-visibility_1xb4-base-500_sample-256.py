# Command: python tools/train.py CONFIG
# Cost: 500 iterations of 4 images; time in docs/offsets-experiment.md.
# Expected result: docs/branches.md.
#
# A branch of the keypoint head predicts whether each keypoint is visible, occluded or absent.
_base_ = './multitask-rcnn_r26-w24_fpn-ms_regular_1xb4-base-500_sample-256.py'

visibility = dict(type='KeypointVisibilityBranch', in_channels=64, conv_channels=64)
model = dict(roi_head=dict(branches=dict(visibility=visibility)))
