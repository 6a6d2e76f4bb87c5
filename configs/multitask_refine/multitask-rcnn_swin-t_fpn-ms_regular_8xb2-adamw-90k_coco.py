# Command: bash tools/dist_train.sh CONFIG 8
# Cost: 90000 iterations of 16 images; time and memory not measured.
# Expected result: not measured.
#
# Swin-T in the place of ResNet-50. Weights, stochastic depth and weight decay are
# those of MMDetection's Mask R-CNN with this backbone (42.7 box AP on COCO's 80
# classes, 38.2 with ResNet-50).
_base_ = [
    '../_base_/models/multitask-rcnn_r50_fpn-ms_regular.py',
    '../_base_/datasets/coco_multitask.py',
    '../_base_/schedules/schedule_90k_adamw.py',
    '../_base_/default_runtime.py',
]

checkpoint = 'https://github.com/SwinTransformer/storage/releases/download/v1.0.0/swin_tiny_patch4_window7_224.pth'  # noqa: E501
model = dict(
    data_preprocessor=dict(
        mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375], bgr_to_rgb=True
    ),
    backbone=dict(
        _delete_=True,
        type='SwinTransformer',
        embed_dims=96,
        depths=[2, 2, 6, 2],
        num_heads=[3, 6, 12, 24],
        window_size=7,
        drop_path_rate=0.2,
        out_indices=(1, 2, 3),
        convert_weights=True,
        init_cfg=dict(type='Pretrained', checkpoint=checkpoint),
    ),
    neck=dict(in_channels=[192, 384, 768]),
)

train_dataloader = dict(batch_size=2)
optim_wrapper = dict(
    optimizer=dict(weight_decay=0.05),
    paramwise_cfg=dict(custom_keys=dict(relative_position_bias_table=dict(decay_mult=0.0))),
)
