"""Launch scripts and mim, with real processes on the CPU."""

import json
import pickle
import re
import shutil
import subprocess
import sys

import pytest
import torch

from multitask_cli import test
from multitask_refine.utils.safe_checkpoint import load_checkpoint_file
from tests.conftest import ROOT, SAMPLE_CONFIG, tiny_options
from tests.integration.distributed.processes import free_port, run

CONFIG = str(SAMPLE_CONFIG)
MIM = [sys.executable, '-m', 'mim']


@pytest.fixture(scope='module')
def options(scene):
    """Options for one iteration of the smallest model on three images."""
    settings = dict(tiny_options(scene), **{'train_cfg.max_iters': 1})
    return [
        '--cfg-options',
        *(f'{name}={value}'.replace(' ', '') for name, value in settings.items()),
    ]


@pytest.fixture(scope='module')
def trained(options, tmp_path_factory):
    """Work dir of a training on two nodes with one process each."""
    work_dir = tmp_path_factory.mktemp('trained')
    command = [
        'bash',
        'tools/dist_train.sh',
        CONFIG,
        '1',
        '--work-dir',
        str(work_dir),
        '--seed',
        '3',
        *options,
    ]
    run(
        command,
        command,
        own=[dict(NODE_RANK='0'), dict(NODE_RANK='1')],
        NNODES='2',
        MASTER_ADDR='127.0.0.1',
        PORT=free_port(),
    )
    return work_dir


@pytest.fixture(scope='module')
def checkpoint(trained):
    return str(trained / 'iter_1.pth')


@pytest.fixture
def srun(tmp_path, monkeypatch):
    """Put a stand-in for Slurm on the PATH; returns the options of the last srun call."""
    folder = tmp_path / 'bin'
    folder.mkdir()
    script = ROOT / 'tests/integration/distributed/stand_in_srun.py'
    _write_command(folder / 'srun', f'exec "{sys.executable}" "{script}" "$@"')
    # `scontrol show hostname LIST` prints one machine per line.
    _write_command(folder / 'scontrol', '[ "$1 $2" = "show hostname" ] && echo localhost')
    record = tmp_path / 'srun.json'
    monkeypatch.setenv('PATH', str(folder), prepend=':')
    monkeypatch.setenv('SRUN_RECORD', str(record))
    return lambda: json.loads(record.read_text())


def _write_command(path, line):
    path.write_text(f'#!/bin/sh\n{line}\n')
    path.chmod(0o755)


def _log(work_dir):
    """Return the log of the main process."""
    (log,) = work_dir.glob('*/*.log')
    return log.read_text()


@pytest.mark.exhaustive
def test_two_nodes_train_as_one_run(trained, checkpoint):
    text = _log(trained)
    assert 'GPU number: 2' in text and 'Distributed launcher: pytorch' in text
    assert 'loss_keypoint' in text
    assert load_checkpoint_file(checkpoint)['meta']['iter'] == 1


