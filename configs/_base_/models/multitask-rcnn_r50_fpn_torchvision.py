# torchvision's Mask and Keypoint R-CNN with an FPN, number for number.
_base_ = './multitask-rcnn_r50_fpn_detectron2.py'

# RoIAlign as Detectron1 had it: half a pixel up and left, two samples a bin
# and axis.
roi_layer = dict(sampling_ratio=2, aligned=False)

# torchvision's IMAGENET1K_V1; its package is not needed.
checkpoint = 'https://download.pytorch.org/models/resnet50-0676ba61.pth'
model = dict(
    data_preprocessor=dict(
        mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375], bgr_to_rgb=True
    ),
    backbone=dict(
        style='pytorch',
        # The published weights (COCO_V1) are for an epsilon of 0; those of
        # torchvision's own training script for 1e-5.
        norm_cfg=dict(type='BN', eps=0.0, requires_grad=False),
        init_cfg=dict(checkpoint=checkpoint),
    ),
    rpn_head=dict(
        anchor_generator=dict(type='TorchvisionAnchorGenerator'),
        loss_bbox=dict(_delete_=True, type='SmoothL1Loss', beta=1 / 9, loss_weight=1.0),
    ),
    roi_head=dict(
        bbox_roi_extractor=dict(roi_layer=roi_layer),
        instance_roi_extractor=dict(roi_layer=roi_layer),
        bbox_head=dict(loss_bbox=dict(beta=1 / 9)),
        mask_head=dict(aligned_targets=False),
        keypoint_head=dict(codec=dict(score='logit')),
    ),
    train_cfg=dict(
        rpn_proposal=dict(max_per_img=2000, min_bbox_size=0.001), rcnn=dict(soft_mask_target=True)
    ),
    test_cfg=dict(rpn=dict(min_bbox_size=0.001), rcnn=dict(min_bbox_size=0.01)),
)
