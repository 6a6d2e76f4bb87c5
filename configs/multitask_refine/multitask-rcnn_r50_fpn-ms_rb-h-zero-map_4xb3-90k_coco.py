# Occluded joints get the zero map, as in the report's words.
_base_ = './multitask-rcnn_r50_fpn-ms_rb-h_4xb3-90k_coco.py'

model = dict(roi_head=dict(keypoint_head=dict(supervise_occluded=False)))
