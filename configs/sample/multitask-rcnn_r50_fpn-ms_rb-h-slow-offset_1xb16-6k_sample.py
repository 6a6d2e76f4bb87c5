# Command: python tools/train.py CONFIG
# Cost: 6000 iterations of 16 images; time and memory not measured.
# Expected result: not measured.
_base_ = [
    '../_base_/models/multitask-rcnn_r50_fpn-ms_rb-h.py',
    '../_base_/models/from_scratch.py',
    '../_base_/datasets/sample-large_multitask.py',
    '../_base_/schedules/schedule_6k.py',
    '../_base_/default_runtime.py',
]

model = _base_.from_scratch
optim_wrapper = dict(paramwise_cfg=_base_.slow_offset)
