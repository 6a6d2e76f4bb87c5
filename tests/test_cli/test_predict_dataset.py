"""``multitask predict-dataset``: what it prints, its status, signals and errors."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest

from multitask_cli.main import main
from tests.conftest import ROOT
from tests.test_runtime.conftest import save_image
from tests.test_runtime.onnx_files import make_file


@pytest.fixture
def argv(tmp_path):
    for index in range(3):
        save_image(tmp_path / f'photos/{index}.png', value=50 * index)
    model = make_file(tmp_path / 'model.onnx')
    return ['predict-dataset', model, str(tmp_path / 'photos'), f'--out-dir={tmp_path / "out"}']


def test_counts_and_status(argv, tmp_path, capsys):
    assert main([*argv, '--score-thr=0.1']) == 0
    said = capsys.readouterr().out
    # The scores of the black image are 0.
    assert said == f'Images: 3; instances: 4; bad images: 0\nResults: {tmp_path / "out"}\n'
    assert main([*argv, '--score-thr=0.1']) == 0
    assert capsys.readouterr().out == said


def test_bad_images_are_named_and_the_status_1(argv, tmp_path, capsys):
    for index in range(12):
        (tmp_path / f'photos/bad-{index:02}.png').write_bytes(b'nothing')
    assert main(argv) == 1
    first, *reasons, more, _ = capsys.readouterr().out.splitlines()
    assert first == 'Images: 15; instances: 6; bad images: 12'
    assert len(reasons) == 10
    assert 'photos/bad-00.png: expected an image, found 7 bytes' in reasons[0]
    assert 'and others, which have an "error" in the files' in more


@pytest.mark.parametrize(
    'change, status, sentence',
    [
        (['--score-thr=0.5'], 1, 'expected score_thr 0.0, found 0.5'),
        (['--device=gpu'], 1, "device: expected 'cpu', 'cuda'"),
        (['--workers=2', '--device=cuda:1'], 2, '--device: expected cuda, of which Ray gives'),
    ],
)
def test_errors_are_sentences(argv, capsys, change, status, sentence):
    assert main(argv) == 0
    if change[0].startswith('--device'):  # a run that has something to do
        argv[3] += '-2'
    with pytest.raises(SystemExit) as ended:
        main([*argv, *change])
    said = capsys.readouterr().err
    assert sentence in (said if status == 2 else str(ended.value.code))
    assert status == 1 or ended.value.code == 2


def test_missing_ray_is_explained(argv, monkeypatch):
    monkeypatch.setitem(sys.modules, 'ray', None)
    with pytest.raises(SystemExit, match=r"^Ray is needed .* 'multitask-refine\[batch\]'"):
        main([*argv, '--workers=2'])


@pytest.mark.slow
def test_sigterm_stops_and_the_same_command_goes_on(argv, tmp_path):
    """The network is slowed down, so that the signal comes in the middle."""
    code = (
        'import sys, time; from multitask_runtime.onnx.onnx_model import OnnxModel as M; '
        'call = M.__call__; '
        'M.__call__ = lambda *args: (time.sleep(0.5), call(*args))[1]; '
        'from multitask_cli.main import main; sys.exit(main())'
    )
    env = dict(os.environ, PYTHONPATH=str(ROOT / 'projects'))
    command = [sys.executable, '-c', code, *argv, '--shard-size=1']
    done = tmp_path / 'out/done'
    with subprocess.Popen(command, env=env, stdout=subprocess.PIPE, text=True) as process:
        while process.poll() is None and not list(done.glob('*.json')):
            time.sleep(0.02)
        process.terminate()
        said, _ = process.communicate(timeout=60)
    assert process.returncode == 128 + signal.SIGTERM
    assert said == 'Stopped. The same command goes on with what is not done.\n'
    before = len(list(done.glob('*.json')))
    assert 1 <= before < 3
    assert main([*argv, '--shard-size=1']) == 0
    rows = [
        json.loads(line)
        for part in sorted((tmp_path / 'out').glob('part-*'))
        for line in part.read_text().splitlines()
    ]
    assert [row['file_name'] for row in rows] == ['0.png', '1.png', '2.png']
