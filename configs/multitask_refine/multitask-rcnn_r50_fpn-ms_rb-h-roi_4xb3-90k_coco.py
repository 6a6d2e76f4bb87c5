# Command: bash tools/dist_train.sh CONFIG 4
# Cost: 90000 iterations of 12 images; time and memory not measured.
# Expected result: not measured.
#
# Refinement in RoI pooling, too: every bin is moved by a predicted offset.
_base_ = './multitask-rcnn_r50_fpn-ms_rb-h_4xb3-90k_coco.py'

refined = dict(
    type='RegistryRoIExtractor',
    roi_layer=dict(type='DeformRoIPool', in_channels=256, sampling_ratio=2),
)
model = dict(roi_head=dict(bbox_roi_extractor=refined, instance_roi_extractor=refined))
