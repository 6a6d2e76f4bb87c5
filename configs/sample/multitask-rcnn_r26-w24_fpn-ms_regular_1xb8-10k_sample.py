# Command: python tools/train.py CONFIG
# Cost: 10000 iterations of 8 images; time and memory not measured.
# Expected result: docs/results/base.json.
_base_ = [
    '../_base_/models/multitask-rcnn_r26-w24_fpn-ms_regular.py',
    '../_base_/datasets/sample-256_multitask.py',
    '../_base_/schedules/schedule_pretrain.py',
    '../_base_/default_runtime.py',
]

default_hooks = dict(checkpoint=dict(interval=500))
