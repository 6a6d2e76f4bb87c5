# COCO as torchvision's detection models and its reference scripts for their
# training read, flip and resize it: in float, sizes rounded down, keypoints as in
# the annotation file.
_base_ = './coco_multitask.py'

load = dict(imdecode_backend='pillow')
train_pipeline = _base_.train_pipeline
train_pipeline[0].update(load)
train_pipeline[2].resize_type = 'FloatResize'
train_pipeline[2].pop('keep_ratio')
train_pipeline[2], train_pipeline[3] = train_pipeline[3], train_pipeline[2]
test_pipeline = _base_.test_pipeline
test_pipeline[0].update(load)
test_pipeline[1] = dict(type='FloatResize', scale=(1333, 800))

# Small images stay. Configs with a keypoint head add min_keypoints=10.
train_dataloader = dict(
    batch_sampler=dict(boundaries=[2 ** (i / 3) for i in range(-3, 4)]),
    dataset=dict(filter_cfg=dict(min_size=0), keypoint_shift=0.0, pipeline=train_pipeline),
)
val_dataloader = dict(dataset=dict(keypoint_shift=0.0, pipeline=test_pipeline))
test_dataloader = val_dataloader

val_evaluator = dict(keypoint_ranking='bbox', keypoint_shift=0.0)
test_evaluator = val_evaluator
