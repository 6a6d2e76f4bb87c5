# MMDetection's Mask R-CNN with an FPN; of its 80 classes the person is kept.
_base_ = './multitask-rcnn_r50_fpn_regular.py'

bbox_head = _base_.model.roi_head.bbox_head
bbox_head.update(type='PersonBBoxHead', num_other_classes=79)
bbox_head.loss_bbox = dict(type='L1Loss', loss_weight=1.0)

# torchvision's IMAGENET1K_V1; its package is not needed.
checkpoint = 'https://download.pytorch.org/models/resnet50-0676ba61.pth'
model = dict(
    data_preprocessor=dict(
        mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375], bgr_to_rgb=True
    ),
    # The batch norms of stages that are not frozen learn their weights and biases.
    backbone=dict(
        style='pytorch',
        norm_cfg=dict(type='BN', requires_grad=True),
        init_cfg=dict(checkpoint=checkpoint),
    ),
    roi_head=dict(bbox_head=dict(_delete_=True, **bbox_head), keypoint_head=None),
    train_cfg=dict(rcnn=dict(assigner=dict(match_low_quality=True))),
)
