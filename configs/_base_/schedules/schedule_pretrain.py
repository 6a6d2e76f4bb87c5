# Long training from random weights: warm-up, a constant rate, and a decay to
# zero over the last fifth. A checkpoint from before the decay can be trained on
# for longer.
max_iters = 20000
decay_begin = 16000

train_cfg = dict(
    type='ReproducibleTrainLoop', max_iters=max_iters, val_interval=2000)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')

param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, by_epoch=False, begin=0, end=200),
    dict(
        type='CosineAnnealingLR',
        by_epoch=False,
        begin=decay_begin,
        end=max_iters,
        T_max=max_iters - decay_begin,
        eta_min=1e-5)
]

# Forward and loss in bfloat16: half as long on a CPU that has instructions for
# it.
optim_wrapper = dict(
    type='Bfloat16OptimWrapper',
    optimizer=dict(type='AdamW', lr=0.0015, weight_decay=0.05),
    clip_grad=dict(max_norm=10))

randomness = dict(seed=0)
