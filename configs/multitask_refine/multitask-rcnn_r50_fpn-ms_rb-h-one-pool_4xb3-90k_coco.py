# Command: bash tools/dist_train.sh CONFIG 4
# Cost: 90000 iterations of 12 images; time and memory not measured.
# Expected result: not measured.
#
# One 14x14 pooling for all three heads; the box head gets its 2x2 averages.
_base_ = './multitask-rcnn_r50_fpn-ms_rb-h_4xb3-90k_coco.py'

model = dict(roi_head=dict(bbox_roi_extractor=None))
