# Runs torchvision's keypointrcnn_resnet50_fpn.
_base_ = './multitask-rcnn_r50_fpn_torchvision_8xb2-90k_coco.py'

model = dict(roi_head=dict(mask_head=None))
