# 1500 iterations from random weights, for the drawn sample.
max_iters = 1500

train_cfg = dict(type='ReproducibleTrainLoop', max_iters=max_iters, val_interval=max_iters)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')

param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, by_epoch=False, begin=0, end=50),
    dict(
        type='CosineAnnealingLR',
        by_epoch=False,
        begin=50,
        end=max_iters,
        T_max=max_iters - 50,
        eta_min=1e-5,
    ),
]

optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='AdamW', lr=0.0015, weight_decay=0.05),
    clip_grad=dict(max_norm=10),
)

# For a leaf: optim_wrapper = dict(paramwise_cfg=_base_.slow_offset). AdamW
# updates offsets that are not needed yet as fast as the rest: at the full learning
# rate they soon reach several pixels, and the features sampled there are noise.
slow_offset = dict(dcn_offset_lr_mult=0.1)

randomness = dict(seed=0)
