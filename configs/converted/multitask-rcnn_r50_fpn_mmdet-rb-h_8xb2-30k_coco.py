# Command: bash tools/dist_train.sh CONFIG 8 --cfg-options load_from=CONVERTED
# Cost: 30000 iterations of 16 images; time and memory not measured.
# Expected result: not measured.
#
# Adds a keypoint head and the refinements (RB+H and that of the heatmaps) to
# MMDetection's Mask R-CNN, converted, that load_from names, and trains it further.
_base_ = [
    '../_base_/models/multitask-rcnn_r50_fpn_mmdet.py',
    '../_base_/datasets/coco_multitask.py',
    '../_base_/schedules/schedule_finetune_30k.py',
    '../_base_/default_runtime.py',
]

refined = dict(type='RefinedConv2d')
model = dict(
    backbone=dict(dcn=refined, stage_with_dcn=(False, True, True, True)),
    roi_head=dict(
        keypoint_head=dict(
            _delete_=True,
            type='KeypointOffsetHead',
            num_keypoints=17,
            conv_cfg=refined,
            codec=dict(type='RoIHeatmapCodec', heatmap_size=56, sigma=1.0),
            loss_weight=0.05,
        )
    ),
)

train_dataloader = dict(batch_size=2)
