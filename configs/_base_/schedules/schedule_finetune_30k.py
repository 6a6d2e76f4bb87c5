# From trained weights: 30000 iterations of 16 images, learning rate 0.002,
# divided by 10 after 20000 and 27000. Offset layers that are added start at zero
# and learn at x1, as Detectron2 and MMDetection train them with SGD.
_base_ = './schedule_90k.py'

train_cfg = dict(max_iters=30000)
param_scheduler = _base_.param_scheduler
param_scheduler[1].update(end=30000, milestones=[20000, 27000])
optim_wrapper = dict(optimizer=dict(lr=0.002))
auto_scale_lr = dict(base_batch_size=16)
