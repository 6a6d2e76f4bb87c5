# Command: python tools/test.py CONFIG CONVERTED, or bash tools/dist_train.sh CONFIG 8
# Cost: 90000 iterations of 16 images; time and memory not measured.
# Expected result: not measured.
#
# Runs torchvision's keypointrcnn_resnet50_fpn.
_base_ = './multitask-rcnn_r50_fpn_torchvision_8xb2-90k_coco.py'

model = dict(roi_head=dict(mask_head=None))
