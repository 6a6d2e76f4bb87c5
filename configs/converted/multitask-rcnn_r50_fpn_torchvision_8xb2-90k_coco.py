# Command: python tools/test.py CONFIG CONVERTED, or bash tools/dist_train.sh CONFIG 8
# Cost: 90000 iterations of 16 images; time and memory not measured.
# Expected result: not measured.
#
# Runs torchvision's weights with all three heads, one class.
_base_ = [
    '../_base_/models/multitask-rcnn_r50_fpn_torchvision.py',
    '../_base_/datasets/coco_multitask_torchvision.py',
    '../_base_/schedules/schedule_90k_detectron2.py',
    '../_base_/default_runtime.py',
]

train_dataloader = dict(batch_size=2, dataset=dict(filter_cfg=dict(min_keypoints=10)))
