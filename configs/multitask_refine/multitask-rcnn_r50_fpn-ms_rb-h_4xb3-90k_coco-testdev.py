# Command: python tools/test.py CONFIG CHECKPOINT
# Cost: 90000 iterations of 12 images; time and memory not measured.
# Expected result: not measured.
#
# Writes the files of test-dev2017 for COCO's server (Tables 1 and 2).
_base_ = [
    './multitask-rcnn_r50_fpn-ms_rb-h_4xb3-90k_coco.py',
    '../_base_/datasets/coco-testdev.py',
]

test_dataloader = dict(dataset=_base_.testdev_dataset)
test_evaluator = dict(
    **_base_.testdev_evaluator,
    outfile_prefix='work_dirs/coco-testdev/multitask-rcnn-r50-fpn-ms-rb-h',
)
