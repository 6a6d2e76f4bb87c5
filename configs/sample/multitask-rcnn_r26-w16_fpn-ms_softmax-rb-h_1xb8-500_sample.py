# Command: python tools/train.py CONFIG --cfg-options load_from=CONVERTED
# Cost: 500 iterations of 8 images; time and memory not measured.
# Expected result: docs/results/finetune-3-refined.json.
#
# Adds the refinements (RB+H and that of the heatmaps) to the trained network
# that load_from names, and trains it further. They start as the identity.
_base_ = './multitask-rcnn_r26-w16_fpn-ms_softmax_1xb8-1500_sample.py'

refined = dict(type='RefinedConv2d')
model = dict(
    backbone=dict(dcn=refined, stage_with_dcn=(False, True, True, True)),
    roi_head=dict(keypoint_head=dict(refine=True, conv_cfg=refined)),
)

max_iters = 500
train_cfg = dict(max_iters=max_iters, val_interval=max_iters)
param_scheduler = _base_.param_scheduler
param_scheduler[1].update(end=max_iters, T_max=max_iters - 50)
optim_wrapper = dict(optimizer=dict(lr=0.0003), paramwise_cfg=_base_.slow_offset)
