"""Annotation files of other tools: ids, units, encodings, filtered annotations."""

import copy
import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pycocotools import mask as coco_mask

from multitask_refine.analysis import find_keypoint_errors
from multitask_refine.datasets import (
    AnnotationError,
    CocoMultitaskDataset,
    read_annotations,
    repair,
)
from multitask_refine.datasets.validation import summary
from multitask_refine.evaluation import CocoData, MultitaskCocoMetric, load_ground_truth
from multitask_refine.utils.errors import ConfigError
from tools.dataset import check_coco

PERFECT = ('bbox_AP', 'segm_AP', 'keypoints_AP')


def _content(count=1):
    """Images of 100 x 100 pixels, each with a person of 40 x 60."""
    person = dict(
        image_id=1,
        category_id=1,
        iscrowd=0,
        bbox=[10, 10, 40, 60],
        area=2400,
        segmentation=[[10, 10, 50, 10, 50, 70, 10, 70]],
        keypoints=[12, 13, 2] * 17,
        num_keypoints=17,
    )
    return dict(
        images=[
            dict(id=i, file_name=f'{i}.png', width=100, height=100) for i in range(1, count + 1)
        ],
        annotations=[dict(person, id=i, image_id=i) for i in range(1, count + 1)],
        categories=[dict(id=1, name='person')],
    )


def _write(folder, content):
    path = folder / 'in.json'
    path.write_text(json.dumps(content))
    for image in content['images']:
        (folder / str(image['file_name'])).touch()
    return str(path)


def _dataset(path, **kwargs):
    return CocoMultitaskDataset(
        ann_file=path, data_prefix=dict(img=path.rsplit('/', 1)[0]), **kwargs
    )


@pytest.fixture
def log(monkeypatch):
    """Collect what the data set logs."""
    lines = []
    logger = SimpleNamespace(warning=lines.append, info=lines.append)
    monkeypatch.setattr(summary, 'MMLogger', SimpleNamespace(get_current_instance=lambda: logger))
    return lines


def _score(path, image_ids=(1,)):
    """Evaluate the annotated instance as a prediction."""
    masks = torch.zeros(1, 100, 100, dtype=torch.bool)
    masks[0, 10:70, 10:50] = True
    metric = MultitaskCocoMetric(path)
    metric.dataset_meta = dict(classes=('person',), sigmas=[0.05] * 17)
    for image_id in image_ids:
        metric.process(
            {},
            [
                dict(
                    img_id=image_id,
                    pred_instances=dict(
                        bboxes=torch.tensor([[10.0, 10.0, 50.0, 70.0]]),
                        scores=torch.tensor([0.9]),
                        labels=torch.tensor([0]),
                        masks=masks,
                        keypoint_scores=torch.ones(1, 17),
                        keypoints=torch.tensor([[[12.5, 13.5]] * 17]),
                    ),
                )
            ],
        )
    return metric.evaluate(len(image_ids))


# ---- ids


@pytest.mark.parametrize('ids', [(0,), (5, 0), (7, 7), (2**53, 2**53 + 1), ('0', '1'), (2**70, 3)])
def test_perfect_prediction_has_ap_100_for_any_ids(ids, tmp_path):
    content = _content(len(ids))
    for ann, found in zip(content['annotations'], ids, strict=False):
        ann['id'] = found
    path = _write(tmp_path, content)
    metrics = _score(path, [image['id'] for image in content['images']])
    assert [metrics[f'coco/{name}'] for name in PERFECT] == [100] * 3


def test_error_analysis_matches_the_instance_with_id_0(tmp_path):
    content = _content()
    ann = content['annotations'][0]
    ann['id'] = 0
    entry = dict(image_id=1, category_id=1, score=0.9, keypoints=ann['keypoints'])
    errors = find_keypoint_errors(
        CocoData(
            load_ground_truth(_write(tmp_path, content), 17),
            dict(keypoints=[entry]),
            [0.05] * 17,
            [1],
            [1],
        ),
        range(17),
    )
    assert (errors.people, errors.matched) == (1, 1)
    assert errors.counts.sum() == errors.counts[:, 1, 0].sum() == 17  # good


def test_evaluation_keeps_valid_ids(tmp_path):
    content = _content(2)
    content['annotations'][0]['id'] = 900100123456
    truth = load_ground_truth(_write(tmp_path, content), 17)
    assert list(truth.anns) == [900100123456, 2]
    content['annotations'][1]['id'] = 0
    truth = load_ground_truth(_write(tmp_path, content), 17)
    assert list(truth.anns) == [1, 2]


def test_id_0_is_an_issue_but_not_fatal(tmp_path, capsys, log):
    content = _content()
    content['annotations'][0]['id'] = 0
    path = _write(tmp_path, content)
    assert check_coco.main([path]) == 1
    assert 'annotation_id_0: 1\n' in capsys.readouterr().out
    assert len(_dataset(path, test_mode=True)) == 1
    assert 'annotation_id_0' in log[0]


