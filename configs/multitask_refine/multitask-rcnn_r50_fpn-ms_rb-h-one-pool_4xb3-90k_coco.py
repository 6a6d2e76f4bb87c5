# One 14x14 pooling for all three heads; the box head takes its averages.
_base_ = './multitask-rcnn_r50_fpn-ms_rb-h_4xb3-90k_coco.py'

model = dict(roi_head=dict(bbox_roi_extractor=None))
