# Command: python tools/train.py CONFIG
# Cost: 500 iterations of 4 images; time in docs/offsets-experiment.md.
# Expected result: docs/offsets-experiment.md.
#
# The pretrained base trained further, without refinement. All refined variants
# inherit this training; see docs/offsets-experiment.md.
_base_ = [
    '../_base_/models/multitask-rcnn_r26-w24_fpn-ms_regular.py',
    '../_base_/datasets/sample-256_multitask.py',
    '../_base_/schedules/schedule_base-500.py',
    '../_base_/default_runtime.py',
]

train_dataloader = dict(batch_size=4)
# Four images are too few for batch statistics, and the base has better ones.
model = dict(norm_eval=True)
