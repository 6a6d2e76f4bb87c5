# 6000 iterations from random weights, for the large drawn sample and one GPU.
_base_ = './schedule_1500.py'

max_iters = 6000
train_cfg = dict(max_iters=max_iters, val_interval=max_iters)
param_scheduler = _base_.param_scheduler
param_scheduler[1].update(end=max_iters, T_max=max_iters - 50)

optim_wrapper = dict(optimizer=dict(lr=0.0003))