@pytest.mark.parametrize('value', ['000001', ' 1.0 ', 1.0])
def test_integers_of_any_json_type(value, tmp_path):
    content = _content()
    content['images'][0].update(id=value, width='100', height=100.0)
    content['annotations'][0].update(image_id=value, category_id='1')
    path = _write(tmp_path, content)
    for test_mode in (False, True):
        info = _dataset(path, test_mode=test_mode).get_data_info(0)
        assert (info['img_id'], info['width'], info['height']) == (1, 100, 100)
        assert info['instances'][0]['bbox'] == [10, 10, 50, 70]
    metrics = _score(path)
    assert [metrics[f'coco/{name}'] for name in PERFECT] == [100] * 3
    fixed = tmp_path / 'out.json'
    assert check_coco.main([path, '--fix', str(fixed)]) == 1
    assert json.loads(fixed.read_text()) == _content()


def test_string_ids_are_renumbered_with_their_annotations(tmp_path):
    """'01' and '1' are two images, not one."""
    content = _content(3)
    for index, found in enumerate(('01', '1', 'c.png')):
        content['images'][index]['id'] = found
        content['annotations'][index]['image_id'] = found
    fixed = tmp_path / 'out.json'
    check_coco.main([_write(tmp_path, content), '--fix', str(fixed)])
    assert json.loads(fixed.read_text()) == _content(3)


def test_categories_of_the_same_name_are_merged(tmp_path):
    content = _content(2)
    content['categories'].append(dict(id=7, name='person'))
    content['annotations'][1]['category_id'] = 7
    repaired, issues = repair(content)
    assert repaired == _content(2)
    assert [each.rule for each in issues] == ['category_name']


def test_null_is_unlabeled(tmp_path):
    content = _content(2)
    content['annotations'][0].update(keypoints=None, num_keypoints=None)
    path = _write(tmp_path, content)
    keypoints = _dataset(path).get_data_info(0)['instances'][0]['keypoints']
    assert keypoints[:, 2].tolist() == [0] * 17
    assert load_ground_truth(path, 17).anns[1]['num_keypoints'] == 0


# ---- units


def _normalized(content):
    content = copy.deepcopy(content)
    for ann in content['annotations']:
        for field in ('bbox', 'keypoints'):
            ann[field] = [value / 100 for value in ann[field]]
        ann['keypoints'][2::3] = [2] * 17
        ann['segmentation'] = [[v / 100 for v in ann['segmentation'][0]]]
        ann['area'] /= 1e4
    return content


def _with_corners(content):
    content = copy.deepcopy(content)
    for ann in content['annotations']:
        x, y, width, height = ann['bbox']
        ann['bbox'] = [x, y, x + width, y + height]
    return content


def _people(boxes, **fields):
    """A person for each of some boxes, each in an image of its own."""
    content = _content(len(boxes))
    for ann, box in zip(content['annotations'], boxes, strict=False):
        x, y, width, height = box
        ann.update(
            bbox=list(box),
            area=width * height,
            segmentation=[[x, y, x + width, y, x + width, y + height, x, y + height]],
            keypoints=[x + 2, y + 3, 2] * 17,
        )
        for field, value in fields.items():
            if value is None:
                del ann[field]
            else:
                ann[field] = value
    return content


NO_LABELS = dict(segmentation=None, keypoints=None, num_keypoints=None)
CORNERS = [
    ([[10, 10, 40, 60]], {}),  # by the mask alone
    ([[40, 30, 50, 60]] * 3, dict(segmentation=None)),  # by keypoints
    ([[40, 30, 50, 60]] * 3, NO_LABELS),  # by how far they would reach
    ([[40, 30, 50, 60]] * 2 + [[2, 2, 30, 30]] * 5 + [[60, 60, 30, 30]] * 4, NO_LABELS),
]


@pytest.mark.parametrize('written', [_normalized, _with_corners])
def test_other_units_raise_and_are_converted(written, tmp_path, capsys):
    boxes = [[10, 10, 40, 60], [50, 40, 50, 50], [0, 0, 100, 100]]
    content = _people(boxes)
    path = _write(tmp_path, written(content))
    rule = 'normalized' if written is _normalized else 'corners'
    for test_mode in (False, True):
        with pytest.raises(AnnotationError, match='check_coco') as error:
            _dataset(path, test_mode=test_mode)
        assert path in str(error.value) and rule in str(error.value)
        assert 'found 1:' in str(error.value)
    fixed = tmp_path / 'out.json'
    assert check_coco.main([path, '--fix', str(fixed)]) == 1
    assert f'{rule}: 1\n' in capsys.readouterr().out
    for ann, box in zip(json.loads(fixed.read_text())['annotations'], boxes, strict=False):
        assert ann['bbox'] == pytest.approx(box)
        assert ann['area'] == pytest.approx(box[2] * box[3])
        assert ann['keypoints'][:3] == pytest.approx([box[0] + 2, box[1] + 3, 2])
        assert max(ann['segmentation'][0]) == pytest.approx(max(box[0] + box[2], box[1] + box[3]))
    assert check_coco.main([str(fixed)]) == 0


