# Command: python tools/train.py CONFIG
# Cost: 10000 iterations of 8 images; time and memory not measured.
# Expected result: docs/test-time-consistency.md.
#
# The pretrained base with DARK decoding of the heatmaps. Weights: those of the
# base; nothing is trained anew.
_base_ = './multitask-rcnn_r26-w24_fpn-ms_regular_1xb8-10k_sample.py'

model = dict(
    roi_head=dict(
        keypoint_head=dict(
            codec=dict(type='DarkRoIHeatmapCodec', method='dark', blur_kernel_size=5)
        )
    )
)
