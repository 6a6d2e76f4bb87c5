# Command: bash tools/dist_train.sh CONFIG 4
# Cost: 90000 iterations of 12 images; time and memory not measured.
# Expected result: not measured.
#
# Version 2 of the deformable convolutions: samples are weighted, too.
_base_ = './multitask-rcnn_r50_fpn-ms_rb-h_4xb3-90k_coco.py'

refined = dict(modulated=True)
model = dict(backbone=dict(dcn=refined), roi_head=dict(keypoint_head=dict(conv_cfg=refined)))
