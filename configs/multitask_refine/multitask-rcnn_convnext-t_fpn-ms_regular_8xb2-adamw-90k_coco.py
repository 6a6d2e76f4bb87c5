# Command: bash tools/dist_train.sh CONFIG 8
# Cost: 90000 iterations of 16 images; time and memory not measured.
# Expected result: not measured.
#
# ConvNeXt-T in the place of ResNet-50. Weights, stochastic depth and weight decay
# are those of MMDetection's Mask R-CNN with this backbone.
_base_ = [
    '../_base_/models/multitask-rcnn_r50_fpn-ms_regular.py',
    '../_base_/datasets/coco_multitask.py',
    '../_base_/schedules/schedule_90k_adamw.py',
    '../_base_/default_runtime.py',
]

checkpoint = 'https://download.openmmlab.com/mmclassification/v0/convnext/downstream/convnext-tiny_3rdparty_32xb128-noema_in1k_20220301-795e9634.pth'  # noqa: E501
model = dict(
    data_preprocessor=dict(
        mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375], bgr_to_rgb=True
    ),
    backbone=dict(
        _delete_=True,
        type='ConvNeXt',
        depths=[3, 3, 9, 3],
        channels=[96, 192, 384, 768],
        out_indices=(1, 2, 3),
        drop_path_rate=0.4,
        init_cfg=dict(type='Pretrained', checkpoint=checkpoint, prefix='backbone.'),
    ),
    neck=dict(in_channels=[192, 384, 768]),
)

train_dataloader = dict(batch_size=2)
optim_wrapper = dict(optimizer=dict(weight_decay=0.05))
