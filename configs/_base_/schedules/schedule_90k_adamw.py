# AdamW: 90000 iterations of 16 images at 1e-4. The evidence is public code:
# - Rate 1e-4, weight decay 0.1 and none for norms, pretrained start, frozen
#   batch statistics: MMDetection's faster-rcnn_r50-tnr-pre_fpn_1x_coco, which
#   notes that rate and decay were searched. Biases are exempt, too.
# - Offset layers x0.1: Deformable DETR and MMDetection's version of it, with
#   AdamW at 2e-4. InternImage and DCNv4 take x0.01 for their large detectors
#   (0.001 for the largest) and x1 for the small ones. In this project's own
#   experiment at small scale (docs/offsets-experiment.md), offsets at the full
#   rate of 1e-4 stay below one cell, and x1, x0.1 and x0.01 give the same AP
#   within noise: it does not decide between them.
# - Clip at a norm of 35: MMDetection's Faster R-CNN for Objects365 and most of
#   its one-stage detectors. The 0.1 of the DETR family belongs to its losses.
# - Warm-up over 1000 iterations, decay at 60000 and 80000: Detectron2's 1x.
_base_ = './schedule_90k.py'

optim_wrapper = dict(
    optimizer=dict(_delete_=True, type='AdamW', lr=0.0001, weight_decay=0.1),
    paramwise_cfg=dict(dcn_offset_lr_mult=0.1, norm_decay_mult=0.0, bias_decay_mult=0.0),
    clip_grad=dict(max_norm=35),
)

auto_scale_lr = dict(base_batch_size=16)

# How far the offsets reach: the first thing to look at if AP lags behind.
custom_hooks = [dict(type='OffsetStatisticsHook', interval=50)]

# For a leaf: custom_hooks = [*_base_.custom_hooks, _base_.ema]. Exponential
# moving average of the weights, as in MMDetection's RTMDet.
ema = dict(type='EMAHook', ema_type='ExpMomentumEMA', momentum=0.0002, priority=49)
