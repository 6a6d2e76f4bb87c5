# Command: python tools/train.py CONFIG
# Cost: 6000 iterations of 16 images; time and memory not measured.
# Expected result: not measured.
#
# Branches predict the OKS of the pose and the IoU of the mask, by which tests can rank them:
# test_evaluator.keypoint_ranking=bbox_oks and test_evaluator.mask_ranking=bbox_iou.
_base_ = ['./multitask-rcnn_r50_fpn-ms_rb-h_1xb16-6k_sample.py', '../_base_/coco_sigmas.py']

branch = dict(in_channels=256, conv_channels=256)
branches = dict(
    pose_score=dict(type='KeypointScoreBranch', sigmas=_base_.sigmas, **branch),
    mask_score=dict(type='MaskScoreBranch', **branch),
)
model = dict(roi_head=dict(branches=branches))
