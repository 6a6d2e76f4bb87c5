# A larger drawn sample for one GPU: more and larger images.
#   python tools/dataset/make_sample.py data/sample-large --size 384 --train 4000 --val 500
_base_ = './sample_multitask.py'

data_root = '{{$SAMPLE_ROOT:data/sample-large}}/'
ann_file = data_root + 'annotations/person_keypoints_val2017.json'

train_pipeline = _base_.train_pipeline
train_pipeline[2].scale = (384, 384)
test_pipeline = _base_.test_pipeline
test_pipeline[1].scale = (384, 384)

train_dataloader = dict(
    batch_size=16, dataset=dict(data_root=data_root, pipeline=train_pipeline), num_workers=4
)
val_dataloader = dict(dataset=dict(data_root=data_root, pipeline=test_pipeline), num_workers=4)
test_dataloader = val_dataloader

val_evaluator = dict(ann_file=ann_file)
test_evaluator = val_evaluator
