"""Consistency of model, datasets, metrics and checkpoint."""

import copy
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from mmdet.registry import MODELS
from mmengine.config import Config
from mmengine.evaluator import Evaluator
from torch.utils.data import BatchSampler, ConcatDataset, DataLoader, SequentialSampler

from multitask_cli import test, train
from multitask_refine.datasets import AnnotationError, CocoMultitaskDataset, load_meta_file
from multitask_refine.engine import AtomicCheckpointHook, ConfigError, check_consistency
from multitask_refine.engine.runner.reproducible_loop import ReproducibleLoader
from multitask_refine.evaluation import MultitaskCocoMetric
from multitask_refine.utils.safe_checkpoint import load_checkpoint_file
from tests.conftest import SAMPLE_CONFIG, as_arguments, tiny_options
from tests.trainings import Dice

pytestmark = pytest.mark.slow

NAMES = list(load_meta_file('coco.py')['keypoint_name2id'])


def _person(index, category, box, **fields):
    x, y, width, height = box
    return dict(
        id=index,
        image_id=1,
        category_id=category,
        iscrowd=0,
        bbox=box,
        area=width * height,
        segmentation=[[x, y, x + width, y, x + width, y + height, x, y + height]],
        keypoints=[x + 2, y + 2, 2] * 17,
        num_keypoints=17,
        **fields,
    )


def _write(path, categories, annotations):
    path.write_text(
        json.dumps(
            dict(
                images=[dict(id=1, file_name='a.png', width=100, height=100)],
                categories=categories,
                annotations=annotations,
            )
        )
    )
    return str(path)


def _dataset(ann_file, **kwargs):
    folder = Path(ann_file).parent
    (folder / 'a.png').touch()
    return CocoMultitaskDataset(
        ann_file=ann_file, data_prefix=dict(img=str(folder)), pipeline=[], **kwargs
    )


# Labels


@pytest.mark.parametrize('order', [[3, 7], [7, 3]])
def test_labels_follow_the_classes_in_any_order_of_the_file(order, tmp_path):
    """A child and an adult, found where they are: AP 100 for each order of
    the categories in the file."""
    names = {3: 'adult', 7: 'child'}
    ann_file = _write(
        tmp_path / 'ann.json',
        [dict(id=i, name=names[i]) for i in order],
        [_person(1, 7, [10, 10, 20, 30]), _person(2, 3, [50, 10, 40, 60])],
    )
    classes = ('adult', 'child')
    dataset = _dataset(ann_file, metainfo=dict(classes=classes))
    assert [each['bbox_label'] for each in dataset.get_data_info(0)['instances']] == [1, 0]
    metric = MultitaskCocoMetric(ann_file)
    metric.dataset_meta = dataset.metainfo
    masks = torch.zeros(2, 100, 100, dtype=torch.bool)
    masks[0, 10:40, 10:30] = masks[1, 10:70, 50:90] = True
    points = torch.tensor([[12.5, 12.5], [52.5, 12.5]])
    metric.process(
        {},
        [
            dict(
                img_id=1,
                pred_instances=dict(
                    bboxes=torch.tensor([[10.0, 10, 30, 40], [50, 10, 90, 70]]),
                    scores=torch.tensor([0.9, 0.8]),
                    labels=torch.tensor([1, 0]),
                    masks=masks,
                    keypoints=points[:, None].repeat(1, 17, 1),
                    keypoint_scores=torch.ones(2, 17),
                ),
            )
        ],
    )
    metrics = metric.evaluate(1)
    for task in ('bbox', 'segm', 'keypoints'):
        assert metrics[f'coco/{task}_AP'] == pytest.approx(100), task


def test_metric_reports_a_class_that_its_file_lacks(tmp_path):
    ann_file = _write(tmp_path / 'ann.json', [dict(id=1, name='person')], [])
    metric = MultitaskCocoMetric(ann_file)
    metric.dataset_meta = dict(classes=('horse',), sigmas=[0.1])
    with pytest.raises(AnnotationError, match="found 0 named 'horse'"):
        metric.compute_metrics([])


@pytest.mark.parametrize('classes', ['person', (), ('person', 'person')])
def test_classes_must_be_distinct_names(classes):
    with pytest.raises(ConfigError, match='metainfo.classes: expected names'):
        CocoMultitaskDataset._load_metainfo(dict(classes=classes))


