# The small network, half as wide again, with a stronger keypoint head: the
# network of the pretrained base. No refinement at all.
_base_ = './multitask-rcnn_r26-w16_fpn-ms_regular.py'

model = dict(
    backbone=dict(stem_channels=24, base_channels=24),
    neck=dict(in_channels=[192, 384, 768]),
    roi_head=dict(keypoint_head=dict(refine=False, num_convs=4, conv_channels=96)),
    # Twice the RoIs: the heads cost little beside the backbone.
    train_cfg=dict(rcnn=dict(sampler=dict(num=24))),
)
