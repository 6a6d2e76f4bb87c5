# Command: python tools/train.py CONFIG
# Cost: 6000 iterations of 16 images; time and memory not measured.
# Expected result: not measured.
_base_ = [
    '../_base_/models/multitask-rcnn_r50_fpn-ss_regular.py',
    '../_base_/models/from_scratch.py',
    '../_base_/datasets/sample-large_multitask.py',
    '../_base_/schedules/schedule_6k.py',
    '../_base_/default_runtime.py',
]

model = _base_.from_scratch
refined = dict(type='RefinedConv2d')
model.backbone.update(dcn=refined, stage_with_dcn=(False, True, True, True))
model.roi_head.keypoint_head.conv_cfg = refined
