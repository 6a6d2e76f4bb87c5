default_scope = 'mmdet'
custom_imports = dict(imports=['multitask_refine'], allow_failed_imports=False)

default_hooks = dict(
    consistency=dict(type='ConsistencyHook'),
    keypoint_transfer=dict(type='KeypointTransferHook'),
    timer=dict(type='IterTimerHook'),
    logger=dict(type='LoggerHook', interval=50, log_metric_by_epoch=False),
    param_scheduler=dict(type='ParamSchedulerHook'),
    checkpoint=dict(
        type='AtomicCheckpointHook',
        by_epoch=False,
        interval=5000,
        max_keep_ckpts=3,
        # Keypoint AP; mask or box AP of a network without that head.
        save_best='auto',
        rule='greater',
    ),
    resume=dict(type='ResumeHook'),
    preemption=dict(type='PreemptionHook', interval=10),
    bad_images=dict(type='BadImagesHook', max_share=0.01, interval=50),
    sampler_seed=dict(type='DistSamplerSeedHook'),
    visualization=dict(type='DetVisualizationHook'),
)
log_processor = dict(type='LogProcessor', window_size=50, by_epoch=False)
log_level = 'INFO'

env_cfg = dict(
    cudnn_benchmark=False,
    mp_cfg=dict(mp_start_method='fork', opencv_num_threads=0),
    dist_cfg=dict(backend='nccl'),
)
# The model is on its device already; naming none works on the CPU too.
model_wrapper_cfg = dict(
    type='MMDistributedDataParallel', device_ids=None, broadcast_buffers=False
)
visualizer = dict(type='MultitaskVisualizer', vis_backends=[dict(type='LocalVisBackend')])

# For tools/test.py --tta, which makes the views from the test pipeline. A config
# may have views of its own: tta_pipeline, whose last step packs the meta keys
# 'flip', 'flip_direction' and 'flip_indices'.
tta_model = dict(type='MultitaskTTAModel')

resume = False
