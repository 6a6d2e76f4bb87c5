"""Categories with keypoints of their own: union, data set, head, evaluation, results."""

import json
import math
import re
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch
from mmdet.registry import DATASETS
from mmengine.config import Config
from mmengine.structures import InstanceData
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from multitask_cli import test, train
from multitask_refine.apis import MultitaskInferencer
from multitask_refine.datasets import (
    AnnotationError,
    CocoMultitaskDataset,
    join_meta_files,
    load_meta_file,
)
from multitask_refine.datasets.validation import summary as startup
from multitask_refine.engine import check_consistency
from multitask_refine.evaluation import MultitaskCocoMetric
from multitask_refine.structures import KeypointBoxes
from multitask_refine.utils.errors import ConfigError
from multitask_refine.visualization import MultitaskVisualizer
from multitask_runtime import FormatError, Tracker
from multitask_runtime.io.frames import Frame
from multitask_runtime.io.inputs import Source
from multitask_runtime.io.results import PredictionsFile
from multitask_runtime.result import to_result
from tests.conftest import ROOT, as_arguments, tiny_options
from tests.test_models.heads import keypoint_loss, offset_head, softmax_head
from tools.analysis_tools import report
from tools.dataset import check_coco, predictions_to_coco

pytestmark = pytest.mark.slow

META = """
dataset_info = dict(
    dataset_name={name!r},
    keypoint_info={{i: dict(name=name, swap=swap, color=[0, 0, 10 * i + 5])
                    for i, (name, swap) in enumerate({keypoints!r})}},
    skeleton_info={{i: dict(link=link, color=[0, 255, 0])
                    for i, link in enumerate({links!r})}},
    joint_weights=[1.0] * {count}, sigmas={sigmas!r})
"""
PERSON = [('head', ''), ('left_hand', 'right_hand'), ('right_hand', 'left_hand')]
DOG = [('tail', ''), ('head', ''), ('left_ear', 'right_ear'), ('right_ear', 'left_ear')]
UNION = ['head', 'left_hand', 'right_hand', 'tail', 'left_ear', 'right_ear']
SIGMAS = dict(person=[0.1, 0.2, 0.2], dog=[0.1, 0.05, 0.1, 0.1])
CLASSES = ('person', 'dog', 'car')


def _meta_file(folder, name, keypoints, links, sigmas=None):
    path = folder / f'{name}.py'
    path.write_text(
        META.format(
            name=name,
            keypoints=keypoints,
            links=links,
            count=len(keypoints),
            sigmas=sigmas or [0.1] * len(keypoints),
        )
    )
    return str(path)


@pytest.fixture(scope='module')
def files(tmp_path_factory):
    """Meta files of persons, with 3 keypoints, and dogs, with 4."""
    folder = tmp_path_factory.mktemp('meta')
    return dict(
        person=_meta_file(
            folder, 'person', PERSON, [('left_hand', 'right_hand')], SIGMAS['person']
        ),
        dog=_meta_file(folder, 'dog', DOG, [('head', 'tail')], SIGMAS['dog']),
    )


def _instance(number, category, image, x, **fields):
    """12 x 20 pixels, its left side at x; keypoint i of the category's own is
    at x + i, 12 + i."""
    count = {3: 3, 7: 4, 9: 0}[category]
    flat = [value for i in range(count) for value in (x + i, 12 + i, 2)]
    return dict(
        dict(
            id=number,
            image_id=image,
            category_id=category,
            iscrowd=0,
            area=240,
            bbox=[x, 10, 12, 20],
            segmentation=[[x, 10, x + 12, 10, x + 12, 30, x, 30]],
            keypoints=flat,
            num_keypoints=count,
        ),
        **fields,
    )


def _write(folder, annotations, images=2, **categories):
    """An annotation file whose categories are in another order than the
    classes."""
    own = dict(person=PERSON, dog=DOG, **categories)
    (folder / 'images').mkdir(parents=True, exist_ok=True)
    entries = []
    for i in range(1, images + 1):
        cv2.imwrite(str(folder / f'images/{i}.png'), np.full((48, 64, 3), 20 * i, np.uint8))
        entries.append(dict(id=i, file_name=f'{i}.png', height=48, width=64))
    path = folder / 'annotations.json'
    path.write_text(
        json.dumps(
            dict(
                images=entries,
                annotations=annotations,
                categories=[
                    dict(id=9, name='car'),
                    dict(
                        id=7, name='dog', keypoints=[n for n, _ in own['dog']], skeleton=[[2, 1]]
                    ),
                    dict(
                        id=3,
                        name='person',
                        keypoints=[n for n, _ in own['person']],
                        skeleton=[[2, 3]],
                    ),
                ],
            )
        )
    )
    return path


