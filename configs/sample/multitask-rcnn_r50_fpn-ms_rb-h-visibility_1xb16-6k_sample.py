# Command: python tools/train.py CONFIG
# Cost: 6000 iterations of 16 images; time and memory not measured.
# Expected result: not measured.
#
# A branch of the keypoint head predicts whether each keypoint is visible, occluded or absent.
_base_ = './multitask-rcnn_r50_fpn-ms_rb-h_1xb16-6k_sample.py'

visibility = dict(type='KeypointVisibilityBranch', in_channels=256, conv_channels=256)
model = dict(roi_head=dict(branches=dict(visibility=visibility)))