def test_normalized_corners():
    content = _people([[10, 10, 40, 60], [50, 40, 50, 50]])
    repaired, issues = repair(_normalized(_with_corners(content)))
    assert [each.rule for each in issues] == ['normalized', 'corners']
    assert np.allclose(
        [ann['bbox'] for ann in repaired['annotations']], [[10, 10, 40, 60], [50, 40, 50, 50]]
    )


@pytest.mark.parametrize('boxes, fields', CORNERS)
def test_corners_are_detected(boxes, fields):
    content = _people(boxes, **fields)
    repaired, issues = repair(_with_corners(content))
    assert issues[0].rule == 'corners'
    assert [ann['bbox'] for ann in repaired['annotations']] == boxes


@pytest.mark.parametrize(
    'boxes, fields',
    CORNERS
    + [
        # As corners they would be valid, too.
        ([[10, 10, 40, 60]] * 9, NO_LABELS),
        ([[0, 0, 100, 100]] * 9, {}),
        # Two of many reach out of the image, and one is a whole pixel.
        ([[10, 10, 95, 60]] * 2 + [[10, 10, 40, 60]] * 9, NO_LABELS),
        ([[0, 0, 1, 1]] * 5, NO_LABELS),
        ([[0.2, 0.2, 40, 60]] * 5, {}),
    ],
)
def test_valid_boxes_are_not_detected_as_corners(boxes, fields):
    issues = repair(_people(boxes, **fields))[1]
    assert not {each.rule for each in issues} & {'corners', 'normalized'}


def test_mask_of_the_visible_part_does_not_vote_for_corners():
    """The visible part of 20 x 40 pixels lies in both readings."""
    content = _content()
    content['annotations'][0].update(segmentation=[[10, 10, 30, 10, 30, 50, 10, 50]], area=800)
    assert repair(content)[1] == []


def test_rle_votes_for_corners():
    mask = np.zeros((100, 100), np.uint8, order='F')
    mask[10:70, 10:50] = 1
    rle = coco_mask.encode(mask)
    content = _with_corners(_content())
    content['annotations'][0]['segmentation'] = dict(
        size=[100, 100], counts=rle['counts'].decode()
    )
    assert [each.rule for each in repair(content)[1]] == ['corners']


@pytest.mark.parametrize('kind', ['person_keypoints', 'instances'])
def test_coco_annotations_as_corners(kind, tiny_coco):
    """Real boxes: 99 % as they are, all of them once written as corners."""
    content = read_annotations(str(tiny_coco / f'annotations/{kind}_train2017.json'))
    repaired, issues = repair(_with_corners(content))
    assert 'corners' in [each.rule for each in issues]
    assert np.allclose(
        [ann['bbox'] for ann in repaired['annotations']],
        [ann['bbox'] for ann in content['annotations']],
    )


# ---- what is left out


@pytest.fixture(scope='module')
def dataset(tmp_path_factory):
    return _dataset(_write(tmp_path_factory.mktemp('one'), _content()))


@given(
    st.lists(
        st.tuples(*[st.sampled_from([-3, 0, 0.4, 0.999, 1, 2, 50, 99, 99.5, 100, 101])] * 4),
        min_size=1,
        max_size=4,
    ),
    st.sampled_from([{}, dict(ignore=1), dict(area=0)]),
)
def test_every_annotation_is_used_or_an_issue(dataset, boxes, fields):
    """mmdet drops no annotation that passes the rules."""
    content = _content()
    person = content['annotations'][0]
    person.update(segmentation=[], keypoints=[0] * 51, num_keypoints=0)
    content['annotations'] = [
        {**person, **fields, 'id': i, 'bbox': list(box)} for i, box in enumerate(boxes, 1)
    ]
    repaired, issues = repair(content)
    image = dict(repaired['images'][0], img_id=1)
    used = dataset.parse_data_info(dict(raw_img_info=image, raw_ann_info=repaired['annotations']))
    assert len(used['instances']) == len(repaired['annotations'])
    removed = {each.annotation_id for each in issues if each.fix == 'annotation removed'}
    assert len(repaired['annotations']) + len(removed) == len(boxes)