SCENE = [
    _instance(1, 3, 1, 4),
    _instance(2, 7, 1, 24),
    _instance(3, 9, 1, 44),
    _instance(4, 7, 2, 30, keypoints=None, num_keypoints=0),
]


def _dataset(path, files, between=(), **kwargs):
    return dict(
        type='CocoMultitaskDataset',
        ann_file=str(path),
        data_prefix=dict(img=str(path.parent / 'images')),
        metainfo=dict(classes=CLASSES, from_file=files),
        **{
            'pipeline': [
                dict(type='CheckedLoadImageFromFile'),
                dict(type='LoadMultitaskAnnotations'),
                *between,
                dict(type='PackMultitaskInputs'),
            ],
            **kwargs,
        },
    )


@pytest.fixture
def said(monkeypatch):
    """Collect what the data set logs."""
    lines = []
    log = SimpleNamespace(warning=lines.append, info=lines.append)
    monkeypatch.setattr(startup, 'MMLogger', SimpleNamespace(get_current_instance=lambda: log))
    return lines


# The union


def test_union_merges_names_and_keeps_orders(files):
    meta = join_meta_files(files, CLASSES)
    assert list(meta['keypoint_id2name'].values()) == UNION
    assert meta['flip_indices'] == [0, 2, 1, 3, 5, 4]
    assert meta['skeleton_links'] == [(1, 2), (0, 3)]
    # The head's is that of the first category that has one.
    assert meta['sigmas'] == [0.1, 0.2, 0.2, 0.1, 0.1, 0.1]
    person, dog, car = meta['category_metas']
    assert (person['indices'], dog['indices']) == ([0, 1, 2], [3, 0, 4, 5])
    assert dog['sigmas'] == SIGMAS['dog']
    assert dog['skeleton_links'] == [(1, 0)]
    assert car['indices'] == []
    other = join_meta_files(
        dict(files, dog=dict(from_file=files['dog'], names=dict(head='snout'))), ('dog', 'person')
    )
    assert list(other['keypoint_id2name'].values()) == [
        'tail',
        'snout',
        'left_ear',
        'right_ear',
        *UNION[:3],
    ]


def test_join_meta_files_of_mmpose():
    """COCO's persons and AP-10K's animals share what is given one name."""
    meta = join_meta_files(
        dict(
            person='coco.py',
            dog=dict(
                from_file='ap10k.py', names=dict(L_Eye='left_eye', R_Eye='right_eye', Nose='nose')
            ),
        ),
        ('person', 'dog'),
    )
    assert meta['num_keypoints'] == 17 + 17 - 3
    person, dog = meta['category_metas']
    assert person['indices'] == list(range(17))
    assert dog['indices'][:4] == [1, 2, 0, 17]
    plain = load_meta_file('ap10k.py')
    assert dog == dict(plain, indices=dog['indices'])


@pytest.mark.parametrize(
    'change, words',
    [
        (lambda f: dict(f, horse=f['dog']), "found .'horse'.*metainfo.classes"),
        (lambda f: {}, 'found no category'),
        (lambda f: dict(f, dog=3), "from_file.'dog'.: expected the name"),
        (lambda f: dict(f, dog=dict(names={})), "from_file.'dog'.: expected the"),
        (
            lambda f: dict(f, dog=dict(from_file=f['dog'], names=dict(hat='a'))),
            "'tail', 'head'.*found 'hat'",
        ),
        (
            lambda f: dict(f, dog=dict(from_file=f['dog'], names=dict(tail='head'))),
            'two keypoints',
        ),
        (
            lambda f: dict(f, dog=dict(from_file=f['dog'], names=dict(left_ear='left_hand'))),
            "dog.py: keypoint_info: swap of 'left_hand': expected 'right_hand', as "
            ".*person.py has, found 'right_ear'",
        ),
    ],
    ids=['class', 'none', 'kind', 'no file', 'name', 'twice', 'mirror'],
)
def test_inconsistent_meta_files_raise(change, words, files):
    with pytest.raises(ConfigError, match=words):
        join_meta_files(change(files), CLASSES)


