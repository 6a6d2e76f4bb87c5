# Command: python tools/test.py CONFIG CONVERTED, or bash tools/dist_train.sh CONFIG 8
# Cost: 90000 iterations of 16 images; time and memory not measured.
# Expected result: not measured.
#
# Runs MMDetection's Mask R-CNN: boxes and masks, COCO's 80 classes.
_base_ = [
    '../_base_/models/multitask-rcnn_r50_fpn_mmdet.py',
    '../_base_/datasets/coco_multitask.py',
    '../_base_/schedules/schedule_90k_detectron2.py',
    '../_base_/default_runtime.py',
]

train_dataloader = dict(batch_size=2)
