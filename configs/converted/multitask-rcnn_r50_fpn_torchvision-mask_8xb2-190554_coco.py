# Command: bash tools/dist_train.sh CONFIG 8
# Cost: 190554 iterations of 16 images; time and memory not measured.
# Expected result: not measured.
#
# torchvision's reference schedule of Mask R-CNN: 26 epochs, divided by 10 after 16
# and 22. Of 117266 images with annotations, 7329 iterations an epoch.
_base_ = './multitask-rcnn_r50_fpn_torchvision-mask_8xb2-90k_coco.py'

train_cfg = dict(max_iters=190554)
param_scheduler = _base_.param_scheduler
param_scheduler[1].update(end=190554, milestones=[117264, 161238])