# Loading


def test_keypoints_are_parsed_in_the_order_of_their_category(files, tmp_path, said):
    dataset = DATASETS.build(_dataset(_write(tmp_path, SCENE), files))
    people = dataset[0]['data_samples'].gt_instances
    assert people.labels.tolist() == [0, 1, 2]
    assert people.keypoints_visible.tolist() == [
        [2, 2, 2, -1, -1, -1],
        [2, -1, -1, 2, 2, 2],
        [-1] * 6,
    ]
    # Pixel index 4 has its middle at 4.5.
    assert people.keypoints[0, :3].tolist() == [[4.5, 12.5], [5.5, 13.5], [6.5, 14.5]]
    # The dog's tail is its first keypoint, its head the second.
    assert people.keypoints[1, [3, 0, 4, 5]].tolist() == [
        [24.5, 12.5],
        [25.5, 13.5],
        [26.5, 14.5],
        [27.5, 15.5],
    ]
    # A dog without keypoints: unlabeled, and without hands.
    alone = dataset[1]['data_samples'].gt_instances
    assert alone.keypoints_visible.tolist() == [[0, -1, -1, 0, 0, 0]]
    assert dataset.labeled_tasks == {'bbox', 'segm', 'keypoints'}


def test_flips_exchange_within_the_category(files, tmp_path, said):
    scene = [dict(each) for each in SCENE]
    scene[1]['keypoints'] = (
        scene[1]['keypoints'][:8] + [0] + scene[1]['keypoints'][9:]
    )  # no left ear
    plain, flipped = (
        DATASETS.build(
            _dataset(_write(tmp_path, scene), files, [dict(type='RandomFlip', prob=share)])
        )[0]['data_samples'].gt_instances
        for share in (0.0, 1.0)
    )
    assert flipped.keypoints_visible.tolist() == [
        [2, 2, 2, -1, -1, -1],
        [2, -1, -1, 2, 2, 0],
        [-1] * 6,
    ]
    assert plain.keypoints_visible[1].tolist() == [2, -1, -1, 2, 0, 2]
    x, y = plain.keypoints[1, 5].tolist()
    assert flipped.keypoints[1, 4].tolist() == [64 - x, y]


def test_keypoints_that_a_category_lacks_stay_missing_outside_of_the_image():
    boxes = KeypointBoxes(
        torch.tensor([[0.0, 0.0, 30.0, 30.0]]),
        torch.tensor([[[5.0, 5.0], [40.0, 5.0], [40.0, 5.0]]]),
        torch.tensor([[2.0, 2.0, -1.0]]),
        [0, 1, 2],
    )
    boxes.clip_((20, 20))
    assert boxes.keypoints_visible.tolist() == [[2, 0, -1]]


def test_other_augmentations_and_wrappers(files, tmp_path, said):
    """Of every instance that is left its category says which it lacks."""
    lacks = join_meta_files(files, CLASSES)['category_metas']
    path = _write(tmp_path, SCENE)
    crop = dict(type='RandomCrop', crop_size=(30, 40))
    inner = _dataset(path, files, [crop])
    pack = inner['pipeline'].pop()
    twice = DATASETS.build(
        dict(
            type='MultiImageMixDataset',
            dataset=dict(type='ConcatDataset', datasets=[inner, inner]),
            pipeline=[dict(type='MultitaskCopyPaste'), pack],
        )
    )
    seen = 0
    for seed in range(6):
        np.random.seed(seed)
        people = twice[seed % 4]['data_samples'].gt_instances
        for label, visible in zip(people.labels, people.keypoints_visible, strict=False):
            absent = set(range(6)) - set(lacks[label]['indices'])
            assert set((visible == -1).nonzero()[:, 0].tolist()) == absent
            seen += 1
    assert seen > 10


