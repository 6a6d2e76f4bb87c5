# No FPN: proposals and RoI features come from conv4, at stride 16, and conv5
# runs on every pooled RoI before the three heads, as in the C4 variant of
# Mask R-CNN. Masks and heatmaps have half the resolution of those with an FPN.
_base_ = './multitask-rcnn_r50_fpn-ms_regular.py'

# Only the last layer, on the average of the feature.
bbox_head = _base_.model.roi_head.bbox_head
bbox_head.pop('fc_out_channels')
bbox_head.update(type='BBoxHead', with_avg_pool=True, in_channels=2048)

model = dict(
    backbone=dict(num_stages=3, strides=(1, 2, 2), dilations=(1, 1, 1), out_indices=(2,)),
    neck=None,
    rpn_head=dict(
        in_channels=1024,
        feat_channels=1024,
        anchor_generator=dict(scales=[2, 4, 8, 16, 32], strides=[16]),
    ),
    roi_head=dict(
        shared_head=dict(
            type='ResLayer',
            depth=50,
            stage=3,
            stride=2,
            style='caffe',
            norm_cfg=dict(type='BN', requires_grad=False),
            norm_eval=True,
            init_cfg=dict(type='Pretrained', checkpoint='open-mmlab://detectron2/resnet50_caffe'),
        ),
        bbox_roi_extractor=None,
        instance_roi_extractor=dict(out_channels=1024, featmap_strides=[16]),
        bbox_head=dict(_delete_=True, **bbox_head),
        mask_head=dict(num_convs=0, in_channels=2048),
        keypoint_head=dict(
            in_channels=2048,
            codec=dict(heatmap_size=28),
            # A quarter of the cells.
            loss_weight=0.2,
        ),
    ),
    train_cfg=dict(rcnn=dict(mask_size=14)),
)
