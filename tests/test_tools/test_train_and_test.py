"""tools/train.py and tools/test.py by main(argv), and mim in real processes."""

import json
import os
import pickle
import runpy
import subprocess
import sys
from pathlib import Path

import cv2
import mmdet
import pytest
import torch

from multitask_cli import test, train
from multitask_refine.apis.train import configure_training
from multitask_refine.utils.safe_checkpoint import load_checkpoint_file
from tests.conftest import ROOT, SAMPLE_CONFIG, as_arguments, tiny_options

pytestmark = pytest.mark.slow


def _options(scene):
    return as_arguments(tiny_options(scene))


@pytest.fixture(scope='module')
def trained(scene, tmp_path_factory):
    """Work dir of a training of two iterations."""
    work_dir = tmp_path_factory.mktemp('trained')
    assert (
        train.main(
            [str(SAMPLE_CONFIG), '--work-dir', str(work_dir), '--seed', '3', *_options(scene)]
        )
        == 0
    )
    return work_dir


def test_training_writes_checkpoints_and_log(trained):
    assert (trained / 'iter_1.pth').is_file()
    assert (trained / 'iter_2.pth').is_file()
    (log,) = trained.glob('*/*.log')
    text = log.read_text()
    for key in ('loss_keypoint', 'loss_mask', 'loss_cls', 'eta:'):
        assert key in text
    assert '| keypoints |' in text  # the table of the validation


def test_resume_continues_training(trained, scene, tmp_path):
    options = _options(scene)
    options[options.index('train_cfg.max_iters=2')] = 'train_cfg.max_iters=3'
    train.main(
        [
            str(SAMPLE_CONFIG),
            '--work-dir',
            str(tmp_path),
            '--resume',
            str(trained / 'iter_2.pth'),
            *options,
        ]
    )
    assert not (tmp_path / 'iter_2.pth').exists()
    state = load_checkpoint_file(tmp_path / 'iter_3.pth')
    assert state['meta']['iter'] == 3


def test_testing_writes_results_images_and_predictions(trained, scene, tmp_path):
    checkpoint = trained / 'iter_2.pth'
    assert (
        test.main(
            [
                str(SAMPLE_CONFIG),
                str(checkpoint),
                '--work-dir',
                str(tmp_path),
                '--json',
                str(tmp_path / 'results' / 'm.json'),
                '--show-dir',
                str(tmp_path / 'drawings'),
                '--score-thr',
                '0',
                '--out',
                str(tmp_path / 'predictions.pkl'),
                *_options(scene),
            ]
        )
        == 0
    )
    results = json.loads((tmp_path / 'results' / 'm.json').read_text())
    for name in ('bbox_AP', 'segm_AP', 'keypoints_AP50', 'keypoints_APL'):
        assert results[name] is None or 0 <= results[name] <= 100
    assert results['run']['num_images'] == 3
    assert results['run']['config'] == SAMPLE_CONFIG.name
    assert len(results['run']['checkpoint_sha256']) == 64
    assert results['run']['trained_with'] == SAMPLE_CONFIG.stem
    assert (results['run']['seed'], results['run']['iteration']) == (3, 2)
    drawings = sorted((tmp_path / 'drawings').iterdir())
    assert len(drawings) == 3
    assert cv2.imread(str(drawings[0])).shape == (48, 128, 3)
    with open(tmp_path / 'predictions.pkl', 'rb') as file:
        assert len(pickle.load(file)) == 3


def test_weights_of_another_variant_are_refused(trained, scene, tmp_path):
    regular = str(SAMPLE_CONFIG).replace('rb-h', 'regular')
    with pytest.raises(SystemExit, match='not the weights of this config'):
        test.main(
            [regular, str(trained / 'iter_2.pth'), '--work-dir', str(tmp_path), *_options(scene)]
        )


def test_options_become_settings(scene, tmp_path):
    options = dict(
        work_dir=str(tmp_path), amp=True, resume='auto', cfg_options={'load_from': 'base.pth'}
    )
    cfg = configure_training(str(SAMPLE_CONFIG), **options)
    assert cfg.optim_wrapper.type == 'AmpOptimWrapper'
    # Nothing to go on from: the start is that of a run without --resume.
    assert not cfg.resume and cfg.load_from == 'base.pth'
    torch.save(dict(a=1), tmp_path / 'iter_1.pth')
    cfg = configure_training(str(SAMPLE_CONFIG), **options)
    assert cfg.resume and cfg.load_from == str(tmp_path / 'iter_1.pth')
    with pytest.raises(ValueError, match='base_batch_size'):
        configure_training(str(SAMPLE_CONFIG), auto_scale_lr=True)


def test_missing_config_is_named():
    with pytest.raises(SystemExit, match='nothing.py'):
        train.main(['nothing.py'])


def _run(command, tmp_path):
    env = dict(os.environ, PYTHONPATH=str(ROOT / 'projects'), OMP_NUM_THREADS='1')
    env['PATH'] = os.path.dirname(sys.executable) + ':' + env['PATH']
    env['PYTHON'] = sys.executable
    done = subprocess.run(
        command,
        cwd=ROOT,
        env=env,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout[-3000:]
    return done.stdout


@pytest.mark.exhaustive
def test_mim_trains_and_tests(scene, tmp_path):
    common = ['--gpus', '0', '--launcher', 'none', '--work-dir', str(tmp_path), *_options(scene)]
    mim = [sys.executable, '-m', 'mim']
    _run([*mim, 'train', 'mmdet', str(SAMPLE_CONFIG), *common], tmp_path)
    assert (tmp_path / 'iter_2.pth').is_file()
    out = _run(
        [
            *mim,
            'test',
            'mmdet',
            str(SAMPLE_CONFIG),
            '--checkpoint',
            str(tmp_path / 'iter_2.pth'),
            *common,
        ],
        tmp_path,
    )
    assert 'coco/keypoints_AP' in out


@pytest.mark.exhaustive
def test_mim_runs_mmdets_tools(trained, tmp_path):
    """docs/inference.md; browse_dataset is part of the tutorial's test."""
    pytest.importorskip('seaborn')
    (log,) = trained.glob('*/vis_data/2*.json')
    command = [sys.executable, '-m', 'mim', 'run', 'mmdet', 'analyze_logs', 'plot_curve', str(log)]
    curve = tmp_path / 'curve.png'
    _run([*command, '--keys', 'loss_keypoint', 'loss_mask', '--out', str(curve)], tmp_path)
    assert cv2.imread(str(curve)).std() > 0


@pytest.mark.exhaustive
def test_mmdets_tools_read_the_configs(scene, monkeypatch, capsys):
    """docs/inference.md; what mim starts in a process of its own."""

    def run_tool(path, *argv):
        script = Path(mmdet.__file__).parent / '.mim/tools' / path
        monkeypatch.setattr(sys, 'argv', [script.name, *argv])
        runpy.run_path(str(script), run_name='__main__')
        return capsys.readouterr().out

    out = run_tool('analysis_tools/get_flops.py', str(SAMPLE_CONFIG), *_options(scene))
    assert 'Flops: ' in out and 'Params: ' in out
    out = run_tool('misc/print_config.py', str(SAMPLE_CONFIG))
    assert "type='MultitaskRCNN'" in out
