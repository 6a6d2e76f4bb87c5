# Command: python tools/train.py CONFIG
# Cost: 500 iterations of 4 images; time in docs/offsets-experiment.md.
# Expected result: docs/offsets-experiment.md.
#
# The neck and the last layers of the RPN start from random weights: those of the
# base have other shapes.
_base_ = './multitask-rcnn_r26-w24_fpn-ms_rb-h_1xb4-base-500_sample-256.py'

strides = [16]

default_hooks = dict(partial_load=dict(type='PartialLoadHook', skip=['neck']))

model = dict(
    backbone=dict(out_indices=(3,), strides=(1, 2, 2, 1), dilations=(1, 1, 1, 2)),
    neck=dict(in_channels=[768], num_outs=1),
    rpn_head=dict(anchor_generator=dict(scales=[2, 4, 8, 16], strides=strides)),
    roi_head=dict(
        bbox_roi_extractor=dict(featmap_strides=strides),
        instance_roi_extractor=dict(featmap_strides=strides),
    ),
)
