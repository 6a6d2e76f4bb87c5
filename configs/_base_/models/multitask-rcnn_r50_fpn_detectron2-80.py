# Detectron2's Mask R-CNN trained on COCO's 80 classes, of which the person is
# kept.
_base_ = './multitask-rcnn_r50_fpn_detectron2.py'

model = dict(
    roi_head=dict(
        bbox_head=dict(
            type='PersonBBoxHead',
            num_other_classes=79,
            loss_bbox=dict(_delete_=True, type='L1Loss', loss_weight=1.0),
        ),
        keypoint_head=None,
    ),
    train_cfg=dict(rpn_proposal=dict(max_per_img=1000)),
)
