# The report's schedule (section 4.1): 90000 iterations of 12 images, learning
# rate 0.03, divided by 10 after 60000 and 80000.
#
# Every layer learns at the same rate, also those that predict offsets, and
# gradients are not clipped. Detectron2 and MMDetection train deformable
# convolutions with SGD the same way: offsets start at zero and learn at x1, from
# a pretrained network with frozen batch norm. In this project's own experiment
# at small scale (docs/offsets-experiment.md), offsets at x1 of SGD's best rate,
# 0.0003, stay below two cells and change AP within noise. Higher rates did worse
# there with and without offsets, so it says nothing about the 0.03 here.
# Rates of offsets below 1 belong to AdamW (schedule_90k_adamw.py), to RoI-pooling
# offsets (x0.01 in MSRA's code) and to gradients through points (x0.1 in
# RepPoints and VFNet).
train_cfg = dict(type='ReproducibleTrainLoop', max_iters=90000, val_interval=5000)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')

param_scheduler = [
    dict(type='LinearLR', start_factor=0.001, by_epoch=False, begin=0, end=1000),
    dict(
        type='MultiStepLR',
        by_epoch=False,
        begin=0,
        end=90000,
        milestones=[60000, 80000],
        gamma=0.1,
    ),
]

optim_wrapper = dict(
    type='OptimWrapper', optimizer=dict(type='SGD', lr=0.03, momentum=0.9, weight_decay=0.0001)
)

# For another batch: tools/train.py --auto-scale-lr
auto_scale_lr = dict(enable=False, base_batch_size=12)
