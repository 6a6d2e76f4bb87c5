# COCO as Detectron2 reads and resizes it: by Pillow, whose bilinear filter
# averages over all pixels that it shrinks.
_base_ = './coco_multitask.py'

load = dict(imdecode_backend='pillow')
train_pipeline = _base_.train_pipeline
train_pipeline[0].update(load)
# Polygons are resized, and rasterized in the RoIs.
train_pipeline[1].poly2mask = False
# Sizes are rounded after two steps: to the short side, then to the long one.
train_pipeline[2] = dict(
    type='RandomChoiceResize',
    scales=[640, 672, 704, 736, 768, 800],
    resize_type='ResizeShortestEdge',
    max_size=1333,
    backend='pillow',
)
test_pipeline = _base_.test_pipeline
test_pipeline[0].update(load)
test_pipeline[1] = dict(type='ResizeShortestEdge', scale=800, max_size=1333, backend='pillow')

# Small images stay. Configs with a keypoint head add min_keypoints=1.
train_dataloader = dict(
    batch_sampler=dict(boundaries=[1.0]),
    dataset=dict(filter_cfg=dict(min_size=0), pipeline=train_pipeline),
)
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader

val_evaluator = dict(keypoint_ranking='bbox')
test_evaluator = val_evaluator
