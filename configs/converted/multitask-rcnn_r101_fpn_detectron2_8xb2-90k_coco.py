# Command: python tools/test.py CONFIG CONVERTED, or bash tools/dist_train.sh CONFIG 8
# Cost: 90000 iterations of 16 images; time and memory not measured.
# Expected result: not measured.
_base_ = './multitask-rcnn_r50_fpn_detectron2_8xb2-90k_coco.py'

model = dict(
    backbone=dict(depth=101, init_cfg=dict(checkpoint='open-mmlab://detectron2/resnet101_caffe'))
)
