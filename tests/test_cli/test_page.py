"""docs/command-line.md: its verbs, and its examples, which are run on the smallest networks."""

import json
import pickle
import re
import shlex
import shutil

import cv2
import pytest
import torch

from multitask_cli.main import VERBS, main, multitask
from multitask_refine.apis import VideoWriter
from multitask_runtime.model_index import find_model
from tests.conftest import ROOT
from tests.test_converters.test_conversion import _detectron2
from tests.test_pretrained.test_checkpoints import KEYPOINT, small_config
from tests.test_runtime.onnx_files import make_file

pytestmark = pytest.mark.slow

TEXT = (ROOT / 'docs/command-line.md').read_text()
EXAMPLES = re.findall(r'^    (multitask \w+ .*)$', TEXT.partition('## Examples')[2], re.M)
# Options that make a run short; the last setting of a name counts.
SHORTER = {'train': ['--cfg-options', 'train_cfg.max_iters=2']}
# What a verb leaves in the working directory; other verbs print.
WRITTEN = {
    'predict': 'outputs/predictions.json',
    'track': 'outputs/predictions.json',
    'train': 'work_dirs/run/iter_2.pth',
    'test': 'images/000000000001.png',
    'export': 'model.onnx',
    'convert': 'converted.pth',
    'check': 'repaired.json',
}


def test_table_has_every_verb():
    assert re.findall(r'^\| `([\w-]+)` \|', TEXT, re.M) == list(VERBS)


@pytest.fixture
def folder(network, photos, scene, tmp_path, monkeypatch):
    """A working directory with what the examples name."""
    monkeypatch.chdir(tmp_path)
    shutil.copy(photos[0], 'photo.jpg')
    (tmp_path / 'photos').mkdir()
    for path in photos:
        shutil.copy(path, 'photos')
    writer = VideoWriter(tmp_path / 'video.mp4', 10)
    for path in photos:
        writer.write(cv2.imread(path))
    writer.close()
    make_file(tmp_path / 'model.onnx')
    shutil.copy(network.config, 'CONFIG.py')
    # Scores that are not all 1, where rounding would decide who is best.
    content = torch.load(network.checkpoint, weights_only=True)
    content['state_dict']['roi_head.bbox_head.fc_cls.weight'] /= 10
    torch.save(content, 'CHECKPOINT.pth')
    shutil.copy(scene / 'annotations/person_keypoints_val2017.json', 'annotations.json')
    small_config(tmp_path / 'small.py', find_model(KEYPOINT))
    weights = pickle.dumps(dict(model=_detectron2(keypoints=True)))
    (tmp_path / 'model_final_a6e10b.pkl').write_bytes(weights)
    return tmp_path


@pytest.mark.parametrize('example', EXAMPLES)
def test_examples_run(example, folder, monkeypatch, capsys):
    _, verb, *argv = shlex.split(example)
    if verb == 'serve':  # runs until it is stopped; tests/test_cli/test_serve.py starts it
        multitask.get_command(None, verb).make_context(verb, argv)
        return
    paths = str(folder / 'CONFIG.py'), str(folder / 'CHECKPOINT.pth')
    # Downloads of public models are those of tests/test_pretrained.
    for module in ('apis.inferencer', 'pretrained'):
        monkeypatch.setattr(f'multitask_refine.{module}.prepare_model', lambda *_: paths)
    places = dict(CONFIG='small.py' if verb == 'convert' else paths[0], CHECKPOINT=paths[1])
    if verb == 'export':
        (folder / 'model.onnx').unlink()
    argv = [places.get(each, each) for each in argv] + SHORTER.get(verb, [])
    assert main([verb, *argv]) == 0
    if verb in WRITTEN:
        assert (folder / WRITTEN[verb]).stat().st_size > 0
    else:
        assert paths[1] in capsys.readouterr().out
    if verb == 'track':
        content = json.loads((folder / WRITTEN[verb]).read_text())
        assert all('track_id' in each for each in content['annotations'])
