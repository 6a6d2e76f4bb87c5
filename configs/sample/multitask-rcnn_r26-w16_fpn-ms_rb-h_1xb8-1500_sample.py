# Command: python tools/train.py CONFIG
# Cost: 1500 iterations of 8 images; time in docs/quickstart.md.
# Expected result: docs/results/quickstart-from-scratch.json.
_base_ = [
    '../_base_/models/multitask-rcnn_r26-w16_fpn-ms_rb-h.py',
    '../_base_/datasets/sample_multitask.py',
    '../_base_/schedules/schedule_1500.py',
    '../_base_/default_runtime.py',
]

# See the small-scale runs in docs/reproducing-the-paper.md.
optim_wrapper = dict(paramwise_cfg=_base_.slow_offset)