# Keypoints


def test_other_keypoint_order_than_in_the_meta_file_is_refused(tmp_path):
    category = dict(id=1, name='person', keypoints=NAMES[::-1])
    path = _write(tmp_path / 'ann.json', [category], [_person(1, 1, [10, 10, 40, 60])])
    with pytest.raises(AnnotationError) as error:
        _dataset(path)
    assert str(NAMES) in str(error.value)
    assert str(NAMES[::-1]) in str(error.value)
    category.update(keypoints=NAMES)
    path = _write(tmp_path / 'ann.json', [category], [_person(1, 1, [10, 10, 40, 60])])
    assert _dataset(path).labeled_tasks == {'bbox', 'segm', 'keypoints'}


META = """
dataset_info = dict(
    dataset_name='three',
    keypoint_info={{
        0: dict(name='head'),
        1: dict(name='left', swap='right'),
        2: dict(name='right', swap={swap!r})}},
    skeleton_info={{0: dict(link=({link!r}, 'left'))}},
    joint_weights=[1.0] * 3,
    sigmas={sigmas})
"""


def _meta_file(tmp_path, swap='left', link='head', sigmas=(0.1,) * 3):
    path = tmp_path / 'three.py'
    path.write_text(META.format(swap=swap, link=link, sigmas=list(sigmas)))
    return str(path)


def test_consistent_meta_file_is_accepted(tmp_path):
    meta = load_meta_file(_meta_file(tmp_path))
    assert meta['num_keypoints'] == 3
    assert meta['flip_indices'] == [0, 2, 1]
    assert meta['skeleton_links'] == [(0, 1)]


@pytest.mark.parametrize(
    'change, words',
    [
        (dict(sigmas=[0.1] * 2), 'sigmas: expected 3 numbers.*found 2'),
        (dict(sigmas=[]), 'sigmas: expected 3 numbers.*found 0'),
        (dict(sigmas=[0.1, 0, 0.1]), 'sigmas: expected numbers above 0'),
        (
            dict(swap=''),
            "swap of 'left' is 'right': expected swap='left' of 'right' in return, found ''",
        ),
        (dict(swap='head'), "swap of 'left' is 'right'.*found 'head'"),
        (dict(swap='rihgt'), "swap of 'right'.*found 'rihgt'"),
        (dict(link='haed'), r"link \('haed', 'left'\).*found \['haed'\]"),
    ],
    ids=str,
)
def test_inconsistent_meta_file_is_refused(change, words, tmp_path):
    with pytest.raises(ConfigError, match=r'three\.py: .*' + words):
        load_meta_file(_meta_file(tmp_path, **change))


@pytest.mark.parametrize(
    'text',
    [
        'dataset_info = dict(sigmas=[])',
        'nothing = 1',
        'dataset_info = [',
        "dataset_info = dict(dataset_name='a', keypoint_info={1: dict(name='a')},"
        ' skeleton_info={}, joint_weights=[1], sigmas=[1])',
    ],
    ids=['fields', 'nothing', 'syntax', 'ids'],
)
def test_file_without_metainfo_is_refused(text, tmp_path):
    path = tmp_path / 'broken.py'
    path.write_text(text)
    with pytest.raises(ConfigError, match=r'broken\.py: .*expected'):
        load_meta_file(str(path))


def test_meta_files_of_mmpose():
    """Datasets of faces have no sigmas."""
    assert load_meta_file('crowdpose.py')['num_keypoints'] == 14
    assert load_meta_file('coco_wholebody.py')['num_keypoints'] == 133
    with pytest.raises(ConfigError, match='wflw.py: sigmas: expected 98'):
        load_meta_file('wflw.py')


# Model and datasets


def _config(scene, **options):
    cfg = Config.fromfile(SAMPLE_CONFIG)
    cfg.merge_from_dict({**tiny_options(scene), **options})
    return cfg


@pytest.fixture(scope='module')
def network(scene):
    return MODELS.build(_config(scene).model)


def _meta(**changes):
    return {**load_meta_file('coco.py'), 'classes': ('person',), **changes}


def _evaluator(scene, **kwargs):
    return Evaluator(
        MultitaskCocoMetric(str(scene / 'annotations/person_keypoints_val2017.json'), **kwargs)
    )


TEST = 'test_dataloader.dataset'


