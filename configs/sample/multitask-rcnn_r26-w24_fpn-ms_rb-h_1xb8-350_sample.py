# The quickstart: the pretrained base with all refinements, trained on.
_base_ = [
    '../_base_/models/multitask-rcnn_r26-w24_fpn-ms_rb-h.py',
    '../_base_/datasets/sample-quickstart_multitask.py',
    '../_base_/schedules/schedule_base-350.py',
    '../_base_/default_runtime.py',
]

# So few images say less of the features' statistics than the base knows.
model = dict(backbone=dict(norm_eval=True))
default_hooks = dict(checkpoint=dict(interval=100))
