# Detectron2's 1x schedule: 16 images at 0.02. Its configs with deformable
# convolutions have the same rate for the offsets and no clip.
_base_ = './schedule_90k.py'

# Iteration 1000 is the first at the full rate; MMEngine's LinearLR is there one
# iteration before its end.
param_scheduler = _base_.param_scheduler
param_scheduler[0].end = 1001
optim_wrapper = dict(optimizer=dict(lr=0.02))
auto_scale_lr = dict(base_batch_size=16)
