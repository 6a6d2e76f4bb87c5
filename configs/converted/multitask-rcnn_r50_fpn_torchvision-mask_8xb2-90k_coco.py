# Command: python tools/test.py CONFIG CONVERTED, or bash tools/dist_train.sh CONFIG 8
# Cost: 90000 iterations of 16 images; time and memory not measured.
# Expected result: not measured.
#
# Runs torchvision's maskrcnn_resnet50_fpn: the 90 numbers of COCO's classes.
_base_ = './multitask-rcnn_r50_fpn_torchvision_8xb2-90k_coco.py'

model = dict(
    roi_head=dict(bbox_head=dict(type='PersonBBoxHead', num_other_classes=89), keypoint_head=None)
)

# torchvision's Mask R-CNN has one size, its Keypoint R-CNN six.
train_pipeline = _base_.train_pipeline
train_pipeline[3].scales = [(1333, 800)]
train_dataloader = dict(dataset=dict(filter_cfg=dict(min_keypoints=0), pipeline=train_pipeline))
