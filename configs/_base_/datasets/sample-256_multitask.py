# A drawn sample of 256 pixels, where faces are large enough to have keypoints:
#     python tools/dataset/make_sample.py data/base --size 256 --seed 1000 \
#         --train 20000 --val 300
# The environment variable BASE_SAMPLE_ROOT names another folder.
_base_ = './sample_multitask.py'

data_root = '{{$BASE_SAMPLE_ROOT:data/base}}/'

train_pipeline = _base_.train_pipeline
train_pipeline[2].scale = (256, 256)
test_pipeline = _base_.test_pipeline
test_pipeline[1].scale = (256, 256)

train_dataloader = dict(dataset=dict(data_root=data_root, pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(data_root=data_root, pipeline=test_pipeline))
test_dataloader = val_dataloader

val_evaluator = dict(ann_file=data_root + 'annotations/person_keypoints_val2017.json')
test_evaluator = val_evaluator
