"""Every shipped config: name, header, README; training, resume, test, export."""

import json
import re
import shutil

import pytest
import torch
from mmdet.registry import MODELS
from mmengine.config import Config

from multitask_cli import test, train
from multitask_refine.deployment import ExportError, export
from multitask_refine.utils.safe_checkpoint import load_checkpoint_file
from tests.config_kinds import (
    LEAVES,
    NETWORKS_WITH_ALL_PARTS,
    RUNS_WITH_ALL_PARTS,
    SETTINGS,
    module_types,
)
from tests.conftest import ROOT
from tests.shrink import cheap_parts, shrink
from tests.trainings import same

HEADER = re.compile(
    r'# Command: (?P<command>(?:bash tools/dist_train\.sh|python tools/t\w+\.py) CONFIG.*)\n'
    r'# Cost: (?P<iterations>\d+) iterations of (?P<images>\d+) images; .+\.\n'
    r'# Expected result: (?P<result>.+)\.\n'
)


def read_header(leaf):
    """The fields of the comment that a config begins with."""
    match = HEADER.match(leaf.read_text())
    assert match, f'{leaf.name}: expected the lines # Command, # Cost, # Expected result'
    return match.groupdict()


@pytest.mark.parametrize('leaf', LEAVES, ids=lambda leaf: f'{leaf.parent.name}/{leaf.stem}')
def test_name_and_header_agree_with_the_settings(leaf):
    *_, batch, _ = leaf.stem.split('_')
    processes, batch_size, number, kilo = re.fullmatch(
        r'(\d+)xb(\d+)-(?:[a-z]+-)*(\d+)(k?)', batch
    ).groups()
    iterations, images = int(number) * (1000 if kilo else 1), int(processes) * int(batch_size)
    header, cfg = read_header(leaf), SETTINGS[leaf.stem]
    assert cfg.train_cfg.max_iters == iterations == int(header['iterations'])
    assert cfg.train_dataloader.batch_size == int(batch_size)
    assert images == int(header['images'])
    # --auto-scale-lr scales from the batch size that the learning rate is for.
    if cfg.get('auto_scale_lr') and '1xb3' not in batch:
        assert cfg.auto_scale_lr.base_batch_size == images
    if 'dist_train.sh' in header['command']:
        assert f'CONFIG {processes}' in header['command']


@pytest.mark.parametrize('leaf', LEAVES, ids=lambda leaf: f'{leaf.parent.name}/{leaf.stem}')
def test_expected_result_is_that_of_a_results_file(leaf):
    expected = read_header(leaf)['result'].split(',')[0]
    if expected == 'not measured' or expected.endswith('.md'):
        assert expected == 'not measured' or (ROOT / expected).is_file()
        return
    path = ROOT / expected
    files = [path] if path.is_file() else list(path.glob(f'{leaf.stem}_seed*.json'))
    assert files
    assert {json.loads(file.read_text())['run']['config'] for file in files} == {leaf.name}


@pytest.mark.parametrize('folder', sorted({leaf.parent for leaf in LEAVES}), ids=lambda x: x.name)
def test_readme_lists_every_config(folder):
    rows = re.findall(
        r'^\| \[(.+)\]\((.+)\.py\) \| .+ \| (.+) \| (.+) \|$',
        (folder / 'README.md').read_text(),
        re.MULTILINE,
    )
    assert all(name == link for name, link, *_ in rows)
    headers = {leaf.stem: read_header(leaf) for leaf in LEAVES if leaf.parent == folder}
    assert {name: (cost, result) for name, _, cost, result in rows} == {
        name: (f'{header["iterations"]} x {header["images"]}', header['result'])
        for name, header in headers.items()
    }


@pytest.fixture
def data_root(scene, tmp_path):
    return shutil.copytree(scene, tmp_path / 'data')


@pytest.fixture(autouse=True)
def cheap():
    with cheap_parts():
        yield


@pytest.mark.parametrize('leaf', RUNS_WITH_ALL_PARTS, ids=lambda leaf: leaf.stem)
@pytest.mark.exhaustive
def test_configs_with_all_parts_run_from_training_to_test(leaf, data_root, tmp_path):
    """Train two iterations, remove the second checkpoint, resume, compare, test."""
    cfg, work_dir = shrink(Config.fromfile(leaf), data_root), tmp_path / 'work'
    train.main([_write(cfg, tmp_path / 'unbroken.py'), '--work-dir', str(work_dir)])
    # One for each validated dataset.
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


@pytest.mark.parametrize(
    'leaf',
    [leaf for leaf in NETWORKS_WITH_ALL_PARTS if leaf.parent.name != 'sample'],
    ids=lambda leaf: leaf.stem,
)
@pytest.mark.exhaustive
def test_networks_with_all_parts_are_exported(leaf, data_root, tmp_path):
    """The exporter compares the outputs with PyTorch before it writes the file.

    tests/test_deployment exports the variants of the sample.
    """
    pytest.importorskip('onnxruntime')
    cfg = shrink(Config.fromfile(leaf), data_root)
    torch.manual_seed(0)
    network = MODELS.build(cfg.model)
    network.init_weights()
    torch.save(network.state_dict(), tmp_path / 'weights.pth')
    if outside := {'DarkRoIHeatmapCodec', 'MaskBoxRefiner'} & set(module_types(cfg.model)):
        with pytest.raises(ExportError, match=f'(?s)found .*{outside.pop()}'):
            export(cfg, tmp_path / 'weights.pth', tmp_path / 'out.onnx')
        return
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
    for task, enabled in tasks.items():
        assert (f'{task}_AP' in metrics) == bool(enabled), task


def _write(cfg, file):
    """Write a merged config to a file."""
    cfg.experiment_name = f'{file.parent.name}-{file.stem}'
    cfg.dump(file)
    return str(file)
