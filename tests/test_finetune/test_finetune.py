"""Fine-tuning: keypoint transfer, statistics, rules, the config, and invalid data."""

import json
import logging
import re
import types

import cv2
import numpy as np
import pytest
import torch
from mmengine.config import Config

from benchmarks.data import few_photos
from multitask_refine.analysis.results_files import ResultsError
from multitask_refine.datasets import load_meta_file
from multitask_refine.engine import ConfigError, KeypointTransferHook, transfer_keypoints
from multitask_refine.finetune import Keypoints, choose_settings, collect_statistics
from tests.conftest import ROOT
from tools import finetune
from tools.docs import results_page

pytestmark = pytest.mark.slow

COCO = list(load_meta_file('coco.py')['keypoint_name2id'])
HEAD = 'roi_head.keypoint_head.'


# Keypoints by name


def _weights(names, channels, factor):
    """Heatmap weights 1, 2, ... a keypoint, offsets 10 + x and 20 + y."""
    numbers = torch.arange(1.0, len(names) + 1) * factor
    pairs = torch.stack([numbers + 10, numbers + 20], 1).flatten()
    return {
        f'{HEAD}{layer}.{part}': values
        if part == 'bias'
        else values.expand(channels, 4, 4, -1).permute(0, 3, 1, 2).clone()
        for layer, values in (('heatmap_pred', numbers), ('offset_pred', pairs))
        for part in ('weight', 'bias')
    }


def test_keypoints_are_transferred_by_name():
    saved = _weights(['nose', 'left', 'right'], 2, 1)
    saved['backbone.weight'] = torch.ones(1)
    own = _weights(['right', 'tail', 'nose', 'left'], 2, 100)
    result = transfer_keypoints(
        saved, own, ['nose', 'left', 'right'], ['right', 'tail', 'nose', 'left']
    )
    heatmaps, offsets = [3, 200, 1, 2], [13, 23, 210, 220, 11, 21, 12, 22]
    for layer, expected in (('heatmap_pred', heatmaps), ('offset_pred', offsets)):
        weight = result[f'{HEAD}{layer}.weight']
        assert weight.shape == (2, len(expected), 4, 4)
        assert weight[1, :, 3, 0].tolist() == expected
        assert result[f'{HEAD}{layer}.bias'].tolist() == expected
    assert result['backbone.weight'] is saved['backbone.weight']
    assert saved[f'{HEAD}heatmap_pred.bias'].tolist() == [1, 2, 3]


def test_layers_of_another_width_are_kept():
    saved = _weights(['a', 'b'], 2, 1)
    own = _weights(['b', 'a'], 3, 100)
    del own[f'{HEAD}offset_pred.weight'], own[f'{HEAD}offset_pred.bias']
    result = transfer_keypoints(saved, own, ['a', 'b'], ['b', 'a'])
    for name in (f'{HEAD}heatmap_pred.weight', f'{HEAD}offset_pred.weight'):
        assert result[name] is saved[name]
    assert result[f'{HEAD}heatmap_pred.bias'].tolist() == [2, 1]


@pytest.mark.parametrize(
    'names, error',
    [(dict(head='nose'), None), (dict(head='noze'), r"head'.*noze.*checkpoint \['nose'")],
)
def test_hook_renames_and_raises_for_unknown_names(names, error, monkeypatch):
    hooks = 'multitask_refine.engine.hooks.keypoint_transfer_hook'
    monkeypatch.setattr(f'{hooks}.BaseLoop', types.SimpleNamespace)
    meta = dict(classes=('person',), keypoint_id2name={0: 'b', 1: 'head'})
    loop = types.SimpleNamespace(
        dataloader=types.SimpleNamespace(dataset=types.SimpleNamespace(metainfo=meta))
    )
    own = _weights(['b', 'head'], 2, 100)
    runner = types.SimpleNamespace(
        _train_loop=loop,
        train_loop=loop,
        _resume=False,
        logger=logging.getLogger('test'),
        model=types.SimpleNamespace(state_dict=lambda: own),
    )
    checkpoint = dict(
        state_dict=_weights(['nose', 'ear'], 2, 1),
        meta=dict(dataset_meta=dict(classes=('man',), keypoint_id2name={0: 'nose', 1: 'ear'})),
    )
    hook = KeypointTransferHook(names)
    if error:
        with pytest.raises(ConfigError, match=error):
            hook.after_load_checkpoint(runner, checkpoint)
        return
    hook.after_load_checkpoint(runner, checkpoint)
    bias = checkpoint['state_dict'][f'{HEAD}heatmap_pred.bias']
    assert bias.tolist() == [100, 1]
    assert checkpoint['meta']['dataset_meta'] == dict(meta, classes=('man',))
    runner._resume = True  # another load is as it is
    resumed = dict(checkpoint, state_dict=_weights(['nose', 'ear'], 2, 1))
    hook.after_load_checkpoint(runner, resumed)
    assert resumed['state_dict'][f'{HEAD}heatmap_pred.bias'].tolist() == [1, 2]


