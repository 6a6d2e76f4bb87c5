# Command: python tools/train.py CONFIG
# Cost: 90000 iterations of 3 images; time and memory not measured.
# Expected result: not measured.
#
# One GPU (Table 7) with the 3 images that each of the 4 GPUs has, and a quarter
# of the learning rate: 0.0075 for 3 images, as 0.03 for 12.
_base_ = './multitask-rcnn_r50_fpn-ms_regular_4xb3-90k_coco.py'

optim_wrapper = dict(optimizer=dict(lr=0.0075))
auto_scale_lr = dict(base_batch_size=3)
