# test-dev2017, whose ground truth only COCO's server has: the zip files for it
# are written instead of an evaluation.
ann_file = 'annotations/image_info_test-dev2017.json'

testdev_dataset = dict(ann_file=ann_file, data_prefix=dict(img='test2017/'))
testdev_evaluator = dict(ann_file='{{$COCO_ROOT:data/coco}}/' + ann_file, format_only=True)
