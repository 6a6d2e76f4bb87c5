# The drawn sample of tools/dataset/make_sample.py: COCO's layout, small
# images, trained and tested at their own size.
_base_ = './coco_multitask.py'

data_root = 'data/sample/'

train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadMultitaskAnnotations'),
    dict(
        type='RandomResize',
        scale=(192, 192),
        ratio_range=(0.75, 1.0),
        keep_ratio=True),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PackMultitaskInputs')
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale=(192, 192), keep_ratio=True),
    dict(type='LoadMultitaskAnnotations'),
    dict(
        type='PackMultitaskInputs',
        meta_keys=('img_id', 'img_path', 'ori_shape', 'img_shape',
                   'scale_factor'))
]

train_dataloader = dict(
    batch_size=8,
    num_workers=1,
    dataset=dict(
        data_root=data_root,
        filter_cfg=dict(filter_empty_gt=False),
        pipeline=train_pipeline))
val_dataloader = dict(
    num_workers=1, dataset=dict(data_root=data_root, pipeline=test_pipeline))
test_dataloader = val_dataloader

val_evaluator = dict(
    ann_file=data_root + 'annotations/person_keypoints_val2017.json')
test_evaluator = val_evaluator
