"""Experiment trackers: what they need, and that their libraries read what a training wrote."""

import importlib.util
import json
import os
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from mmengine.config import Config
from mmengine.registry import VISBACKENDS
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from multitask_cli import train
from multitask_refine.apis.test import configure_test
from multitask_refine.apis.train import configure_training
from multitask_refine.apis.vis_backends import add_vis_backends
from multitask_refine.visualization import vis_backends
from tests.conftest import SAMPLE_CONFIG, as_arguments, tiny_options

PACKAGES = ('tensorboard', 'wandb', 'mlflow', 'aim')
METRIC = 'coco/bbox_AR100'


def test_backends_are_added_once_after_those_of_the_config():
    cfg = Config(dict(visualizer=dict(type='A', vis_backends=dict(type='LocalVisBackend'))))
    add_vis_backends(cfg, ['wandb', 'tensorboard', 'wandb'])
    add_vis_backends(cfg, ['tensorboard', 'mlflow', 'aim'])
    assert cfg.visualizer.type == 'A'
    types = [backend.type for backend in cfg.visualizer.vis_backends]
    assert types[:2] == ['LocalVisBackend', 'OfflineWandbVisBackend']
    assert types[2:] == ['TensorboardVisBackend', 'LocalMLflowVisBackend', 'LocalAimVisBackend']
    bare = Config({})
    add_vis_backends(bare, ['tensorboard'])
    assert [backend.type for backend in bare.visualizer.vis_backends] == ['TensorboardVisBackend']


def test_without_names_the_config_stays():
    expected = Config.fromfile(SAMPLE_CONFIG).visualizer
    assert configure_training(str(SAMPLE_CONFIG)).visualizer == expected


@pytest.mark.parametrize('package', PACKAGES)
def test_missing_package_is_named_before_the_training(package, tmp_path, monkeypatch):
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, 'find_spec', lambda name: None if name == package else find_spec(name)
    )
    work_dir = tmp_path / 'run'
    command = [str(SAMPLE_CONFIG), '--work-dir', str(work_dir), '--vis-backends', package]
    with pytest.raises(SystemExit, match=f'package {package}.*pip install {package},'):
        train.main(command)
    if package == 'tensorboard':
        with pytest.raises(SystemExit, match='pip install tensorboard'):
            train.main([*command[:3], '--tensorboard'])
    assert not work_dir.exists()


@pytest.mark.parametrize(
    'configure, args', [(configure_training, ()), (configure_test, ('iter_1.pth',))]
)
def test_packages_of_mmengines_own_backends_are_required_too(configure, args, monkeypatch):
    monkeypatch.setattr(importlib.util, 'find_spec', lambda name: None)
    configure(str(SAMPLE_CONFIG), *args)
    own = {'visualizer.vis_backends.0.type': 'WandbVisBackend'}
    with pytest.raises(ValueError, match='WandbVisBackend needs the package wandb'):
        configure(str(SAMPLE_CONFIG), *args, cfg_options=own)


def test_runs_stay_on_this_machine_by_default(tmp_path, monkeypatch):
    for name in ('WANDB_MODE', 'WANDB_NAME', 'WANDB_ERROR_REPORTING', 'MLFLOW_DISABLE_TELEMETRY'):
        monkeypatch.setenv(name, '')  # restored after the test
        monkeypatch.delenv(name)

    def build(name, **settings):
        folder = tmp_path / 'run/20260101_000000/vis_data'
        return VISBACKENDS.build(dict(type=name, save_dir=str(folder), **settings))

    assert build('OfflineWandbVisBackend')._init_kwargs == dict(
        mode='offline', name='run/20260101_000000'
    )
    assert os.environ['WANDB_ERROR_REPORTING'] == 'false'
    monkeypatch.setenv('WANDB_MODE', 'online')
    assert build('OfflineWandbVisBackend')._init_kwargs['mode'] == 'online'
    mlflow = build('LocalMLflowVisBackend')
    assert mlflow._tracking_uri == f'sqlite:///{tmp_path}/run/mlflow.db'
    assert (mlflow._exp_name, mlflow._run_name) == ('run', '20260101_000000')
    assert os.environ['MLFLOW_DISABLE_TELEMETRY'] == 'true'
    server = build('LocalMLflowVisBackend', tracking_uri='http://server', exp_name='poses')
    assert (server._tracking_uri, server._artifact_location) == ('http://server', None)
    assert server._exp_name == 'poses'
    monkeypatch.setattr(vis_backends, '_TRACKING_URI', 'http://other')  # of the environment
    other = build('LocalMLflowVisBackend')
    assert (other._tracking_uri, other._artifact_location) == ('http://other', None)
    repo = f'{tmp_path}/run'
    assert build('LocalAimVisBackend')._init_kwargs == dict(repo=repo, experiment='run')


# One training of four iterations for all trackers that are installed


