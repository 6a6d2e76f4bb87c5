# Command: bash tools/dist_train.sh CONFIG 4
# Cost: 90000 iterations of 12 images; time and memory not measured.
# Expected result: not measured.
#
# Masks of 56x56 cells instead of 28x28, by a transposed convolution of stride 4.
_base_ = './multitask-rcnn_r50_fpn-ms_rb-h_4xb3-90k_coco.py'

model = dict(
    roi_head=dict(mask_head=dict(upsample_cfg=dict(type='deconv', scale_factor=4))),
    train_cfg=dict(rcnn=dict(mask_size=56)),
)
