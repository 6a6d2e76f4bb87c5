# The regular network with half the layers and a quarter of the width, trained
# from random weights: for small data and the CPU.
_base_ = './multitask-rcnn_r50_fpn-ms_regular.py'

norm_cfg = dict(type='BN')
model = dict(
    backbone=dict(
        _delete_=True,
        type='ResNet26',
        out_indices=(1, 2, 3),
        stem_channels=16,
        base_channels=16,
        norm_cfg=norm_cfg,
        norm_eval=False,
        style='caffe',
    ),
    neck=dict(in_channels=[128, 256, 512], out_channels=64, norm_cfg=norm_cfg),
    rpn_head=dict(in_channels=64, feat_channels=64),
    roi_head=dict(
        # One sample a bin is enough for small images.
        bbox_roi_extractor=dict(roi_layer=dict(sampling_ratio=1), out_channels=64),
        instance_roi_extractor=dict(roi_layer=dict(sampling_ratio=1), out_channels=64),
        bbox_head=dict(in_channels=64, fc_out_channels=256),
        mask_head=dict(num_convs=2, in_channels=64, conv_out_channels=64, norm_cfg=norm_cfg),
        keypoint_head=dict(
            num_convs=3,
            in_channels=64,
            conv_channels=64,
            norm_cfg=norm_cfg,
            # Wider peaks are learned sooner.
            codec=dict(heatmap_size=28, sigma=2.0),
            loss_weight=0.06,
        ),
    ),
    train_cfg=dict(
        rpn=dict(sampler=dict(num=64)),
        rpn_proposal=dict(nms_pre=100, max_per_img=50),
        rcnn=dict(sampler=dict(num=12, pos_fraction=0.34)),
    ),
    test_cfg=dict(rpn=dict(nms_pre=100, max_per_img=50)),
)
