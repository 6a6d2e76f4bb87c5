# The drawn sample of tools/dataset/make_sample.py: COCO's layout, small
# images, trained and tested at their own size. The environment variable
# SAMPLE_ROOT names another folder than data/sample.
_base_ = './coco_multitask.py'

data_root = '{{$SAMPLE_ROOT:data/sample}}/'

train_pipeline = _base_.train_pipeline
train_pipeline[2] = dict(
    type='RandomResize', scale=(192, 192), ratio_range=(0.75, 1.0), keep_ratio=True
)
test_pipeline = _base_.test_pipeline
test_pipeline[1].scale = (192, 192)

train_dataloader = dict(
    batch_size=8,
    # Loading takes little; a worker would take a core from the training.
    num_workers=0,
    dataset=dict(
        data_root=data_root, filter_cfg=dict(filter_empty_gt=False), pipeline=train_pipeline
    ),
)
val_dataloader = dict(num_workers=0, dataset=dict(data_root=data_root, pipeline=test_pipeline))
test_dataloader = val_dataloader

val_evaluator = dict(ann_file=data_root + 'annotations/person_keypoints_val2017.json')
test_evaluator = val_evaluator
