# Long training from random weights: warm-up, a constant rate, and a decay to
# zero over the last fifth. A checkpoint from before the decay can be trained on
# for longer.
_base_ = './schedule_1500.py'

max_iters = 10000
decay_begin = 8000

train_cfg = dict(max_iters=max_iters, val_interval=2000)

param_scheduler = _base_.param_scheduler
param_scheduler[0].end = 200
param_scheduler[1].update(begin=decay_begin, end=max_iters, T_max=max_iters - decay_begin)

# Forward and loss in bfloat16, for CPUs that have instructions for it.
optim_wrapper = dict(type='Bfloat16OptimWrapper')
