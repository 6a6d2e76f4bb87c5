# Command: bash tools/dist_train.sh CONFIG 4
# Cost: 90000 iterations of 12 images; time and memory not measured.
# Expected result: not measured.
#
# COCO's 17 keypoints, learned from COCO and from CrowdPose, which labels 12 of
# them.
_base_ = [
    '../_base_/models/multitask-rcnn_r50_fpn-ms_rb-h.py',
    '../_base_/datasets/coco_crowdpose_multitask.py',
    '../_base_/schedules/schedule_90k.py',
    '../_base_/default_runtime.py',
]

default_hooks = dict(
    checkpoint=dict(save_best=['coco/coco/keypoints_AP', 'crowdpose/coco/keypoints_AP'])
)