def test_narrow_box_is_left_out_and_logged(tmp_path, log):
    content = _people([[10, 10, 40, 60], [30, 30, 0.8, 20]])
    path = _write(tmp_path, content)
    assert [len(_dataset(path).get_data_info(i)['instances']) for i in (0, 1)] == [1, 0]
    assert 'box_small' in log[-1] and 'annotation 2 of image 2' in log[-1]
    # An evaluation takes it.
    assert len(_dataset(path, test_mode=True)) == 2


def test_filtered_images_are_counted(tmp_path, log):
    content = _content(4)
    content['images'][0]['width'] = 31
    content['annotations'] = content['annotations'][1:3]
    dataset = _dataset(
        _write(tmp_path, content), filter_cfg=dict(filter_empty_gt=True, min_size=32)
    )
    assert len(dataset) == 2
    assert '2 of 4 images are not used: 1 have a side below 32' in log[0]
    assert '1 have no annotation' in log[0]


def test_min_keypoints(tmp_path, log):
    """By hand: 17, 0 (unlabeled), 0 (none given) and 1 + 1 keypoints, and an
    image without anybody."""
    content = _content(5)
    people = content['annotations']
    people[1].update(keypoints=[0, 0, 0] * 17, num_keypoints=0)
    people[2].pop('keypoints')
    people[2].pop('num_keypoints')
    people[3].update(keypoints=[12, 13, 1] + [0, 0, 0] * 16, num_keypoints=1)
    people[4].update(people[3], id=5)  # a second person in image 4
    path = _write(tmp_path, content)

    def used(**filter_cfg):
        dataset = _dataset(path, filter_cfg=filter_cfg)
        return [dataset.get_data_info(i)['img_id'] for i in range(len(dataset))]

    assert used(filter_empty_gt=True) == [1, 2, 3, 4]
    del log[:]
    assert used(filter_empty_gt=True, min_keypoints=1) == [1, 4]
    assert any(
        '1 have no annotation' in line and '2 have fewer labeled keypoints than 1' in line
        for line in log
    )
    assert used(min_keypoints=2) == [1, 4]
    assert used(min_keypoints=3) == [1]
    assert len(_dataset(path, test_mode=True, filter_cfg=dict(min_keypoints=3))) == 5
    for wrong in (-1, 'one', True):
        with pytest.raises(ConfigError, match='min_keypoints.*expected'):
            used(min_keypoints=wrong)
    with pytest.raises(AnnotationError, match='5 have fewer labeled'):
        used(min_keypoints=18)


def test_empty_data_sets_raise(tmp_path, log):
    content = _content(2)
    content['annotations'] = []
    path = _write(tmp_path, content)
    with pytest.raises(AnnotationError, match='none of 2: 2 have no annot'):
        _dataset(path, filter_cfg=dict(filter_empty_gt=True))
    with pytest.raises(AnnotationError, match='none of 2: 2 have a side'):
        _dataset(path, filter_cfg=dict(min_size=200))
    # filter_empty_gt=False keeps images without instances.
    assert len(_dataset(path)) == 2
    assert 'the network only sees background' in log[-1]
    del log[:]
    assert len(_dataset(path, test_mode=True)) == 2
    assert log == []
    with pytest.raises(AnnotationError, match='no "annotations" to eval'):
        _score(path, ())
    for test_mode in (False, True):
        empty = _write(tmp_path, dict(content, images=[]))
        with pytest.raises(AnnotationError, match='at least one'):
            _dataset(empty, test_mode=test_mode)


def test_file_without_a_valid_annotation_raises(tmp_path):
    content = _content(2)
    for ann in content['annotations']:
        ann['bbox'] = ['10', '10', '40', '60']
    with pytest.raises(AnnotationError, match='none of 2 can be used'):
        _dataset(_write(tmp_path, content))


# ---- encodings and names


@pytest.mark.parametrize('encoding', ['utf-8', 'utf-8-sig', 'utf-16', 'utf-16-le', 'utf-32'])
def test_encodings(encoding, tmp_path):
    content = _content()
    content['images'][0]['file_name'] = 'caf\u00e9 \u4eba 1.PNG'
    path = tmp_path / 'in.json'
    text = json.dumps(content, ensure_ascii=False, indent=1)
    path.write_bytes(text.replace('\n', '\r\n').encode(encoding))
    assert read_annotations(str(path)) == content
    metrics = _score(str(path))
    assert metrics['coco/bbox_AP'] == 100


def test_gzip_file_and_lone_surrogates(tmp_path):
    path = tmp_path / 'in.json'
    path.write_bytes(b'\x1f\x8b\x08\x00')
    with pytest.raises(AnnotationError, match='gunzip'):
        read_annotations(str(path))
    content = _content()
    content['images'][0]['file_name'] = '\ud800.png'
    assert [each.rule for each in repair(content)[1]] == ['file_name', 'dangling_image']