@pytest.mark.parametrize(
    'change, words',
    [
        (dict(dog=DOG[::-1]), "'dog': keypoints: expected, .*'tail', 'head'"),
        (
            dict(
                annotations=[
                    _instance(1, 3, 1, 4),
                    _instance(2, 7, 1, 24, keypoints=[30, 20, 2] * 3),
                ]
            ),
            "annotation 2 has 9 numbers.*all others of 'dog'.*each of the 4 keypoints",
        ),
        (dict(keypoints_from='coco.py'), 'keypoints_from: expected one meta file'),
    ],
    ids=['order', 'number', 'mapping'],
)
def test_file_and_meta_files_that_differ_are_refused(change, words, files, tmp_path):
    annotations = change.pop('annotations', SCENE)
    mapping = {key: change.pop(key) for key in list(change) if key == 'keypoints_from'}
    path = _write(tmp_path, annotations)
    if change:
        content = json.loads(path.read_text())
        content['categories'][1]['keypoints'] = [n for n, _ in change['dog']]
        path.write_text(json.dumps(content))
    with pytest.raises(AnnotationError, match=words):
        DATASETS.build(_dataset(path, files, **mapping))


def test_network_and_data_sets_are_compared(files, tmp_path):
    meta = dict(join_meta_files(files, CLASSES), classes=CLASSES)
    head = SimpleNamespace(num_keypoints=7)
    roi_head = SimpleNamespace(keypoint_head=head)
    network = SimpleNamespace(roi_head=roi_head)
    with pytest.raises(ConfigError, match='expected 6, .*meta files, head, left_hand.*found 7'):
        check_consistency(network, {'test': meta})
    head.num_keypoints = 6
    check_consistency(network, dict(train=meta, test=meta))
    # The same union, but all categories have all keypoints.
    shared = {key: value for key, value in meta.items() if key != 'category_metas'}
    for saved in (None, shared):
        with pytest.raises(ConfigError, match="keypoints: expected .*'dog'"):
            check_consistency(
                network, dict(train=meta, **({} if saved else dict(test=shared))), saved=saved
            )
    fourth = dict(files, car=files['person'])
    other = dict(join_meta_files(fourth, CLASSES), classes=CLASSES)
    with pytest.raises(ConfigError, match="found .*'car': .'head'"):
        check_consistency(network, dict(train=meta, test=other))
    steep = dict(files, dog=_meta_file(tmp_path, 'dog', DOG, [('head', 'tail')]))
    other = dict(join_meta_files(steep, CLASSES), classes=CLASSES, sigmas=meta['sigmas'])
    with pytest.raises(ConfigError, match='sigmas and skeletons of the cat'):
        check_consistency(network, dict(train=meta, test=other))


# Losses


VISIBLE = torch.tensor([[2.0, -1.0, 0.0], [2.0, 1.0, -1.0]])
POINTS = torch.full((2, 3, 2), 1.5)
ROIS = torch.tensor([[0.0, 0.0, 3.0, 3.0]]).expand(2, 4)


def test_loss_ignores_keypoints_that_a_category_lacks():
    """Maps of 3 x 3 cells that are 0.5 everywhere, and a Gaussian that is 1
    in one cell: each map costs 9 * 0.25. Of each RoI two maps count (of the
    first, one is that of an unlabeled keypoint): the mean over the RoIs is 4.5."""
    head = offset_head(num_keypoints=3, size=3, sigma=0.05)
    logits = torch.zeros(2, 3, 3, 3, requires_grad=True)
    head.forward = lambda feats: (logits, None)
    loss = keypoint_loss(head, torch.zeros(2, 4, 14, 14), POINTS, VISIBLE, ROIS)
    assert loss.item() == pytest.approx(4.5)
    loss.backward()
    assert (logits.grad.abs().sum((2, 3)) > 0).tolist() == [
        [True, False, True],
        [True, True, False],
    ]


@pytest.mark.parametrize('build', [offset_head, softmax_head])
def test_channels_of_other_categories_get_no_gradient(build):
    """Two instances that lack the second keypoint: the layers that predict
    it, and its offsets, learn nothing."""
    torch.manual_seed(0)
    head = build(num_keypoints=3, conv_cfg=dict(type='RefinedConv2d'))
    head.offset_pred.weight.data.normal_(std=0.01)
    loss = keypoint_loss(
        head,
        torch.randn(2, 4, 14, 14),
        torch.full((2, 3, 2), 1.4),
        torch.tensor([[2.0, -1.0, 1.0]] * 2),
        ROIS,
    )
    loss.backward()
    grads = head.heatmap_pred.weight.grad  # (C, K, 4, 4)
    offsets = head.offset_pred.weight.grad.unflatten(1, (3, 2))
    for each in (grads, offsets):
        moved = each.abs().flatten(2).sum((0, 2)).tolist()
        assert moved[1] == 0
        assert moved[0] > 0 and moved[2] > 0


