# Command: bash tools/dist_train.sh CONFIG 8
# Cost: 270000 iterations of 16 images; time and memory not measured.
# Expected result: not measured.
#
# RB+H, AdamW, three times as long (Detectron2's 3x), with the exponential moving
# average of the weights (a second copy of them), which is validated and saved.
# Without the average: --cfg-options custom_hooks="[]".
_base_ = './multitask-rcnn_r50-tnr-pre_fpn-ms_rb-h_8xb2-adamw-90k_coco.py'

max_iters = 270000
train_cfg = dict(max_iters=max_iters)
param_scheduler = _base_.param_scheduler
param_scheduler[1].update(end=max_iters, milestones=[210000, 250000])

custom_hooks = [*_base_.custom_hooks, _base_.ema]
