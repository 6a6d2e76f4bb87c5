# Command: python tools/train.py CONFIG
# Cost: 900 iterations of 5 images; time in docs/development.md.
# Expected result: docs/results/overfit.json.
#
# Overfits ten images on a CPU: if the predicted boxes, masks and keypoints match the
# annotations, every coordinate conversion is correct.
_base_ = [
    '../_base_/models/multitask-rcnn_r26-w16_fpn-ms_rb-h.py',
    '../_base_/datasets/tiny_coco_multitask.py',
    '../_base_/schedules/schedule_1500.py',
    '../_base_/default_runtime.py',
]

max_iters = 900
train_cfg = dict(max_iters=max_iters, val_interval=max_iters)
param_scheduler = _base_.param_scheduler
param_scheduler[1].update(end=max_iters, T_max=max_iters - 50)

# Photos are large and show more people: more RoIs, more samples per bin.
roi_layer = dict(sampling_ratio=2)
model = dict(
    roi_head=dict(
        bbox_roi_extractor=dict(roi_layer=roi_layer),
        instance_roi_extractor=dict(roi_layer=roi_layer),
        keypoint_head=dict(codec=dict(heatmap_size=56)),
    ),
    train_cfg=dict(rcnn=dict(sampler=dict(num=32))),
)
