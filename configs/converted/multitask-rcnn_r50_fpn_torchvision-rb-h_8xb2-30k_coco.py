# Command: bash tools/dist_train.sh CONFIG 8 --cfg-options load_from=CONVERTED
# Cost: 30000 iterations of 16 images; time and memory not measured.
# Expected result: not measured.
#
# Adds the refinements (RB+H and that of the heatmaps) to the converted network
# that load_from names, and trains it further. They start as the identity.
_base_ = [
    '../_base_/models/multitask-rcnn_r50_fpn_torchvision.py',
    '../_base_/datasets/coco_multitask_torchvision.py',
    '../_base_/schedules/schedule_finetune_30k.py',
    '../_base_/default_runtime.py',
]

refined = dict(type='RefinedConv2d')
model = dict(
    backbone=dict(dcn=refined, stage_with_dcn=(False, True, True, True)),
    roi_head=dict(keypoint_head=dict(refine=True, conv_cfg=refined)),
)

train_dataloader = dict(batch_size=2, dataset=dict(filter_cfg=dict(min_keypoints=10)))
