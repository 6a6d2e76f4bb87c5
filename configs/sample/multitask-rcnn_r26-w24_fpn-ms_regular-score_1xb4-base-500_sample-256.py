# Command: python tools/train.py CONFIG
# Cost: 500 iterations of 4 images; time in docs/offsets-experiment.md.
# Expected result: docs/branches.md.
#
# Branches predict the OKS of the pose and the IoU of the mask, by which tests can rank them:
# test_evaluator.keypoint_ranking=bbox_oks and test_evaluator.mask_ranking=bbox_iou.
_base_ = [
    './multitask-rcnn_r26-w24_fpn-ms_regular_1xb4-base-500_sample-256.py',
    '../_base_/coco_sigmas.py',
]

branch = dict(in_channels=64, conv_channels=64)
branches = dict(
    pose_score=dict(type='KeypointScoreBranch', sigmas=_base_.sigmas, **branch),
    mask_score=dict(type='MaskScoreBranch', **branch),
)
model = dict(roi_head=dict(branches=branches))
