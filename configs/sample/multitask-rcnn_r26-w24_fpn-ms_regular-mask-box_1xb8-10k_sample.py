# Command: python tools/train.py CONFIG
# Cost: 10000 iterations of 8 images; time and memory not measured.
# Expected result: docs/test-time-consistency.md.
#
# The pretrained base with masks and keypoints from RoIs a tenth larger than the
# boxes, and boxes moved half way to the extents of the masks. Weights: those of
# the base; nothing is trained anew.
_base_ = './multitask-rcnn_r26-w24_fpn-ms_regular_1xb8-10k_sample.py'

model = dict(
    test_cfg=dict(
        rcnn=dict(roi_scale_factor=1.1, postprocess=[dict(type='MaskBoxRefiner', weight=0.5)])
    )
)