# Evaluation


def _prediction(*found):
    """Instances of (label, x, move): as _instance, whose keypoints are moved
    to the right. Channels of other categories hold nonsense."""
    points, scores = torch.full((len(found), 6, 2), 777.0), []
    masks = torch.zeros(len(found), 48, 64, dtype=torch.bool)
    for i, (label, x, move) in enumerate(found):
        own = [[0, 1, 2], [3, 0, 4, 5], []][label]
        for place, channel in enumerate(own):
            points[i, channel] = torch.tensor([x + place + move + 0.5, 12 + place + 0.5])
        scores.append([0.8 if channel in own else 0.1 for channel in range(6)])
        masks[i, 10:30, x : x + 12] = True
    return dict(
        bboxes=torch.tensor([[x, 10.0, x + 12, 30] for _, x, _ in found]),
        labels=torch.tensor([label for label, _, _ in found]),
        scores=torch.full((len(found),), 0.9),
        keypoints=points,
        keypoint_scores=torch.tensor(scores),
        masks=masks,
    )


def _score(path, files, *predictions, **kwargs):
    metric = MultitaskCocoMetric(str(path), **kwargs)
    metric.dataset_meta = CocoMultitaskDataset._load_metainfo(
        dict(classes=CLASSES, from_file=files)
    )
    for number, prediction in enumerate(predictions, 1):
        metric.process(
            {}, [dict(img_id=number, img_path=f'/images/{number}.png', pred_instances=prediction)]
        )
    metrics = metric.evaluate(len(predictions))
    return {name.split('/')[1]: value for name, value in metrics.items()}


PERFECT = ((0, 4, 0), (1, 24, 0), (2, 44, 0)), ((1, 30, 0),)


def test_perfect_predictions_of_all_categories_score_100(files, tmp_path):
    path = _write(tmp_path, SCENE)
    scores = _score(
        path, files, *(_prediction(*each) for each in PERFECT), classwise=True, keypointwise=True
    )
    for name in (
        'bbox_AP',
        'segm_AP',
        'keypoints_AP',
        'keypoints_AP50',
        'keypoints_AR',
        'keypoints_AP_person',
        'keypoints_AP_dog',
        *(f'keypoints_AP_{each}' for each in UNION),
    ):
        assert scores[name] == pytest.approx(100), name
    assert math.isnan(scores['keypoints_AP_car'])
    assert math.isnan(scores['keypoints_APL'])


def test_ap_is_the_mean_over_categories_with_their_own_sigmas(files, tmp_path):
    """All keypoints of the dog are 3 pixels away: OKS is the mean of
    exp(-9 / (2 * 240 * (2 sigma)^2)), three times with sigma 0.1 and for the
    head with 0.05: (3 * 0.626 + 0.153) / 4 = 0.508, which passes 0.5 alone of
    ten thresholds. With the person's sigma of the head, 0.1, it would pass
    three."""
    path = _write(tmp_path, SCENE[:3])
    scores = _score(
        path, files, _prediction((0, 4, 0), (1, 24, 3)), classwise=True, keypointwise=True
    )
    assert scores['keypoints_AP_person'] == pytest.approx(100)
    assert scores['keypoints_AP_dog'] == pytest.approx(10)
    assert scores['keypoints_AP'] == pytest.approx(55)
    # The tail's similarity is 0.626: it passes 0.5 to 0.6.
    assert scores['keypoints_AP_tail'] == pytest.approx(30)
    # The person's head is right, the dog's passes nothing.
    assert scores['keypoints_AP_head'] == pytest.approx((100 + 0) / 2)
    # A category without ground truth is left out of the mean.
    scores = _score(_write(tmp_path, SCENE[:1]), files, _prediction((0, 4, 0)))
    assert scores['keypoints_AP'] == pytest.approx(100)


def test_keypoints_in_the_order_of_another_category_are_wrong(files, tmp_path):
    path = _write(tmp_path, SCENE[:2])
    prediction = _prediction((0, 4, 0), (1, 24, 0))
    # The dog's keypoints as if they were in the order of the union; 60
    # pixels between them, so that each but none is far away.
    prediction['keypoints'][1, [0, 3]] = prediction['keypoints'][1, [3, 0]]
    prediction['keypoints'][1, [0, 3], 0] += torch.tensor([60.0, -60.0])
    scores = _score(path, files, prediction, classwise=True)
    assert scores['keypoints_AP_person'] == pytest.approx(100)
    # Two of four keypoints: OKS 0.5 passes the first threshold at most.
    assert scores['keypoints_AP_dog'] <= 10


