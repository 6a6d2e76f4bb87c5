# COCO's persons together with CrowdPose: 14 keypoints, 12 of them COCO's, and no
# masks. Three of four images are COCO's. Both are validated, each with a table
# and a best checkpoint of its own; a test is one of COCO. The environment
# variable CROWDPOSE_ROOT names another folder than data/crowdpose, with
# annotations/ and images/ as mmpose has them.
_base_ = './coco_multitask.py'

crowdpose_root = '{{$CROWDPOSE_ROOT:data/crowdpose}}/'
crowdpose = dict(
    type='CocoMultitaskDataset',
    data_root=crowdpose_root,
    data_prefix=dict(img='images/'),
    keypoints_from='crowdpose.py',
)
coco_train = _base_.train_dataloader.dataset
coco_val = _base_.val_dataloader.dataset
val_file = 'annotations/mmpose_crowdpose_val.json'

train_dataloader = dict(
    sampler=dict(_delete_=True, type='MultiSourceInfiniteSampler', weights=[3, 1]),
    dataset=dict(
        _delete_=True,
        type='ConcatDataset',
        datasets=[
            coco_train,
            dict(
                crowdpose,
                ann_file='annotations/mmpose_crowdpose_train.json',
                filter_cfg=dict(filter_empty_gt=True, min_size=32),
                pipeline=_base_.train_pipeline,
            ),
        ],
    ),
)
val_dataloader = dict(
    dataset=dict(
        _delete_=True,
        type='ConcatDataset',
        datasets=[
            coco_val,
            dict(crowdpose, ann_file=val_file, test_mode=True, pipeline=_base_.test_pipeline),
        ],
    )
)
val_evaluator = dict(
    _delete_=True,
    type='MultiDatasetsEvaluator',
    dataset_prefixes=['coco', 'crowdpose'],
    metrics=[
        _base_.val_evaluator,
        dict(
            type='MultitaskCocoMetric',
            ann_file=crowdpose_root + val_file,
            keypoints_from='crowdpose.py',
            tasks=['bbox', 'keypoints'],
        ),
    ],
)
