# 500 iterations from the pretrained base, at a rate that is usual for AdamW.
_base_ = ['./schedule_1500.py', '../base_checkpoint.py']

max_iters = 500
warmup = 50

train_cfg = dict(max_iters=max_iters, val_interval=max_iters)
param_scheduler = _base_.param_scheduler
param_scheduler[0].end = warmup
# Down to zero: to a fixed rate above zero, the rate of layers with a small
# lr_mult would rise.
param_scheduler[1].update(begin=warmup, end=max_iters, T_max=max_iters - warmup, eta_min=0)

optim_wrapper = dict(
    optimizer=dict(lr=3e-4),
    # Refined networks have larger norms: a bound that is in the way of theirs
    # alone would be a second difference.
    clip_grad=dict(max_norm=100),
)

custom_hooks = [dict(type='OffsetStatisticsHook', interval=50)]
