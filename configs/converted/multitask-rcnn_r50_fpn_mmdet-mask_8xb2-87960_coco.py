# Command: bash tools/dist_train.sh CONFIG 8
# Cost: 87960 iterations of 16 images; time and memory not measured.
# Expected result: not measured.
#
# MMDetection's 1x schedule: 12 epochs, divided by 10 after 8 and 11, one size. Of
# 117266 images with annotations, 7330 iterations an epoch.
_base_ = './multitask-rcnn_r50_fpn_mmdet-mask_8xb2-90k_coco.py'

train_cfg = dict(max_iters=87960)
param_scheduler = _base_.param_scheduler
param_scheduler[0].end = 500
param_scheduler[1].update(end=87960, milestones=[58640, 80630])

train_pipeline = _base_.train_pipeline
train_pipeline[2].scales = [(1333, 800)]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
