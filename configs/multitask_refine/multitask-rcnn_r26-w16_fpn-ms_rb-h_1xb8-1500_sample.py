_base_ = [
    '../_base_/models/multitask-rcnn_r26-w16_fpn-ms_rb-h.py',
    '../_base_/datasets/sample_multitask.py',
    '../_base_/schedules/schedule_1500.py', '../_base_/default_runtime.py'
]

# At the full rate the offsets run away: see the small-scale runs in
# docs/benchmarks.md.
slow = dict(lr_mult=0.1)
optim_wrapper = dict(
    paramwise_cfg=dict(custom_keys=dict(conv_offset=slow, offset_pred=slow)))
