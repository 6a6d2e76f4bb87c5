# Command: bash tools/dist_train.sh CONFIG 4
# Cost: 90000 iterations of 12 images; time and memory not measured.
# Expected result: not measured.
_base_ = [
    '../_base_/models/multitask-rcnn_r50_fpn-ms_rb.py',
    '../_base_/datasets/coco_multitask.py',
    '../_base_/schedules/schedule_90k.py',
    '../_base_/default_runtime.py',
]
