# Command: python tools/test.py CONFIG CONVERTED, or bash tools/dist_train.sh CONFIG 8
# Cost: 90000 iterations of 16 images; time and memory not measured.
# Expected result: not measured.
#
# Runs Detectron2's Faster R-CNN (COCO-Detection of its model zoo).
_base_ = [
    '../_base_/models/multitask-rcnn_r50_fpn_detectron2-80.py',
    '../_base_/datasets/coco_multitask_detectron2.py',
    '../_base_/schedules/schedule_90k_detectron2.py',
    '../_base_/default_runtime.py',
]

model = dict(roi_head=dict(mask_head=None))
train_dataloader = dict(batch_size=2)
