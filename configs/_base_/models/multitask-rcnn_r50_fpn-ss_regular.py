# Single-scale FPN: conv5 alone. Its stride is 16 instead of 32 (the 3x3
# convolutions of conv5 are dilated in return, as in Detectron2's DC5 models):
# at 32 a small person would be less than a cell. The anchors of this one
# level cover COCO's whole range of 32 to 512 pixels.
_base_ = './multitask-rcnn_r50_fpn-ms_regular.py'

strides = [16]

model = dict(
    backbone=dict(out_indices=(3,), strides=(1, 2, 2, 1), dilations=(1, 1, 1, 2)),
    neck=dict(in_channels=[2048], num_outs=1),
    rpn_head=dict(anchor_generator=dict(scales=[2, 4, 8, 16, 32], strides=strides)),
    roi_head=dict(
        bbox_roi_extractor=dict(featmap_strides=strides),
        instance_roi_extractor=dict(featmap_strides=strides),
    ),
)
