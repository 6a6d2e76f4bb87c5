# Command: python tools/test.py CONFIG CONVERTED, or bash tools/dist_train.sh CONFIG 8
# Cost: 90000 iterations of 16 images; time and memory not measured.
# Expected result: not measured.
#
# Runs Detectron2's Mask R-CNN with deformable convolutions in conv3 to conv5
# (mask_rcnn_R_50_FPN_3x_dconv_c3-c5 of its model zoo): the report's RB.
_base_ = [
    '../_base_/models/multitask-rcnn_r50_fpn_detectron2-80.py',
    '../_base_/datasets/coco_multitask_detectron2.py',
    '../_base_/schedules/schedule_90k_detectron2.py',
    '../_base_/default_runtime.py',
]

model = dict(
    backbone=dict(dcn=dict(type='RefinedConv2d'), stage_with_dcn=(False, True, True, True))
)
train_dataloader = dict(batch_size=2)
