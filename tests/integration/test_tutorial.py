"""Commands and config of docs/finetuning.md, on synthetic people with five keypoints."""

import importlib
import json
import re
import shlex

import cv2
import pytest
import torch
from mmdet.registry import MODELS
from mmengine.config import Config

from multitask_refine.datasets import load_meta_file
from tests.conftest import CONFIGS, ROOT
from tools.dataset import make_sample

NAMES = dict(
    head='nose',
    left_hand='left_wrist',
    right_hand='right_wrist',
    left_foot='left_ankle',
    right_foot='right_ankle',
)
COCO = list(load_meta_file('coco.py')['keypoint_name2id'])
TEXT = (ROOT / 'docs/finetuning.md').read_text()


def _blocks(language):
    return re.findall(rf'```{language}\n(.*?)```', TEXT, re.S)


def _keep_five_keypoints(content):
    indices = [COCO.index(name) for name in NAMES.values()]
    for ann in content['annotations']:
        points = ann['keypoints']
        ann['keypoints'] = [
            value for index in indices for value in points[3 * index : 3 * index + 3]
        ]
        ann['num_keypoints'] = sum(v > 0 for v in ann['keypoints'][2::3])
    # The category of the tutorial.
    return dict(content, categories=json.loads(*_blocks('json'))['categories'])


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    """A project folder with the tutorial's files, and a base of random
    weights."""
    folder = tmp_path_factory.mktemp('tutorial')
    project = folder / 'my_project'
    make_sample.main([str(folder), '--size', '96', '--train', '6', '--val', '2', '--workers', '1'])
    project.mkdir()
    (folder / 'train2017').rename(project / 'photos')
    for photo in (folder / 'val2017').iterdir():
        photo.rename(project / 'photos' / f'val_{photo.name}')
    for split in ('train', 'val'):
        content = json.loads(
            (folder / f'annotations/person_keypoints_{split}2017.json').read_text()
        )
        for image in content['images'] if split == 'val' else ():
            image['file_name'] = f'val_{image["file_name"]}'
        (project / f'{split}.json').write_text(json.dumps(_keep_five_keypoints(content)))
    cfg = Config.fromfile(CONFIGS / '_base_/models/multitask-rcnn_r26-w24_fpn-ms_regular.py')
    model = MODELS.build(cfg.model)
    model.init_weights()
    torch.save(
        dict(
            state_dict=model.state_dict(),
            meta=dict(dataset_meta=load_meta_file('coco.py') | dict(classes=('person',))),
        ),
        folder / 'base.pth',
    )
    return folder


@pytest.mark.exhaustive
def test_commands_of_the_tutorial(folder, monkeypatch, capsys):
    monkeypatch.chdir(folder)
    project = folder / 'my_project'
    for line in ''.join(_blocks('sh')).splitlines():
        python, tool, *argv = shlex.split(line)
        assert python == 'python' and (ROOT / tool).is_file()
        if tool == 'tools/finetune.py':
            argv += ['--base', str(folder / 'base.pth')]
            if '--no-train' not in argv:
                argv += [
                    '--iterations',
                    '2',
                    '--long-side',
                    '96',
                    '--cfg-options',
                    'train_dataloader.num_workers=0',
                    'model.backbone.norm_eval=False',
                ]
        checkpoint = sorted((project / 'run/train').glob('iter_*.pth'))
        argv = [str(checkpoint[-1]) if 'last_checkpoint.pth' in each else each for each in argv]
        module = importlib.import_module(tool[:-3].replace('/', '.'))
        assert module.main(argv) == 0, line
    shown = capsys.readouterr().out
    assert 'keypoints that start anew: none' in shown
    (log,) = (project / 'run/train').glob('*/*.log')
    assert (
        'from the checkpoint head, left_hand, right_hand, left_foot, '
        'right_foot; newly initialized none'
    ) in log.read_text()
    metrics = json.loads((project / 'run/metrics.json').read_text())
    assert {'bbox_AP', 'segm_AP', 'keypoints_AP'} <= set(metrics)
    found = sorted((project / 'found').rglob('*.jpg'))
    assert len(found) == 8 and cv2.imread(str(found[0])) is not None
    other = Config.fromfile(project / 'other/config.py')
    assert other.train_dataloader.batch_size == 2
    assert other.optim_wrapper.optimizer.lr == 3e-4


def test_config_of_the_tutorial_is_built(folder):
    """The config of the last section."""
    (folder / 'configs').symlink_to(ROOT / 'configs')
    (block,) = _blocks('python')
    path = folder / 'my_project/photos.py'
    path.write_text(block)
    cfg = Config.fromfile(path)
    cfg.model.backbone.init_cfg = None
    head = MODELS.build(cfg.model).roi_head.keypoint_head
    assert head.heatmap_pred.out_channels == 5
    assert head.offset_pred.out_channels == 10
