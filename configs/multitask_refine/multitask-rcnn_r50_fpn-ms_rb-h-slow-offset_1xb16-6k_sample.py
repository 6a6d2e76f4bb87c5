_base_ = [
    '../_base_/models/multitask-rcnn_r50_fpn-ms_rb-h.py',
    '../_base_/models/from_scratch.py',
    '../_base_/datasets/sample-large_multitask.py',
    '../_base_/schedules/schedule_6k.py', '../_base_/default_runtime.py'
]

model = _base_.from_scratch
# AdamW moves what is not yet needed as fast as the rest: at the full rate the
# offsets soon reach several pixels, and the features they read are noise.
slow = dict(lr_mult=0.1)
optim_wrapper = dict(
    paramwise_cfg=dict(custom_keys=dict(conv_offset=slow, offset_pred=slow)))
