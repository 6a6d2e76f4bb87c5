# K channels instead of 3K: the heatmaps are not refined.
_base_ = './multitask-rcnn_r50_fpn-ms_rb-h_4xb3-90k_coco.py'

model = dict(roi_head=dict(keypoint_head=dict(refine=False)))
