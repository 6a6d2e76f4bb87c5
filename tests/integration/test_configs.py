"""Every shipped config trains, validates, resumes, tests and exports."""

import json
import shutil

import pytest
import torch
from mmdet.registry import MODELS
from mmengine.config import Config

from multitask_refine.apis import test, train
from multitask_refine.deployment import export
from multitask_refine.utils.safe_checkpoint import load_checkpoint_file
from tests.conftest import ROOT
from tests.shrink import cheap_parts, shrink
from tests.trainings import same

LEAVES = sorted(file for file in (ROOT / 'configs').rglob('*.py') if '_base_' not in file.parts)


@pytest.fixture
def data_root(scene, tmp_path):
    return shutil.copytree(scene, tmp_path / 'data')


@pytest.fixture(autouse=True)
def cheap():
    with cheap_parts():
        yield


@pytest.mark.parametrize('leaf', LEAVES, ids=lambda leaf: f'{leaf.parent.name}/{leaf.stem}')
def test_config_runs_from_training_to_test(leaf, data_root, tmp_path):
    """Two iterations; the second is lost by a kill and done again."""
    cfg, work_dir = shrink(Config.fromfile(leaf), data_root), tmp_path / 'work'
    train.main([_write(cfg, tmp_path / 'unbroken.py'), '--work-dir', str(work_dir)])
    # One for each data set that is validated.
    best, *others = sorted(work_dir.glob('best_*.pth'))
    assert len(others) + 1 == len(cfg.val_dataloader.dataset.get('datasets', [None]))
    unbroken = load_checkpoint_file(work_dir / 'iter_2.pth')
    (work_dir / 'iter_2.pth').unlink()
    train.main([_write(cfg, tmp_path / 'resumed.py'), '--work-dir', str(work_dir), '--resume'])
    resumed = load_checkpoint_file(work_dir / 'iter_2.pth')
    assert unbroken.keys() == resumed.keys()
    for part in {
        'state_dict',
        'optimizer',
        'param_schedulers',
        'ema_state_dict',
    } & unbroken.keys():
        assert same(unbroken[part], resumed[part]), part
    losses = resumed['message_hub']['log_scalars']['train/loss'].data[0]
    assert len(losses) == 2 and (losses > 0).all()
    assert (
        test.main(
            [
                _write(cfg, tmp_path / 'tested.py'),
                str(best),
                '--work-dir',
                str(tmp_path / 'tested'),
            ]
        )
        == 0
    )
    _check_results(cfg, tmp_path / 'tested')


def _part_types(config):
    """The registered names of all parts of a network."""
    if isinstance(config, dict):
        for key, value in config.items():
            if key == 'type':
                yield value
            elif key not in ('train_cfg', 'init_cfg'):
                yield from _part_types(value)


def one_of_each_kind():
    kinds = {}
    for leaf in LEAVES:
        model = Config.fromfile(leaf).model
        heads = [model.roi_head.get(name) is not None for name in ('mask_head', 'keypoint_head')]
        kinds.setdefault((frozenset(_part_types(model)), *heads), leaf)
    return list(kinds.values())


@pytest.mark.parametrize('leaf', one_of_each_kind(), ids=lambda leaf: leaf.stem)
def test_each_kind_of_network_is_exported(leaf, data_root, tmp_path):
    """The exporter compares the file with PyTorch before it is written."""
    pytest.importorskip('onnxruntime')
    cfg = shrink(Config.fromfile(leaf), data_root)
    torch.manual_seed(0)
    network = MODELS.build(cfg.model)
    network.init_weights()
    torch.save(network.state_dict(), tmp_path / 'weights.pth')
    export(cfg, tmp_path / 'weights.pth', tmp_path / 'out.onnx')
    assert (tmp_path / 'out.onnx').stat().st_size > 10000


def _check_results(cfg, folder):
    if cfg.test_evaluator.get('format_only'):
        assert (folder / 'submission.json').is_file()
        return
    metrics = json.loads((folder / 'metrics.json').read_text())
    head = cfg.model.roi_head
    tasks = {'bbox': True, 'segm': head.get('mask_head'), 'keypoints': head.get('keypoint_head')}
    assert metrics['run']['num_images'] == 3
    for task, there in tasks.items():
        assert (f'{task}_AP' in metrics) == bool(there), task


def _write(cfg, file):
    """The config as a file that tools can read."""
    cfg.experiment_name = f'{file.parent.name}-{file.stem}'
    cfg.dump(file)
    return str(file)
