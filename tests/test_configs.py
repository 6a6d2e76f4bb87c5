"""Every shipped config trains, validates, resumes, tests and exports."""
import json
import shutil

import pytest
import torch
from mmengine.config import Config
from mmengine.config import config as mmengine_config

from projects.multitask_refine.deployment import export
from tests.conftest import ROOT
from tests.shrink import shrink
from tests.trainings import same
from tools import test, train

LEAVES = sorted(
    file for file in (ROOT / 'configs').rglob('*.py')
    if '_base_' not in file.parts)


@pytest.fixture
def data_root(scene, tmp_path):
    return shutil.copytree(scene, tmp_path / 'data')


@pytest.fixture(autouse=True)
def unformatted(monkeypatch):
    """Formatting each config as Python takes longer than the training."""
    monkeypatch.setattr(mmengine_config, 'FormatCode',
                        lambda text, style_config: (text, True))


@pytest.mark.parametrize(
    'leaf', LEAVES, ids=lambda leaf: f'{leaf.parent.name}/{leaf.stem}')
def test_config_runs_from_training_to_test(leaf, data_root, tmp_path):
    """Killed after the first of two iterations, before its validation."""
    cfg = shrink(Config.fromfile(leaf), data_root)
    unbroken, stopped = tmp_path / 'unbroken', tmp_path / 'stopped'
    train.main([_write(cfg, tmp_path / 'unbroken.py'),
                '--work-dir', str(unbroken)])
    (best, ) = unbroken.glob('best_*.pth')
    stopped.mkdir()
    shutil.copy(unbroken / 'iter_1.pth', stopped)
    train.main([_write(cfg, tmp_path / 'stopped.py'),
                '--work-dir', str(stopped), '--resume'])
    first, second = (
        torch.load(folder / 'iter_2.pth', weights_only=True)
        for folder in (unbroken, stopped))
    for part in ('state_dict', 'optimizer', 'param_schedulers'):
        assert same(first[part], second[part]), part
    assert len(second['message_hub']['log_scalars']['train/loss'].data[0]) == 2
    assert (stopped / best.name).is_file()
    assert test.main([_write(cfg, tmp_path / 'tested.py'), str(best),
                      '--work-dir', str(tmp_path / 'tested')]) == 0
    _check_results(cfg, tmp_path / 'tested')


def _check_results(cfg, folder):
    if cfg.test_evaluator.get('format_only'):
        assert (folder / 'submission.json').is_file()
        return
    metrics = json.loads((folder / 'metrics.json').read_text())
    head = cfg.model.roi_head
    tasks = {'bbox': True, 'segm': head.get('mask_head'),
             'keypoints': head.get('keypoint_head')}
    assert metrics['run']['num_images'] == 3
    for task, there in tasks.items():
        assert (f'{task}_AP' in metrics) == bool(there), task


def _write(cfg, file):
    """The config as a file that tools can read."""
    cfg.experiment_name = f'{file.parent.name}-{file.stem}'
    cfg.dump(file)
    return str(file)
