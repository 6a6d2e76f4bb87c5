# The report's schedule (section 4.1): 90000 iterations of 12 images, learning
# rate 0.03, divided by 10 after 60000 and 80000.
train_cfg = dict(
    type='ReproducibleTrainLoop', max_iters=90000, val_interval=5000)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')

param_scheduler = [
    dict(
        type='LinearLR', start_factor=0.001, by_epoch=False, begin=0,
        end=1000),
    dict(
        type='MultiStepLR',
        by_epoch=False,
        begin=0,
        end=90000,
        milestones=[60000, 80000],
        gamma=0.1)
]

optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='SGD', lr=0.03, momentum=0.9, weight_decay=0.0001))

# For another batch: tools/train.py --auto-scale-lr
auto_scale_lr = dict(enable=False, base_batch_size=12)
