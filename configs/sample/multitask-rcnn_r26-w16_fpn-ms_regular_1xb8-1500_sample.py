# Command: python tools/train.py CONFIG
# Cost: 1500 iterations of 8 images; time and memory not measured.
# Expected result: not measured.
_base_ = [
    '../_base_/models/multitask-rcnn_r26-w16_fpn-ms_regular.py',
    '../_base_/datasets/sample_multitask.py',
    '../_base_/schedules/schedule_1500.py',
    '../_base_/default_runtime.py',
]