# Rules


def _person(index, image, box, **fields):
    x, y, width, height = box
    return (
        dict(
            id=index,
            image_id=image,
            category_id=1,
            iscrowd=0,
            bbox=box,
            area=width * height,
            segmentation=[[x, y, x + width, y, x + width, y + height, x, y + height]],
            keypoints=[x + 2, y + 2, 2] * 17,
            num_keypoints=17,
        )
        | fields
    )


def _content(sizes, boxes, **fields):
    """An image of each size; boxes are pairs of image id and box."""
    return dict(
        images=[
            dict(id=i, file_name=f'{i}.png', width=w, height=h)
            for i, (w, h) in enumerate(sizes, 1)
        ],
        categories=[dict(id=1, name='person', keypoints=COCO)],
        annotations=[_person(i, image, box, **fields) for i, (image, box) in enumerate(boxes, 1)],
    )


def test_statistics():
    content = _content(
        [(400, 300), (200, 400), (100, 100)],
        [(1, [0, 0, 40, 90]), (1, [0, 0, 80, 80]), (2, [0, 0, 20, 80])],
    )
    content['annotations'][1].update(keypoints=[0] * 51, num_keypoints=0)
    del content['annotations'][2]['segmentation']
    content['annotations'].append(_person(9, 3, [0, 0, 100, 100], iscrowd=1))
    stats = collect_statistics(content, ['person'], Keypoints(COCO, True))
    assert (stats.images, stats.instances, stats.max_instances) == (3, 3, 2)
    assert stats.labeled == dict(bbox=3, segm=2, keypoints=2)
    assert stats.image_size == (200, 300)
    assert stats.long_side == 400
    # sqrt(40 * 90) / 400, sqrt(80 * 80) / 400 and sqrt(20 * 80) / 400
    sizes = [0.1, 0.15, 0.2]
    assert np.allclose(stats.instance_size, np.percentile(sizes, [10, 50, 90]))


def _settings(count, box, sizes=(1000, 500), people=1, **kwargs):
    content = _content(
        [sizes] * count, [(i, box) for i in range(1, count + 1) for _ in range(people)]
    )
    stats = collect_statistics(content, ['person'], Keypoints(COCO, True))
    return choose_settings(stats, **{'base': 'base.pth', **kwargs})


def test_rule_of_the_input_size():
    # 100 pixels are 0.3125 of 320; 0.35 of 286, which 32 does not divide.
    assert _settings(5, [0, 0, 312.5, 312.5]).long_side == 320
    assert _settings(5, [0, 0, 350, 350]).long_side == 288
    large, small = [0, 0, 500, 500], [0, 0, 100, 100]
    assert _settings(5, large).long_side == 256
    assert _settings(5, small).long_side == 384
    assert _settings(5, [0, 0, 30, 30], (300, 200)).long_side == 288
    assert _settings(5, small, long_side=640).long_side == 640


def test_rules_of_schedule_anchors_and_proposals():
    person = [0, 0, 300, 300]
    few = _settings(10, person)
    assert (few.iterations, few.batch_size, few.lr) == (500, 4, 5e-4)
    assert few.anchor_scales == (4, 8) and few.proposals == 50
    assert _settings(100, person).iterations == 1000  # 40 epochs of 4
    assert _settings(700, person).iterations == 6000
    assert _settings(10, person, iterations=7).iterations == 7
    assert _settings(10, person, base=None).lr == 1.5e-3
    # 40 of 1000 pixels are 15 at the largest input.
    assert _settings(5, [0, 0, 40, 40]).anchor_scales == (2, 4, 8)
    assert _settings(5, person, people=16).proposals == 100


def test_task_without_labels_has_no_head():
    content = _content([(100, 100)], [(1, [0, 0, 50, 50])])
    for field, left in (('keypoints', ('bbox', 'segm')), ('segmentation', ('bbox',))):
        del content['annotations'][0][field]
        settings = choose_settings(
            collect_statistics(content, ['person'], Keypoints([], False)), None
        )
        assert settings.heads == left


# The tool


@pytest.fixture
def photos(tmp_path):
    folder = tmp_path / 'photos'
    folder.mkdir()
    content = _content([(64, 48)] * 4, [(i, [5, 5, 30, 40]) for i in range(1, 5)])
    for image in content['images']:
        cv2.imwrite(str(folder / image['file_name']), np.full((48, 64, 3), 90, np.uint8))
    return folder, content


