# Command: python tools/train.py CONFIG
# Cost: 350 iterations of 8 images; time in docs/results/quickstart.json.
# Expected result: docs/results/quickstart.json.
#
# The quickstart: the pretrained base with all refinements, trained further.
_base_ = [
    '../_base_/models/multitask-rcnn_r26-w24_fpn-ms_rb-h.py',
    '../_base_/datasets/sample-quickstart_multitask.py',
    '../_base_/schedules/schedule_base-350.py',
    '../_base_/default_runtime.py',
]

# The base has better batch statistics than so few images.
model = dict(backbone=dict(norm_eval=True))
default_hooks = dict(checkpoint=dict(interval=100))
