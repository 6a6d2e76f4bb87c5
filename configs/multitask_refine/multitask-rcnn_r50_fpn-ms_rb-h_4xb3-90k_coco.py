_base_ = [
    '../_base_/models/multitask-rcnn_r50_fpn-ms_rb-h.py',
    '../_base_/datasets/coco_multitask.py',
    '../_base_/schedules/schedule_90k.py',
    '../_base_/default_runtime.py',
]