@pytest.fixture(scope='module')
def work_dir(scene, tmp_path_factory):
    folder = tmp_path_factory.mktemp('tracked')
    options = {**tiny_options(scene), 'train_cfg.max_iters': 4}
    installed = [package for package in PACKAGES if importlib.util.find_spec(package)]
    command = [str(SAMPLE_CONFIG), '--work-dir', str(folder), '--vis-backends', *installed]
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder.parent)
        former = set(Path.cwd().iterdir())
        for name in ('WANDB_MODE', 'WANDB_ERROR_REPORTING', 'MLFLOW_TRACKING_URI'):
            patch.setenv(name, '')
            patch.delenv(name)
        assert train.main([*command, *as_arguments(options)]) == 0
        assert set(Path.cwd().iterdir()) == former  # nothing outside the work dir
    return folder


@pytest.fixture(scope='module')
def expected(work_dir):
    """Return iterations and values of the loss and a metric, from MMEngine's own JSON."""
    (file,) = work_dir.glob('*/vis_data/scalars.json')
    records = [json.loads(line) for line in file.read_text().splitlines()]
    curves = {
        name: [(each['step'], each[name]) for each in records if name in each]
        for name in ('loss', METRIC)
    }
    assert [step for step, _ in curves['loss']] == [1, 2, 3, 4]
    assert [step for step, _ in curves[METRIC]] == [2, 4]
    return curves


def _assert_curves(found, expected):
    for name, points in expected.items():
        np.testing.assert_allclose(found[name], points, rtol=1e-6)


@pytest.mark.slow
def test_tensorboard_reads_the_run(work_dir, expected):
    (file,) = work_dir.glob('*/vis_data/events.*')
    events = EventAccumulator(str(file))
    events.Reload()
    found = {name: [(each.step, each.value) for each in events.Scalars(name)] for name in expected}
    _assert_curves(found, expected)
    assert 'config/text_summary' in events.Tags()['tensors']


@pytest.mark.slow
def test_mlflow_reads_the_run(work_dir, expected):
    mlflow = pytest.importorskip('mlflow', reason='needs mlflow (pip install mlflow)')
    client = mlflow.MlflowClient(f'sqlite:///{work_dir}/mlflow.db')
    experiment = client.get_experiment_by_name(work_dir.name)
    (run,) = client.search_runs([experiment.experiment_id])
    assert run.info.status == 'FINISHED'
    assert (work_dir / run.info.run_name / 'vis_data').is_dir()
    assert run.data.params['model.type'] == 'MultitaskRCNN'
    found = {
        name: [
            (each.step, each.value) for each in client.get_metric_history(run.info.run_id, name)
        ]
        for name in expected
    }
    _assert_curves(found, expected)
    (artifact,) = client.list_artifacts(run.info.run_id)
    assert artifact.path == 'config.py'


@pytest.mark.slow
def test_aim_reads_the_run(work_dir, expected):
    aim = pytest.importorskip('aim', reason='needs aim (pip install aim)')
    # As `aim up` does; the library alone reads no run that was not indexed.
    subprocess.run(
        [Path(sys.executable).with_name('aim'), 'storage', '--repo', work_dir, 'reindex', '-y'],
        check=True,
        capture_output=True,
    )
    repo = aim.Repo.from_path(str(work_dir))
    (name,) = repo.list_all_runs()
    run = aim.Run(name, repo=repo, read_only=True)
    assert run['hparams']['model']['type'] == 'MultitaskRCNN'
    found = {
        each.name: each.dataframe()[['step', 'value']].to_numpy()
        for each in run.metrics()
        if each.name in expected
    }
    _assert_curves(found, expected)


@pytest.mark.slow
def test_wandbs_offline_file_holds_the_run(work_dir, expected):
    pytest.importorskip('wandb', reason='needs wandb (pip install wandb)')
    from wandb.proto.wandb_internal_pb2 import Record

    (file,) = work_dir.glob('*/vis_data/wandb/offline-run-*/run-*.wandb')
    records = [Record.FromString(each) for each in _read_leveldb_log(file.read_bytes())]
    rows = [
        {'/'.join(item.nested_key) or item.key: item.value_json for item in each.history.item}
        for each in records
        if each.WhichOneof('record_type') == 'history'
    ]
    found = {
        name: [(int(row['iteration']), float(row[name])) for row in rows if name in row]
        for name in expected
    }
    _assert_curves(found, expected)
    kinds = {each.WhichOneof('record_type') for each in records}
    assert {'run', 'config', 'exit'} <= kinds
    assert 'artifact' not in kinds  # the code of the current folder


def _read_leveldb_log(data):
    """Yield the records of a log in LevelDB's format, which W&B begins with 7 bytes.

    Blocks of 32 KiB hold parts of records: checksum (4 bytes), length (2), kind (1; 1 is a
    whole record, 2 to 4 are its first, middle and last part), content.
    """
    record, start = b'', 7
    while start < len(data):
        left = 2**15 - start % 2**15
        _, length, kind = struct.unpack_from('<IHB', data, start) if left >= 7 else (0, 0, 0)
        if kind == 0:  # the rest of a block
            start += left
            continue
        record += data[start + 7 : start + 7 + length]
        start += 7 + length
        if kind in (1, 4):
            yield record
            record = b''