def _run(photos, *argv, change=lambda content: None, out='out'):
    folder, content = photos
    content = json.loads(json.dumps(content))
    change(content)
    file = folder.parent / 'ann.json'
    file.write_text(json.dumps(content))
    argv = [str(each) for each in argv]
    if not {'--from-scratch', '--base'} & set(argv):
        argv.append('--from-scratch')
    return finetune.main(
        [str(folder), str(file), '--work-dir', str(folder.parent / out), '--no-train', *argv]
    )


def _clear(field):
    def change(content):
        for ann in content['annotations']:
            del ann[field]

    return change


def _set(**fields):
    def change(content):
        for ann in content['annotations']:
            ann.update(fields)

    return change


def _names(*names):
    def change(content):
        content['categories'][0]['keypoints'] = list(names)

    return change


def _rename_files(content):
    for image in content['images']:
        image['file_name'] = 'no_' + image['file_name']


@pytest.mark.parametrize(
    'change, argv, message',
    [
        (lambda c: c.update(annotations=[]), [], 'annotations: expected some'),
        (lambda c: c.pop('annotations'), [], 'annotations: expected some'),
        (_set(category_id=7), [], 'category_id.*none. Correct'),
        (_set(bbox=[0.1, 0.1, 0.5, 0.5]), [], 'fraction'),
        (_set(iscrowd=1), [], 'expected an instance'),
        (_rename_files, [], 'found none of 4.*no_1.png'),
        (_names('nose', 'tail'), [], 'expected 17 distinct names'),
        (_set(keypoints=[1, 1, 2] * 3), [], 'expected 3 distinct names'),
        (
            lambda c: (_set(keypoints=[1, 1, 2] * 3)(c), _names()(c)),
            [],
            'names of the 3 keypoints.*--metainfo',
        ),
        (
            lambda c: c['annotations'][0].update(keypoints=[1, 1, 2]),
            ['--val'],
            'expected no issues',
        ),
        (
            lambda c: c.update(images=c['images'][:1]),
            ['--hold-out', '0.5'],
            'expected enough to validate on.*1 images',
        ),
        (None, ['--classes', 'dog'], "expected 'dog', found"),
        (None, ['--base', 'none.pth'], 'none.pth.*--from-scratch'),
        (None, ['--cfg-options', 'train_pipeline.99.prob=2'], 'cfg-options'),
        (None, ['--metainfo', 'none.py'], 'no dataset meta file'),
    ],
)
def test_invalid_input_raises_and_leaves_no_files(photos, change, argv, message):
    good = photos[0].parent / 'good.json'
    good.write_text(json.dumps(photos[1]))
    if argv == ['--val']:  # broken there: fine for training, not for a test
        bad = photos[0].parent / 'val.json'
        content = json.loads(good.read_text())
        change(content)
        bad.write_text(json.dumps(content))
        argv, change = ['--val', bad], None
    with pytest.raises(SystemExit) as ended:
        _run(photos, *argv, change=change or (lambda content: None))
    text = str(ended.value)
    assert re.search(message, text, re.S), text
    assert not (photos[0].parent / 'out').exists()


@pytest.mark.parametrize(
    'change, heads',
    [
        (_clear('keypoints'), dict(keypoint_head=False, mask_head=True)),
        (
            lambda c: (_clear('keypoints')(c), _clear('segmentation')(c)),
            dict(keypoint_head=False, mask_head=False),
        ),
        (_names(), dict(keypoint_head=True, mask_head=True)),  # COCO's by number
        (lambda c: c.update(images=c['images'][:1]), dict(keypoint_head=True, mask_head=True)),
    ],
)
def test_labeled_tasks_are_trained(photos, change, heads, capsys):
    assert _run(photos, change=change) == 0
    cfg = Config.fromfile(photos[0].parent / 'out/config.py')
    for name, there in heads.items():
        assert bool(cfg.model.roi_head[name]) == there
    assert 'Settings' in capsys.readouterr().out


def test_missing_images_are_reported_and_files_kept(photos, capsys):
    (photos[0] / '2.png').unlink()
    assert _run(photos) == 0
    shown = capsys.readouterr().out
    assert '1 of 4 images are missing' in shown and '2.png' in shown
    assert 'images         3, median 64 x 48' in shown
    config = photos[0].parent / 'out/config.py'
    before = config.read_text()
    with pytest.raises(SystemExit, match='nothing is overwritten'):
        _run(photos, '--iterations', '9')
    assert config.read_text() == before


