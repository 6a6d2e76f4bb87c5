# Command: python tools/train.py CONFIG
# Cost: 1500 iterations of 4 images; time and memory not measured.
# Expected result: docs/results/ablation, one file per seed.
_base_ = [
    '../_base_/models/multitask-rcnn_r26-w16_fpn-ms_rb.py',
    '../_base_/datasets/sample_multitask.py',
    '../_base_/schedules/schedule_1500.py',
    '../_base_/default_runtime.py',
]

train_dataloader = dict(batch_size=4)