@pytest.mark.parametrize(
    'meta, words',
    [
        (
            dict(classes=('adult', 'child')),
            r"bbox_head.num_classes: expected 2, .*\['adult', 'child'\].*found 1",
        ),
        (load_meta_file('crowdpose.py'), 'keypoint_head.num_keypoints: expected 14.*found 17'),
    ],
    ids=['classes', 'keypoints'],
)
def test_other_head_size_is_refused(meta, words, network):
    check_consistency(network, {TEST: _meta()})
    with pytest.raises(ConfigError, match=words):
        check_consistency(network, {TEST: _meta(**meta)})


@pytest.mark.parametrize(
    'changes, words',
    [
        (dict(classes=('horse',)), 'metainfo.classes: expected'),
        (
            dict(keypoint_id2name=dict(enumerate(NAMES[::-1]))),
            f'keypoints: expected.*{NAMES[:2]}'.replace('[', '.').replace(']', ''),
        ),
        (dict(flip_indices=list(range(17))), 'swap of the meta file'),
        (dict(sigmas=np.full(17, 0.1)), 'sigmas: expected'),
    ],
    ids=['classes', 'order', 'flip', 'sigmas'],
)
def test_differing_datasets_and_checkpoint_are_refused(changes, words, network):
    other = _meta(**changes)
    with pytest.raises(ConfigError, match='^val_data.*' + words):
        check_consistency(
            network, {'train_dataloader.dataset': _meta(), 'val_dataloader.dataset': other}
        )
    with pytest.raises(ConfigError, match='the checkpoint'):
        check_consistency(network, {TEST: _meta()}, saved=other)


def _write_annotations(scene, tmp_path, change):
    content = json.loads((scene / 'annotations/person_keypoints_train2017.json').read_text())
    for ann in content['annotations']:
        change(ann)
    path = tmp_path / 'changed.json'
    path.write_text(json.dumps(content))
    return CocoMultitaskDataset(
        ann_file=str(path), data_prefix=dict(img=str(scene / 'train2017')), pipeline=[]
    )


@pytest.mark.parametrize(
    'field, head', [('segmentation', 'mask_head'), ('keypoints', 'keypoint_head')]
)
def test_trainable_head_without_labels_is_refused(field, head, scene, tmp_path, network):
    dataset = _write_annotations(scene, tmp_path, lambda ann: ann.pop(field))
    metas = {'train_dataloader.dataset': _meta()}
    parts = {'train_dataloader.dataset': dataset}
    with pytest.raises(ConfigError, match=rf'changed\.json.*{head}=None'):
        check_consistency(network, metas, parts)
    # Beside a data set that has labels, and for a head that stays as it is.
    full = _write_annotations(scene, tmp_path, lambda ann: None)
    both = ConcatDataset([dataset, full])
    check_consistency(network, metas, {'train_dataloader.dataset': both})
    frozen = copy.deepcopy(network)
    getattr(frozen.roi_head, head).requires_grad_(False)
    check_consistency(frozen, metas, parts)


def test_metric_is_compared_with_heads_labels_and_images(scene, tmp_path, network):
    metas = {TEST: _meta()}
    dataset = _write_annotations(scene, tmp_path, lambda ann: ann.pop('segmentation'))
    boxes = copy.deepcopy(network)
    boxes.roi_head.mask_head = boxes.roi_head.keypoint_head = None

    def compare(network, evaluator, dataset=dataset):
        check_consistency(network, metas, {TEST: dataset}, dict(test=evaluator))

    compare(network, _evaluator(scene))
    with pytest.raises(
        ConfigError,
        match=r"expected some of \['bbox', "
        r"'keypoints'\].*changed.*Leave segm out",
    ):
        compare(network, _evaluator(scene, tasks=['bbox', 'segm']))
    with pytest.raises(ConfigError, match=r"expected some of \['bbox'\]"):
        compare(boxes, _evaluator(scene, tasks=['keypoints']))
    with pytest.raises(ConfigError, match='format_only'):
        compare(boxes, _evaluator(scene, format_only=True, outfile_prefix='a/b'))
    with pytest.raises(FileNotFoundError, match='test_evaluator.ann_file'):
        compare(network, Evaluator(MultitaskCocoMetric('nowhere.json')))
    few = json.loads((scene / 'annotations/person_keypoints_val2017.json').read_text())
    few['images'] = few['images'][:1]
    (tmp_path / 'few.json').write_text(json.dumps(few))
    with pytest.raises(ConfigError, match='few.json without 2 of 3'):
        compare(network, Evaluator(MultitaskCocoMetric(str(tmp_path / 'few.json'))))


