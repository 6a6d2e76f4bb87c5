# Keypoints only: the full model without the segmentation head (Table 6).
_base_ = './multitask-rcnn_r50_fpn-ms_rb-h_4xb3-90k_coco.py'

model = dict(roi_head=dict(mask_head=None))