def test_meta_file_of_other_keypoints(photos):
    def change(content):
        _set(keypoints=[9, 9, 2] * 3)(content)
        content['categories'][0].update(
            keypoints=['left_wing', 'right_wing', 'nose'], skeleton=[[1, 3], [2, 3], [0, 9]]
        )

    assert _run(photos, change=change) == 0
    folder = photos[0].parent / 'out'
    cfg = Config.fromfile(folder / 'config.py')
    meta = load_meta_file(cfg.metainfo.from_file)
    assert meta['flip_indices'] == [1, 0, 2]
    assert meta['sigmas'] == [0.07, 0.07, 0.026]
    assert [tuple(each) for each in meta['skeleton_links']] == [(0, 2), (1, 2)]
    assert cfg.model.roi_head.keypoint_head.num_keypoints == 3


def test_written_config_is_trained(photos, monkeypatch):
    """The runner gets the written config, with --cfg-options."""
    trained = []
    monkeypatch.setattr(
        'multitask_refine.apis.train.Runner.from_cfg',
        lambda cfg: (trained.append(cfg), types.SimpleNamespace(train=lambda: None))[1],
    )
    folder = photos[0].parent / 'out'
    options = [
        'model.roi_head.bbox_head.fc_out_channels=64',
        'param_scheduler.1.eta_min=1e-5',
        'val_cfg.type=ValLoop',
    ]
    assert _run(photos, '--hold-out', '0.5', '--cfg-options', *options) == 0
    (folder / 'train').mkdir()
    (folder / 'train/last_checkpoint').write_text('iter_1.pth')
    finetune.run(folder / 'config.py', validated=False)
    written = Config.fromfile(folder / 'config.py')
    (cfg,) = trained
    assert cfg.work_dir == str(folder / 'train')
    for name in written:
        if name != 'train_dataloader':  # read_config takes worker settings
            assert cfg[name] == written[name], name
    assert cfg.model.roi_head.bbox_head.fc_out_channels == 64
    assert cfg.model.roi_head.bbox_head.num_classes == 1
    assert cfg.param_scheduler[1].eta_min == 1e-5
    parts = [json.loads((folder / f'{part}.json').read_text()) for part in ('train', 'val')]
    ids = [{image['id'] for image in part['images']} for part in parts]
    assert not ids[0] & ids[1] and ids[0] | ids[1] == {1, 2, 3, 4}
    assert cfg.val_dataloader.dataset.ann_file == str(folder / 'val.json')


# The benchmark


def test_subsets_grow_and_runs_are_summarized():
    content = _content([(9, 9)] * 8, [(i, [0, 0, 4, 4]) for i in range(1, 9)])
    chosen = [
        {image['id'] for image in few_photos.choose_photos(content, number, 3)['images']}
        for number in (2, 5, 8)
    ]
    assert [len(each) for each in chosen] == [2, 5, 8]
    assert chosen[0] < chosen[1] < chosen[2]
    runs = [
        dict(
            setting=name,
            seconds=seconds,
            metrics=dict(bbox_AP=value, segm_AP=2 * value, keypoints_AP=0.0),
        )
        for name, value, seconds in (('a', 10.0, 5.0), ('a', 14.0, None), ('b', 1.0, None))
    ]
    summary = few_photos.summarize(runs)
    assert summary['a'] == dict(
        runs=2,
        bbox=dict(mean=12.0, std=2.83),
        segm=dict(mean=24.0, std=5.66),
        keypoints=dict(mean=0.0, std=0.0),
        seconds=5.0,
    )
    assert summary['b']['bbox'] == dict(mean=1.0, std=None)
    assert summary['b']['seconds'] is None


def test_results_page(tmp_path):
    row = dict(
        runs=3,
        seconds=61.4,
        bbox=dict(mean=50.04, std=1.26),
        segm=dict(mean=42.0, std=None),
        keypoints=dict(mean=38.0, std=0.5),
    )
    machine = dict(device='CPU', torch='2', mmcv='2', mmdet='3')
    content = dict(
        summary={'base, rb-h, 54 photos': row},
        base='base.pth',
        base_sha256='0' * 64,
        data_sha256='1' * 64,
        run=dict(command='python x', commit='c', date='d', machine=machine),
    )
    path = tmp_path / 'few-photos.json'
    path.write_text(json.dumps(content))
    page = results_page.sections(tmp_path)['few-photos']
    assert re.search(
        r'base, rb-h, 54 photos +\| +3 \| 50.0 ± 1.3 \| +42.0 \| '
        r'38.0 ± 0.5 \| +61 \|',
        page,
    )
    path.write_text(json.dumps(dict(content, summary={'a': {}})))
    with pytest.raises(ResultsError, match='few-photos.*few_photos.py writes, found KeyError'):
        results_page.sections(tmp_path)


def test_base_checkpoint_config():
    cfg = Config.fromfile(ROOT / 'configs/_base_/base_checkpoint.py')
    assert cfg.load_from.startswith('checkpoints/')