@pytest.mark.parametrize('shifts', [(0.5, 0.5), (0.0, 0.0), (0.0, 0.5), (0.5, 0.0)])
def test_keypoints_are_evaluated_where_they_are_learned(shifts, scene, network):
    learned, evaluated = shifts
    dataset = CocoMultitaskDataset(
        ann_file=str(scene / 'annotations/person_keypoints_train2017.json'),
        data_prefix=dict(img=str(scene / 'train2017')),
        pipeline=[],
        keypoint_shift=learned,
    )
    parts = {'train_dataloader.dataset': ConcatDataset([dataset])}
    metas = {'train_dataloader.dataset': _meta()}
    evaluators = dict(val=_evaluator(scene, keypoint_shift=evaluated))
    if learned == evaluated:
        check_consistency(network, metas, parts, evaluators)
        return
    words = rf'val_evaluator\.keypoint_shift: expected {learned}, .*found {evaluated}\. Set'
    with pytest.raises(ConfigError, match=words):
        check_consistency(network, metas, parts, evaluators)


# Loops and checkpoints


@pytest.mark.parametrize('drop_last', [True, False])
def test_too_few_images_for_a_batch_are_refused(drop_last):
    dice = Dice(3)
    loader = ReproducibleLoader(
        DataLoader(
            dice,
            batch_sampler=BatchSampler(SequentialSampler(dice), 5, drop_last),
            collate_fn=list,
        )
    )
    loader.start_at(0, 0)
    if drop_last:
        with pytest.raises(ConfigError, match='batch of 5.*found 3 images'):
            next(iter(loader))
    else:
        assert [item[0] for item in next(iter(loader))] == [0, 1, 2]


@pytest.mark.parametrize(
    'metrics, key',
    [
        (dict(bbox_AP=50.0, bbox_AP50=90.0, segm_AP=40.0, keypoints_AP=1.0), 'keypoints_AP'),
        (dict(bbox_AP=50.0, segm_AP=40.0), 'segm_AP'),
        (dict(bbox_AP=50.0, bbox_AP50=90.0), 'bbox_AP'),
        (dict(bbox_AP50=90.0, bbox_AP=50.0, keypoints_AP=float('nan')), 'bbox_AP'),
        ({}, None),
    ],
    ids=str,
)
def test_best_checkpoint_metric_depends_on_the_tasks(metrics, key, monkeypatch):
    saved = []
    hook = AtomicCheckpointHook(save_best='auto', rule='greater')
    monkeypatch.setattr(
        hook, '_save_then_remove', lambda runner, save, *args: saved.append(args[1])
    )
    hook._save_best_checkpoint(None, {f'coco/{name}': value for name, value in metrics.items()})
    assert [next(iter(each)) for each in saved] == ([f'coco/{key}'] if key else [])


# Complete runs


def test_best_checkpoint_of_a_model_without_keypoint_head(scene, tmp_path):
    options = {
        name: value for name, value in tiny_options(scene).items() if 'keypoint_head' not in name
    }
    options['model.roi_head.keypoint_head'] = None
    train.main([str(SAMPLE_CONFIG), '--work-dir', str(tmp_path), *as_arguments(options)])
    (file,) = tmp_path.glob('best_*')
    assert file.name == 'best_coco_segm_AP_iter_2.pth'
    with (tmp_path / 'last_checkpoint').open() as name:
        history = load_checkpoint_file(name.read())['message_hub']
    evaluated = {name for name in history['log_scalars'] if name.startswith('val/coco/')}
    assert {'val/coco/bbox_AP', 'val/coco/segm_AP'} <= evaluated
    assert not any('keypoints' in name for name in evaluated)


