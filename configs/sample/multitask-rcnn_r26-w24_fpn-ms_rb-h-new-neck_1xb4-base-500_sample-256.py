# Command: python tools/train.py CONFIG
# Cost: 500 iterations of 4 images; time in docs/offsets-experiment.md.
# Expected result: docs/offsets-experiment.md.
#
# The control of the single-scale network: what that cannot take from the base starts from random
# weights here, too.
_base_ = './multitask-rcnn_r26-w24_fpn-ms_rb-h_1xb4-base-500_sample-256.py'

default_hooks = dict(
    partial_load=dict(
        type='PartialLoadHook', skip=['neck', 'rpn_head.rpn_cls', 'rpn_head.rpn_reg']
    )
)
