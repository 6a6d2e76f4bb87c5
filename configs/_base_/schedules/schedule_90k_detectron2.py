# Detectron2's 1x schedule: 16 images at 0.02. Its configs with deformable
# convolutions have the same rate for the offsets and no clip.
_base_ = './schedule_90k.py'

optim_wrapper = dict(optimizer=dict(lr=0.02))
auto_scale_lr = dict(base_batch_size=16)