def test_pycocotools_agrees_on_each_category(files, tmp_path):
    """Random instances, labels and moves in 12 images."""
    generator = np.random.default_rng(0)
    annotations, predictions = [], []
    for image in range(1, 13):
        found = []
        for label, x in zip(generator.integers(0, 2, 3).tolist(), (2, 22, 42), strict=False):
            ann = _instance(len(annotations) + 1, [3, 7][label], image, x)
            seen = generator.random(len(ann['keypoints']) // 3) < 0.8
            ann['keypoints'][2::3] = (2 * seen).tolist()
            ann['num_keypoints'] = int(seen.sum())
            annotations.append(ann)
            found.append((label, x, int(generator.integers(-5, 6))))
        prediction = _prediction(*found)
        prediction['scores'] = torch.from_numpy(generator.random(3)).float()
        predictions.append(prediction)
    path = _write(tmp_path, annotations, images=12)
    out = tmp_path / 'predictions.json'
    scores = _score(path, files, *predictions, classwise=True, predictions_file=str(out))
    entries = [
        entry for image in json.loads(out.read_text())['images'] for entry in image['keypoints']
    ]
    expected = []
    for category, name in ((3, 'person'), (7, 'dog')):
        truth = COCO()
        content = json.loads(path.read_text())
        truth.dataset = dict(
            content,
            annotations=[
                each for each in content['annotations'] if each['category_id'] == category
            ],
        )
        truth.createIndex()
        result = COCOeval(
            truth,
            truth.loadRes([each for each in entries if each['category_id'] == category]),
            'keypoints',
        )
        result.params.catIds = [category]
        result.params.kpt_oks_sigmas = np.array(SIGMAS[name])
        result.evaluate()
        result.accumulate()
        result.summarize()
        assert 0 < result.stats[0] < 1
        assert scores[f'keypoints_AP_{name}'] == pytest.approx(100 * result.stats[0])
        expected.append(100 * result.stats)
    for index, name in enumerate(('AP', 'AP50', 'AP75')):
        assert scores[f'keypoints_{name}'] == pytest.approx(
            (expected[0][index] + expected[1][index]) / 2
        ), name
    assert scores['keypoints_AR'] == pytest.approx((expected[0][5] + expected[1][5]) / 2)


# Results


def _flat(x, count, score):
    return [value for i in range(count) for value in (x + i, 12 + i, score)]


def test_files_of_predictions_have_the_keypoints_of_the_category(files, tmp_path):
    path, out = _write(tmp_path, SCENE), tmp_path / 'predictions.json'
    _score(path, files, *(_prediction(*each) for each in PERFECT), predictions_file=str(out))
    content = json.loads(out.read_text())
    person, dog, car = content['images'][0]['keypoints']
    assert person['keypoints'] == pytest.approx(_flat(4, 3, 0.8))
    assert dog['keypoints'] == pytest.approx(_flat(24, 4, 0.8))
    assert car['keypoints'] == []
    # Ranked by the mean of their own keypoints' scores.
    assert [each['score'] for each in (person, dog, car)] == pytest.approx([0.72, 0.72, 0.9])
    own = content['categories']['keypoints']
    assert [each['names'] for each in own] == [
        [name for name, _ in PERSON],
        [name for name, _ in DOG],
        [],
    ]
    assert own[1]['skeleton'] == [[1, 0]]
    assert content['keypoints']['names'] == UNION
    with pytest.raises(SystemExit, match="other keypoints for each of .'person'"):
        report.main([str(out), '--out', str(tmp_path / 'page.html')])
    drafted = tmp_path / 'drafted.json'
    assert (
        predictions_to_coco.main([str(out), str(drafted), '--images', str(tmp_path / 'images')])
        == 0
    )
    assert check_coco.main([str(drafted)]) == 0
    draft = json.loads(drafted.read_text())
    assert [each.get('keypoints') for each in draft['categories']] == [
        [name for name, _ in PERSON],
        [name for name, _ in DOG],
        None,
    ]
    assert draft['annotations'][1]['keypoints'] == _flat(24, 4, 2)
    del content['images'][0]['keypoints'][1]['keypoints'][-3:]
    out.write_text(json.dumps(content))
    with pytest.raises(SystemExit, match=r'keypoints\[1\].*12 numbers'):
        report.main([str(out)])


def test_files_for_the_server_have_the_keypoints_of_the_category(files, tmp_path):
    _score(
        _write(tmp_path, SCENE),
        files,
        _prediction(*PERFECT[0]),
        format_only=True,
        outfile_prefix=str(tmp_path / 'out/net'),
    )
    (path,) = (tmp_path / 'out').glob('person_keypoints_*.json')
    person, dog = json.loads(path.read_text())
    assert (person['category_id'], dog['category_id']) == (3, 7)
    assert person['keypoints'] == _flat(4, 3, 1)
    assert dog['keypoints'] == _flat(24, 4, 1)


@pytest.fixture
def found(files):
    """A person, a dog and a car, as the inferencers give them."""
    meta = dict(join_meta_files(files, CLASSES), classes=CLASSES)
    frame = Frame(Source('array', None, 'a'), np.zeros((48, 64, 3), np.uint8))
    people = {name: value.numpy() for name, value in _prediction(*PERFECT[0]).items()}
    return meta, to_result(frame, people, dataset_meta=meta)


def test_results_are_nan_where_a_category_has_no_keypoint(found, tmp_path):
    meta, result = found
    there = np.array([[1, 1, 1, 0, 0, 0], [1, 0, 0, 1, 1, 1], [0] * 6], bool)
    assert (np.isfinite(result['keypoints']).all(-1) == there).all()
    assert (np.isfinite(result['keypoint_scores']) == there).all()
    assert result['keypoints'][1, 3].tolist() == [24.5, 12.5]
    file = PredictionsFile(tmp_path / 'predictions.json', meta)
    file.write('a', result)
    file.close()
    coco = COCO(str(tmp_path / 'predictions.json'))
    assert coco.cats[2]['keypoints'] == [name for name, _ in DOG]
    assert coco.cats[2]['skeleton'] == [[2, 1]]
    assert coco.cats[3] == dict(id=3, name='car')
    assert coco.anns[1]['keypoints'] == pytest.approx(_flat(4, 3, 0.8))
    assert coco.anns[2]['keypoints'] == pytest.approx(_flat(24, 4, 0.8))
    assert coco.anns[3]['keypoints'] == []


def test_exports_have_the_keypoints_of_the_category(found):
    _, result = found
    persons, dogs = [name for name, _ in PERSON], [name for name, _ in DOG]
    points = [
        [shape['label'] for shape in result.to_labelme()['shapes'] if shape['group_id'] == group]
        for group in (1, 2, 3)
    ]
    assert points == [['person', *persons], ['dog', *dogs], ['car']]
    task = result.to_label_studio()
    json.dumps([result.to_dict(), task], allow_nan=False)
    content = result.to_cvat()
    assert 'nan' not in content and '<name>dog_skeleton</name>' in content
    instances = result.to_dict()['instances']
    assert [sum(row is not None for row in each['keypoints']) for each in instances] == [3, 4, 0]
    assert result[result.labels == 1].to_df()[f'{dogs[0]}_x'].notna().all()
    with pytest.raises(FormatError, match='pose: expected the same keypoints in all categories'):
        result.to_yolo()
    assert len(result.to_yolo('detect').splitlines()) == 3


def test_drawings_have_the_skeleton_of_the_category(files):
    """A dog whose hands, by the network, are far from it: neither they nor
    the person's link between them are drawn."""
    meta = dict(join_meta_files(files, CLASSES), classes=CLASSES)
    points = torch.tensor(
        [[[10.5, 10.5], [50.5, 5.5], [50.5, 40.5], [30.5, 10.5], [10.5, 30.5], [30.5, 30.5]]]
    )
    visualizer = MultitaskVisualizer()
    visualizer.dataset_meta = meta
    for label, link, hand, tail in ((1, True, False, True), (0, False, True, False)):
        image = visualizer._draw_instances(
            np.zeros((48, 64, 3), np.uint8),
            InstanceData(
                bboxes=torch.tensor([[0.0, 0.0, 1.0, 1.0]]),
                keypoints=points,
                labels=torch.tensor([label]),
                keypoint_scores=torch.ones(1, 6),
            ),
            CLASSES,
            None,
        )
        assert image[10, 20].any() == link  # from head to tail
        assert image[20, 50].any() == hand  # from hand to hand
        assert image[5, 50].any() == hand
        assert image[30, 10].any() == tail  # an ear
        # The color of its own file: the tail is its first keypoint.
        assert image[10, 30].tolist() == ([0, 0, 5] if tail else [0, 0, 0])


def test_tracks_compare_the_keypoints_that_there_are(found):
    meta, result = found
    tracker = Tracker(meta['sigmas'])
    assert tracker.update(result).tolist() == [1, 2, 3]
    turned = {
        name: result[name][[2, 0, 1]] for name in ('bboxes', 'scores', 'labels', 'keypoints')
    }
    assert tracker.update(turned).tolist() == [3, 1, 2]


# Tools


def test_check_coco_takes_the_number_of_each_category(files, tmp_path, capsys):
    path = _write(tmp_path, SCENE)
    assert check_coco.main([str(path)]) == 0
    content = json.loads(path.read_text())
    for category in content['categories']:
        category.pop('keypoints', None)
    content['annotations'][0]['keypoints'] += [1, 1, 2]
    path.write_text(json.dumps(content))
    options = ['--meta', f'person={files["person"]}', '--meta', f'dog={files["dog"]}']
    assert check_coco.main([str(path), *options]) == 1
    assert 'keypoints: 1\n' in capsys.readouterr().out
    assert check_coco.main([str(path), *options[:3], files['dog']]) == 2
    assert 'Name its category' in capsys.readouterr().err


@pytest.mark.exhaustive
def test_the_config_of_the_docs_is_trained_and_tested(tmp_path):
    """COCO's persons and AP-10K's dogs."""
    (tmp_path / 'my_project').mkdir()
    (block,) = re.findall(
        r'```python\n(# my_project/person_dog.py\n.*?)```',
        (ROOT / 'docs/dataset-preparation.md').read_text(),
        re.S,
    )
    config = tmp_path / 'my_project/person_dog.py'
    config.write_text(block.replace("'../configs", f"'{ROOT}/configs"))
    data = tmp_path / 'data'
    annotations = []
    for number, (category, x) in enumerate([(3, 4), (7, 24)], 1):
        flat = [v for i in range(17) for v in (x + i % 12, 12 + i, 2)]
        annotations.append(_instance(number, category, 1, x, keypoints=flat, num_keypoints=17))
    names = {
        name: list(load_meta_file(f'{name}.py')['keypoint_name2id']) for name in ('coco', 'ap10k')
    }
    path = _write(data, annotations, images=1)
    content = json.loads(path.read_text())
    content['categories'][1]['keypoints'] = names['ap10k']
    content['categories'][2]['keypoints'] = names['coco']
    (data / 'annotations').mkdir()
    for split in ('train', 'val'):
        (data / f'{split}2017').symlink_to(data / 'images')
        (data / f'annotations/person_keypoints_{split}2017.json').write_text(json.dumps(content))
    options = {
        **tiny_options(data),
        'train_dataloader.batch_size': 1,
        'train_cfg.max_iters': 1,
        'train_cfg.val_interval': 9,
        'model.test_cfg.rcnn.max_per_img': 4,
    }
    work = tmp_path / 'work'
    common = [str(config), '--work-dir', str(work)]
    arguments = as_arguments(options)
    assert train.main([*common, *arguments]) == 0
    assert (
        test.main(
            [
                str(config),
                str(work / 'iter_1.pth'),
                *common[1:],
                '--tta',
                '--show-dir',
                str(work / 'shown'),
                '--predictions',
                str(work / 'predictions.json'),
                *arguments,
            ]
        )
        == 0
    )
    entries = json.loads((work / 'predictions.json').read_text())['images'][0]['keypoints']
    assert entries
    assert {len(each['keypoints']) for each in entries} == {51}
    cfg = Config.fromfile(config)
    cfg.merge_from_dict(options)
    inferencer = MultitaskInferencer(cfg, work / 'iter_1.pth', device='cpu', show_progress=False)
    (result,) = inferencer(str(data / 'images/1.png'), out_dir=tmp_path / 'found')
    there = np.isfinite(result['keypoint_scores'])
    assert there.shape[1] == 31 and (there.sum(1) == 17).all()
    # Nose, eyes and ears: of a dog the first three.
    for label, row in zip(result['labels'], there, strict=False):
        assert row[:5].tolist() == [True] * 3 + [label == 0] * 2
