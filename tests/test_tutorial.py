"""docs/tutorial.md does what it says, on drawn people with five joints."""
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import cv2
import pytest
from mmdet.registry import MODELS
from mmengine.config import Config

from tests.conftest import ROOT
from tools.dataset import make_sample

JOINTS = (0, 9, 10, 15, 16)  # nose, wrists, ankles of the drawn 17
TEXT = (ROOT / 'docs/tutorial.md').read_text()


def _blocks(language):
    return re.findall(rf'```{language}\n(.*?)```', TEXT, re.S)


def _keep_five_joints(path):
    content = json.loads(path.read_text())
    for ann in content['annotations']:
        points = ann['keypoints']
        ann['keypoints'] = [value for joint in JOINTS
                            for value in points[3 * joint:3 * joint + 3]]
        ann['num_keypoints'] = sum(v > 0 for v in ann['keypoints'][2::3])
    for category in content['categories']:
        category['keypoints'] = ['head', 'left_hand', 'right_hand',
                                 'left_foot', 'right_foot']
        category.pop('skeleton', None)
    path.write_text(json.dumps(content))


@pytest.fixture(scope='module')
def folder(tmp_path_factory) -> Path:
    """A project folder with the tutorial's files, and data as it asks."""
    folder = tmp_path_factory.mktemp('tutorial')
    for name in ('configs', 'demo', 'projects', 'tools'):
        (folder / name).symlink_to(ROOT / name)
    data = folder / 'my_project/data'
    data.parent.mkdir()
    make_sample.main([str(data), '--size', '96', '--train', '6', '--val', '2'])
    for path in (data / 'annotations').glob('person_keypoints_*.json'):
        _keep_five_joints(path)
    for block in _blocks('python'):
        name = re.match(r'# (my_project/\S+)\n', block)
        if name:
            (folder / name[1]).write_text(block)
    return folder


def _run_all(folder, iterations):
    """The commands, in one shell, with a shorter training."""
    commands = ''.join(_blocks('sh'))
    assert commands.count('tools/train.py') == 1
    commands = commands.replace(
        'my_project/run\n',
        'my_project/run --cfg-options '
        f'train_cfg.max_iters={iterations} train_dataloader.num_workers=0 '
        'train_dataloader.persistent_workers=False\n', 1)
    commands = commands.replace('iter_1500', f'iter_{iterations}')
    env = dict(os.environ, PYTHONPATH=str(folder), OMP_NUM_THREADS='1',
               PATH=f'{Path(sys.executable).parent}:{os.environ["PATH"]}')
    done = subprocess.run(
        ['bash', '-ec', commands], cwd=folder, env=env, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=300)
    assert done.returncode == 0, done.stdout[-3000:]


def test_from_data_to_pictures(folder):
    _run_all(folder, iterations=3)
    project = folder / 'my_project'
    annotations = json.loads(
        (project / 'data/annotations/person_keypoints_train2017.json'
         ).read_text())['annotations']
    shown = {ann['image_id'] for ann in annotations if not ann['iscrowd']}
    assert len(list((project / 'browse').iterdir())) == len(shown)
    metrics = json.loads((project / 'run/metrics.json').read_text())
    assert {'bbox_AP', 'segm_AP', 'keypoints_AP'} <= set(metrics)
    pictures = sorted((project / 'pictures').iterdir())
    assert len(pictures) == 2
    assert cv2.imread(str(pictures[0])).shape[1] % 2 == 0
    assert len(list((project / 'found').rglob('*.jpg'))) == 2


def test_network_for_photos_is_built(folder):
    """The lines of the last section, in place of those they replace."""
    (block, ) = [b for b in _blocks('python') if not b.startswith('# my_')]
    path = folder / 'my_project/photos.py'
    path.write_text(block)
    cfg = Config.fromfile(path)
    cfg.model.backbone.init_cfg = None
    head = MODELS.build(cfg.model).roi_head.keypoint_head
    assert head.heatmap_pred.out_channels == 5
    assert head.offset_pred.out_channels == 10
