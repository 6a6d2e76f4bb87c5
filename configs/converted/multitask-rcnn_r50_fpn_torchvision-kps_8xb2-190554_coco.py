# Command: bash tools/dist_train.sh CONFIG 8
# Cost: 190554 iterations of 16 images; time and memory not measured.
# Expected result: not measured.
#
# torchvision's reference schedule of Keypoint R-CNN: 46 epochs, divided by 10 after
# 36 and 43; as many iterations as the 26 epochs of its Mask R-CNN.
_base_ = './multitask-rcnn_r50_fpn_torchvision-kps_8xb2-90k_coco.py'

train_cfg = dict(max_iters=190554)
param_scheduler = _base_.param_scheduler
param_scheduler[1].update(end=190554, milestones=[149129, 178126])
