# The drawn sample of tools/quickstart.py: 256 pixels, other images than those
# of the pretrained base. The environment variable QUICKSTART_ROOT names another
# folder.
_base_ = './sample-256_multitask.py'

data_root = '{{$QUICKSTART_ROOT:data/quickstart}}/'

train_dataloader = dict(dataset=dict(data_root=data_root))
val_dataloader = dict(dataset=dict(data_root=data_root))
test_dataloader = val_dataloader

val_evaluator = dict(ann_file=data_root + 'annotations/person_keypoints_val2017.json')
test_evaluator = val_evaluator
