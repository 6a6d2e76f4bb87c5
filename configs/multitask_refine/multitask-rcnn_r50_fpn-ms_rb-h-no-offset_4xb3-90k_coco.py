# Command: bash tools/dist_train.sh CONFIG 4
# Cost: 90000 iterations of 12 images; time and memory not measured.
# Expected result: not measured.
#
# K channels instead of 3K: the heatmaps are not refined.
_base_ = './multitask-rcnn_r50_fpn-ms_rb-h_4xb3-90k_coco.py'

model = dict(roi_head=dict(keypoint_head=dict(refine=False)))
