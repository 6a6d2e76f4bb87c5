# Boxes, masks and keypoints from one Mask R-CNN style network, without refined
# convolutions. Multi-scale FPN: conv3, conv4 and conv5.
num_keypoints = 17
pyramid_strides = [8, 16, 32]

model = dict(
    type='MultitaskRCNN',
    # The one switch of all implementations in projects/multitask_refine/ops/cpu, which differ from
    # those of PyTorch and mmcv by rounding. A training step of R50 on an AVX2 processor is faster
    # by: 3x3 convolutions (Winograd, oneDNN products) 1.7 times, RoIAlign 1.6, NMS 1.0 (inference
    # 1.2), deformable convolution (RB) 4.1. docs/performance.md has the measurements.
    fast_cpu_ops=True,
    data_preprocessor=dict(
        type='DetDataPreprocessor',
        mean=[103.530, 116.280, 123.675],
        std=[1.0, 1.0, 1.0],
        bgr_to_rgb=False,
        pad_mask=True,
        pad_size_divisor=32,
        non_blocking=True,
    ),
    backbone=dict(
        type='ResNet',
        depth=50,
        num_stages=4,
        out_indices=(1, 2, 3),
        frozen_stages=1,
        norm_cfg=dict(type='BN', requires_grad=False),
        norm_eval=True,
        style='caffe',
        init_cfg=dict(type='Pretrained', checkpoint='open-mmlab://detectron2/resnet50_caffe'),
    ),
    # One more level, at half the resolution, for the proposals of the largest people.
    neck=dict(type='FPN', in_channels=[512, 1024, 2048], out_channels=256, num_outs=4),
    rpn_head=dict(
        type='SyncAvgFactorRPNHead',
        in_channels=256,
        feat_channels=256,
        # Without conv2 the finest stride is 8: two sizes a level keep COCO's
        # range of 32 to 512 pixels.
        anchor_generator=dict(
            type='AnchorGenerator',
            scales=[4, 8],
            ratios=[0.5, 1.0, 2.0],
            strides=[*pyramid_strides, 64],
        ),
        bbox_coder=dict(
            type='DeltaXYWHBBoxCoder',
            target_means=[0.0, 0.0, 0.0, 0.0],
            target_stds=[1.0, 1.0, 1.0, 1.0],
        ),
        loss_cls=dict(type='CrossEntropyLoss', use_sigmoid=True, loss_weight=1.0),
        loss_bbox=dict(type='L1Loss', loss_weight=1.0),
    ),
    roi_head=dict(
        type='MultitaskRoIHead',
        bbox_roi_extractor=dict(
            type='RegistryRoIExtractor',
            roi_layer=dict(type='SeparableRoIAlign', output_size=7, sampling_ratio=0),
            out_channels=256,
            featmap_strides=pyramid_strides,
            # RoIs of 112 to 224 pixels go to the level of stride 8, as in
            # the FPN paper, and so do the smaller ones.
            finest_scale=112,
        ),
        instance_roi_extractor=dict(
            type='RegistryRoIExtractor',
            roi_layer=dict(type='SeparableRoIAlign', output_size=14, sampling_ratio=0),
            out_channels=256,
            featmap_strides=pyramid_strides,
            finest_scale=112,
        ),
        bbox_head=dict(
            type='Shared2FCBBoxHead',
            in_channels=256,
            fc_out_channels=1024,
            roi_feat_size=7,
            num_classes=1,
            bbox_coder=dict(
                type='DeltaXYWHBBoxCoder',
                target_means=[0.0, 0.0, 0.0, 0.0],
                target_stds=[0.1, 0.1, 0.2, 0.2],
            ),
            reg_class_agnostic=False,
            loss_cls=dict(type='CrossEntropyLoss', use_sigmoid=False, loss_weight=1.0),
            loss_bbox=dict(type='SmoothL1Loss', beta=1.0, loss_weight=1.0),
        ),
        mask_head=dict(
            type='PersonMaskHead',
            num_convs=4,
            in_channels=256,
            conv_out_channels=256,
            num_classes=1,
            loss_mask=dict(type='CrossEntropyLoss', use_mask=True, loss_weight=1.0),
        ),
        keypoint_head=dict(
            type='KeypointOffsetHead',
            num_keypoints=num_keypoints,
            in_channels=256,
            num_convs=8,
            conv_channels=512,
            codec=dict(type='RoIHeatmapCodec', heatmap_size=56, sigma=1.0),
            # A sum over 17 maps of 56x56 cells starts near 40: this weight
            # brings it to the order of the other losses.
            loss_weight=0.05,
        ),
    ),
    train_cfg=dict(
        rpn=dict(
            assigner=dict(
                type='SyncFreeMaxIoUAssigner',
                pos_iou_thr=0.7,
                neg_iou_thr=0.3,
                min_pos_iou=0.3,
                match_low_quality=True,
                ignore_iof_thr=0.5,
            ),
            sampler=dict(
                type='FewSyncRandomSampler',
                num=256,
                pos_fraction=0.5,
                neg_pos_ub=-1,
                add_gt_as_proposals=False,
            ),
            allowed_border=-1,
            pos_weight=-1,
            debug=False,
        ),
        rpn_proposal=dict(
            nms_pre=2000,
            max_per_img=1000,
            nms=dict(type='nms', iou_threshold=0.7),
            min_bbox_size=0,
        ),
        rcnn=dict(
            assigner=dict(
                type='SyncFreeMaxIoUAssigner',
                pos_iou_thr=0.5,
                neg_iou_thr=0.5,
                min_pos_iou=0.5,
                match_low_quality=False,
                ignore_iof_thr=0.5,
            ),
            sampler=dict(
                type='FewSyncRandomSampler',
                num=512,
                pos_fraction=0.25,
                neg_pos_ub=-1,
                add_gt_as_proposals=True,
            ),
            mask_size=28,
            pos_weight=-1,
            debug=False,
        ),
    ),
    test_cfg=dict(
        rpn=dict(
            nms_pre=1000,
            max_per_img=1000,
            nms=dict(type='nms', iou_threshold=0.7),
            min_bbox_size=0,
        ),
        rcnn=dict(
            score_thr=0.05,
            nms=dict(type='nms', iou_threshold=0.5),
            max_per_img=100,
            mask_thr_binary=0.5,
        ),
    ),
)