@pytest.mark.parametrize(
    'options, words',
    [
        ({'model.roi_head.bbox_head.num_classes': 2}, 'bbox_head.num_classes'),
        ({'model.roi_head.keypoint_head.num_keypoints': 14}, 'num_keypoints'),
        ({'val_evaluator.ann_file': 'nowhere.json'}, 'val_evaluator.ann_file'),
        ({'val_evaluator.tasks': ['boxes']}, r"tasks: expected.*'boxes'"),
        (
            {'val_evaluator.tasks': ['segm'], 'model.roi_head.mask_head': None},
            'val_evaluator.tasks: expected',
        ),
        (
            {
                'train_dataloader.batch_size': 5,
                'train_dataloader.batch_sampler.drop_last': True,
                'train_dataloader.sampler.type': 'DefaultSampler',
            },
            'drop_last',
        ),
    ],
    ids=lambda value: str(value)[:40],
)
def test_contradictions_end_a_training_before_its_first_iteration(options, words, scene, tmp_path):
    options = {**tiny_options(scene), **options}
    if 'model.roi_head.mask_head' in options:
        options.pop('model.roi_head.mask_head.conv_out_channels')
    with pytest.raises(SystemExit, match=words) as stop:
        train.main([str(SAMPLE_CONFIG), '--work-dir', str(tmp_path), *as_arguments(options)])
    assert isinstance(stop.value.code, str)
    assert not list(tmp_path.glob('*.pth'))  # saved after each iteration


@pytest.mark.exhaustive
def test_settings_that_mmengine_refuses_work(scene, tmp_path):
    """Hooks that are None, loaders without workers, lists of evaluators."""
    config = tmp_path / 'config.py'
    config.write_text(f"""
_base_ = {str(SAMPLE_CONFIG)!r}
default_hooks = dict(visualization=None, checkpoint=None, resume=None,
                     bad_images=None, timer=None, logger=None,
                     sampler_seed=None)
val_evaluator = [_base_.val_evaluator]
test_evaluator = val_evaluator
randomness = None
visualizer = None
tta_model = None
auto_scale_lr = None
""")
    options = {
        name: value
        for name, value in tiny_options(scene).items()
        if not name.startswith('default_hooks')
    }
    options.update({'train_cfg.max_iters': 1, 'train_cfg.val_interval': 1})
    for name in [*options]:
        if name.endswith('evaluator.ann_file'):
            options[name.replace('evaluator', 'evaluator.0')] = options.pop(name)
        elif name.endswith('persistent_workers'):
            options[name] = True
    arguments = as_arguments(options)
    assert train.main([str(config), '--work-dir', str(tmp_path), '--seed', '1', *arguments]) == 0
    assert not list(tmp_path.glob('*.pth'))
    with pytest.raises(SystemExit, match='base_batch_size'):
        train.main([str(config), '--auto-scale-lr', *arguments])
    weights = MODELS.build(_config(scene).model).state_dict()
    torch.save(dict(state_dict=weights), tmp_path / 'weights.pth')
    assert (
        test.main(
            [
                str(config),
                str(tmp_path / 'weights.pth'),
                '--work-dir',
                str(tmp_path),
                '--show-dir',
                str(tmp_path / 'drawings'),
                '--predictions',
                str(tmp_path / 'predictions.json'),
                *arguments,
            ]
        )
        == 0
    )
    assert len(list((tmp_path / 'drawings').iterdir())) == 3
    assert (tmp_path / 'predictions.json').is_file()


def test_checkpoint_of_other_classes_is_not_tested(scene, tmp_path, capfd):
    weights = MODELS.build(_config(scene).model).state_dict()
    torch.save(
        dict(state_dict=weights, meta=dict(dataset_meta=dict(classes=('horse',)))),
        tmp_path / 'horses.pth',
    )
    with pytest.raises(SystemExit, match='those of the checkpoint.*horse'):
        test.main(
            [
                str(SAMPLE_CONFIG),
                str(tmp_path / 'horses.pth'),
                '--work-dir',
                str(tmp_path),
                *as_arguments(tiny_options(scene)),
            ]
        )
    # A training may start from it, with a warning.
    train.main(
        [
            str(SAMPLE_CONFIG),
            '--work-dir',
            str(tmp_path / 'work'),
            *as_arguments(
                {
                    **tiny_options(scene),
                    'train_cfg.max_iters': 1,
                    'load_from': tmp_path / 'horses.pth',
                    'val_cfg': None,
                    'val_dataloader': None,
                    'val_evaluator': None,
                }
            ),
        ]
    )
    assert 'starts from these weights nevertheless' in (''.join(capfd.readouterr()))
