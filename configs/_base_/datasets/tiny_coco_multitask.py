# Ten images of COCO's train2017 from a small excerpt in COCO's layout, for
# overfitting: trained on and tested on. The excerpt is the folder that the
# environment variable TINY_COCO_ROOT names.
_base_ = './coco_multitask.py'

data_root = '{{$TINY_COCO_ROOT:data/tiny_coco}}/'
ann_file = 'annotations/person_keypoints_train2017.json'

train_pipeline = _base_.train_pipeline
train_pipeline[2] = dict(type='Resize', scale=(512, 384), keep_ratio=True)
test_pipeline = _base_.test_pipeline
test_pipeline[1].scale = (512, 384)

# The first ten images with people and without a crowd.
indices = [0, 1, 3, 4, 5, 6, 8, 9, 13, 16]

train_dataloader = dict(
    batch_size=5,
    num_workers=0,
    dataset=dict(
        data_root=data_root,
        indices=indices,
        filter_cfg=dict(filter_empty_gt=False),
        pipeline=train_pipeline,
    ),
)
val_dataloader = dict(
    num_workers=0,
    dataset=dict(
        data_root=data_root,
        ann_file=ann_file,
        data_prefix=dict(img='train2017/'),
        indices=indices,
        pipeline=test_pipeline,
    ),
)
test_dataloader = val_dataloader

val_evaluator = dict(ann_file=data_root + ann_file)
test_evaluator = val_evaluator
