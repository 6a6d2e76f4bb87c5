# Overfits ten photos on a CPU: if boxes, masks and joints come back where the
# annotations have them, every coordinate on the way is right.
_base_ = [
    '../_base_/models/multitask-rcnn_r50_fpn-ms_rb-h.py',
    '../_base_/datasets/tiny_coco_multitask.py',
    '../_base_/schedules/schedule_1k.py', '../_base_/default_runtime.py'
]

max_iters = 600
train_cfg = dict(max_iters=max_iters, val_interval=max_iters)
param_scheduler = _base_.param_scheduler
param_scheduler[1].update(end=max_iters, T_max=max_iters - 50)

norm_cfg = dict(type='BN')
model = dict(
    backbone=dict(
        _delete_=True,
        type='ResNet26',
        out_indices=(1, 2, 3),
        stem_channels=32,
        base_channels=32,
        norm_cfg=norm_cfg,
        norm_eval=False,
        style='caffe',
        dcn=dict(type='RefinedConv2d'),
        stage_with_dcn=(False, True, True, True)),
    neck=dict(in_channels=[256, 512, 1024], out_channels=96, norm_cfg=norm_cfg),
    rpn_head=dict(in_channels=96, feat_channels=96),
    roi_head=dict(
        bbox_roi_extractor=dict(
            type='RegistryRoIExtractor',
            roi_layer=dict(type='SampledRoIAlign', sampling_ratio=2),
            out_channels=96),
        instance_roi_extractor=dict(
            type='RegistryRoIExtractor',
            roi_layer=dict(type='SampledRoIAlign', sampling_ratio=2),
            out_channels=96),
        bbox_head=dict(in_channels=96, fc_out_channels=256),
        mask_head=dict(
            num_convs=2,
            in_channels=96,
            conv_out_channels=96,
            norm_cfg=norm_cfg),
        keypoint_head=dict(
            num_convs=4,
            in_channels=96,
            conv_channels=96,
            norm_cfg=norm_cfg,
            # Wider peaks are found sooner.
            codec=dict(sigma=2.0),
            loss_weight=0.04)),
    train_cfg=dict(
        rpn_proposal=dict(nms_pre=500, max_per_img=200),
        rcnn=dict(sampler=dict(num=32))),
    test_cfg=dict(rpn=dict(nms_pre=500, max_per_img=200)))