@pytest.fixture
def one_thread():
    """One thread as on each rank; rounding depends on their number."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.exhaustive
def test_two_ranks_predict_the_same_as_one(checkpoint, options, one_thread, tmp_path):
    """With three images, the sampler assigns one of them to both ranks."""
    out = run(
        [
            'bash',
            'tools/dist_test.sh',
            CONFIG,
            checkpoint,
            '2',
            '--out',
            str(tmp_path / 'two.pkl'),
            '--work-dir',
            str(tmp_path / 'two'),
            *options,
        ],
        PORT=free_port(),
    )
    assert out.count('Results file:') == 1
    assert (
        test.main(
            [
                CONFIG,
                checkpoint,
                '--out',
                str(tmp_path / 'one.pkl'),
                '--work-dir',
                str(tmp_path / 'one'),
                *options,
            ]
        )
        == 0
    )
    one, two = (pickle.loads((tmp_path / f'{name}.pkl').read_bytes()) for name in ('one', 'two'))
    assert [image['img_id'] for image in one] == [1, 2, 3]
    assert [image['img_id'] for image in two] == [1, 2, 3]
    for single, shared in zip(one, two, strict=True):
        assert len(single['pred_instances']['scores']) > 0
        _assert_same(single['pred_instances'], shared['pred_instances'])
    one, two = (
        json.loads((tmp_path / name / 'metrics.json').read_text()) for name in ('one', 'two')
    )
    assert one.pop('run')['num_images'] == two.pop('run')['num_images'] == 3
    assert one == two


def _assert_same(single, shared):
    assert single.keys() == shared.keys()
    for key, value in single.items():
        if isinstance(value, torch.Tensor):
            torch.testing.assert_close(shared[key], value)
        else:  # masks in COCO's encoding
            assert shared[key] == value


@pytest.mark.exhaustive
def test_slurm_scripts_call_srun(srun, checkpoint, options, tmp_path):
    """tests/integration/test_faults.py runs the tasks."""
    run(
        [
            'bash',
            'tools/slurm_train.sh',
            'gpus',
            'a job',
            CONFIG,
            str(tmp_path / 'train'),
            *options,
        ],
        GPUS='2',
        GPUS_PER_NODE='1',
        CPUS_PER_TASK='3',
        SRUN_ARGS='--comment=x',
        SRUN_STARTS='0',
    )
    asked = srun()
    command = asked.pop('command')
    assert asked == dict(
        partition='gpus',
        job_name='a job',
        gres='gpu:1',
        ntasks=2,
        ntasks_per_node=1,
        cpus_per_task=3,
        kill_on_bad_exit=1,
        comment='x',
    )
    assert command[:3] == [sys.executable, '-u', f'{ROOT}/tools/train.py']
    assert command[3:] == [
        *('--launcher', 'slurm', CONFIG),
        *('--work-dir', str(tmp_path / 'train'), *options),
    ]

    run(
        [
            'bash',
            'tools/slurm_test.sh',
            'gpus',
            'job',
            CONFIG,
            checkpoint,
            '--work-dir',
            str(tmp_path / 'test'),
            *options,
        ],
        GPUS='1',
        SRUN_STARTS='0',
    )
    asked = srun()
    assert (asked['gres'], asked['ntasks'], asked['ntasks_per_node']) == ('gpu:1', 1, 1)
    assert asked['kill_on_bad_exit'] == 1
    assert asked['command'][:3] == [sys.executable, '-u', f'{ROOT}/tools/test.py']
    assert asked['command'][3:] == [
        *('--launcher', 'slurm', CONFIG, checkpoint),
        *('--work-dir', str(tmp_path / 'test'), *options),
    ]


def _run_mim(verb, *options, **variables):
    variables['PYTHONPATH'] = str(ROOT / 'projects')
    return run([*MIM, verb, 'mmdet', CONFIG, *options], **variables)


@pytest.mark.exhaustive
def test_mim_trains_on_two_ranks(options, tmp_path):
    """Without a launcher: tests/test_tools/test_train_and_test.py."""
    common = ['--launcher', 'pytorch', '--port', free_port(), '--work-dir', str(tmp_path)]
    _run_mim('train', '--gpus', '2', *common, *options)
    text = _log(tmp_path)
    assert 'GPU number: 2' in text
    assert 'Distributed launcher: pytorch' in text
    assert (tmp_path / 'iter_1.pth').is_file()


@pytest.mark.parametrize('verb', ['train', 'test'])
@pytest.mark.exhaustive
def test_mim_calls_srun(verb, srun, checkpoint, tmp_path):
    """The tasks themselves are those of tools/slurm_train.sh."""
    options = ['--launcher', 'slurm', '--gpus-per-node', '2', '--partition', 'gpus']
    options += ['--port', free_port(), '--work-dir', str(tmp_path)]
    options += ['--checkpoint', checkpoint] if verb == 'test' else []
    _run_mim(verb, '--gpus', '2', *options, SRUN_STARTS='0')
    asked = srun()
    assert (asked['partition'], asked['ntasks'], asked['ntasks_per_node']) == ('gpus', 2, 2)
    assert CONFIG in asked['command'] and '--launcher' in asked['command']


BAD = {
    'dist_train.sh': 'expected CONFIG and GPUS, found 0 arguments',
    'dist_train.sh no.py 2': 'CONFIG: expected a file, but there is none at',
    'dist_train.sh {config} two': 'GPUS: expected a whole number .* found .two',
    'dist_train.sh {config} 0': 'GPUS: expected a whole number from 1',
    'NNODES=2 dist_train.sh {config} 1': 'NNODES=2 needs MASTER_ADDR',
    'NNODES=2 MASTER_ADDR=a NODE_RANK=2 dist_train.sh {config} 1': (
        'NODE_RANK: expected a whole number from 0 to 1, but found .2'
    ),
    'PORT=70000 dist_train.sh {config} 1': 'PORT: expected',
    'dist_test.sh {config} no.pth 2': 'CHECKPOINT: expected a file',
    'dist_test.sh {config} {config}': 'expected CONFIG, CHECKPOINT and GPUS',
    'slurm_train.sh part job {config}': 'expected PARTITION, JOB, CONFIG and W',
    'GPUS=x slurm_train.sh part job {config} dir': 'GPUS: expected',
    'slurm_test.sh part job {config} no.pth': 'CHECKPOINT: expected a file',
    'slurm_train.sh part job {config} dir': 'srun: there is no such command',
}


@pytest.mark.parametrize('call', BAD)
def test_invalid_arguments_are_reported_before_anything_starts(call, tmp_path):
    for command in ('bash', 'dirname', 'basename'):  # and no srun
        (tmp_path / command).symlink_to(shutil.which(command))
    words = call.format(config=CONFIG).split()
    variables = dict(word.split('=') for word in words if '=' in word)
    script, *arguments = words[len(variables) :]
    done = subprocess.run(
        [tmp_path / 'bash', ROOT / 'tools' / script, *arguments],
        env=dict(variables, PATH=str(tmp_path), PYTHON=sys.executable),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
    error, usage = done.stderr.splitlines()
    assert re.search(BAD[call], error), error
    assert 'usage: ' in usage and f'bash tools/{script} ' in usage
