# 350 iterations from the pretrained base, for the quickstart. The offsets learn
# at a tenth of the rate.
_base_ = ['./schedule_1500.py', '../base_checkpoint.py']

max_iters = 350
train_cfg = dict(max_iters=max_iters, val_interval=max_iters)
param_scheduler = _base_.param_scheduler
param_scheduler[1].update(end=max_iters, T_max=max_iters - 50)

optim_wrapper = dict(optimizer=dict(lr=3e-4), paramwise_cfg=_base_.slow_offset)
