# Command: python tools/train.py CONFIG
# Cost: 6000 iterations of 16 images; time and memory not measured.
# Expected result: not measured.
#
# The predicted mask of a person modulates the feature of the keypoint head.
_base_ = './multitask-rcnn_r50_fpn-ms_rb-h_1xb16-6k_sample.py'

model = dict(roi_head=dict(mask_gate=dict(type='MaskGate', in_channels=256)))
