"""The command ``multitask``: verbs, help, completion, errors and exit status."""

import errno
import importlib
import importlib.util
import os
import re
import subprocess
import sys

import click
import numpy as np
import pytest

from multitask_cli.command import Command, run
from multitask_cli.main import VERBS, main, multitask
from multitask_runtime import VideoWriter
from multitask_runtime.model_index import load_index
from multitask_runtime.onnx import onnx_model
from tests.conftest import ROOT
from tests.test_runtime.conftest import save_image
from tests.test_runtime.onnx_files import EVERY_BACKEND, make_file


def execute(*argv, **environ):
    """Run ``multitask`` in a process of its own; its imports come with the output."""
    code = (
        'import sys; from multitask_cli.main import main; '
        'import atexit; atexit.register(lambda: print("torch" in sys.modules, file=sys.stderr)); '
        'sys.exit(main())'
    )
    env = dict(os.environ, PYTHONPATH=str(ROOT / 'projects'), **environ)
    return subprocess.run(
        [sys.executable, '-c', code, *argv], env=env, capture_output=True, text=True, timeout=60
    )


def test_help_imports_no_pytorch_and_has_examples():
    """In one process, which prints the help of all verbs."""
    code = (
        'import contextlib, sys; from multitask_cli.main import VERBS, main\n'
        'for argv in (["--help"], *([verb, "--help"] for verb in VERBS)):\n'
        '    with contextlib.suppress(SystemExit):\n'
        '        main(argv)\n'
        '    print(end="\\f")\n'
        '    assert "torch" not in sys.modules, argv\n'
    )
    env = dict(os.environ, PYTHONPATH=str(ROOT / 'projects'))
    done = subprocess.run([sys.executable, '-c', code], env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    overview, *pages, end = done.stdout.split('\f')
    assert not end and not done.stderr
    assert all(f'\n  {verb} ' in overview for verb in VERBS)
    for verb, page in zip(VERBS, pages, strict=True):
        examples = page.partition('Examples:\n')[2].split('\n')
        assert f'  multitask {verb}' in examples[0]


def test_examples_of_the_help_are_accepted():
    """Their arguments are parsed; nothing is run."""
    count = 0
    for verb in VERBS:
        command = multitask.get_command(None, verb)
        for example in command.examples:
            program, *argv = example.replace("''", '""').split()
            if program != 'multitask':
                assert re.match(r'(bash|python) (tools|demo)/', example)
                assert (ROOT / argv[0]).is_file()
                continue
            with command.make_context(verb, [each.strip('\'"') for each in argv[1:]]):
                count += 1
    assert count > 10


@pytest.mark.parametrize(
    'typed, expected',
    [('tran', 'Did you mean train or track'), ('exprt', 'Did you mean export'), ('x', 'Verbs: ')],
)
def test_unknown_verbs_get_suggestions(typed, expected, capsys):
    with pytest.raises(SystemExit) as ended:
        main([typed])
    assert ended.value.code == 2
    assert f'No such verb: {typed}. {expected}' in capsys.readouterr().err


def test_completion_of_verbs_and_options():
    def complete(line):
        done = execute(
            _MULTITASK_COMPLETE='bash_complete',
            COMP_WORDS=line,
            COMP_CWORD=str(len(line.split(' ')) - 1),
        )
        assert done.stderr.endswith('False\n')
        return [each.partition(',')[2] for each in done.stdout.split()]

    assert complete('multitask tr') == ['track', 'train']
    assert complete('multitask train --auto') == ['--auto-scale-lr']
    names = [name for name in load_index() if name.startswith('keypoint+mask')]
    assert complete('multitask predict keypoint+mask') == names
    assert len(names) == 3
    script = execute(_MULTITASK_COMPLETE='bash_source').stdout
    assert 'complete -o nosort -F _multitask_completion' in script


def test_cfg_options_take_several_values():
    @click.command(cls=Command)
    @click.argument('config')
    @click.option('--cfg-options', multiple=True)
    @click.option('--amp', is_flag=True)
    def command(config, cfg_options, amp):
        seen.append((config, cfg_options, amp))

    seen = []
    run(command, ['c.py', '--cfg-options', 'a.b=1', 'c=[1, 2]', '--amp'])
    run(command, ['--cfg-options', 'a=1', 'b=-2', 'c.py'])
    run(command, ['c.py', '--cfg-options', 'a=1', '--cfg-options', 'b=2'])
    run(command, ['c.py', '--cfg-options=a=1'])
    assert seen == [
        ('c.py', ('a.b=1', 'c=[1, 2]'), True),
        ('c.py', ('a=1', 'b=-2'), False),
        ('c.py', ('a=1', 'b=2'), False),
        ('c.py', ('a=1',), False),
    ]
    for wrong in (['c.py', '--cfg-options'], ['c.py', '--cfg-options', 'a=1', 'b']):
        with pytest.raises(SystemExit) as ended:
            run(command, wrong)
        assert ended.value.code == 2


def test_options_with_choices_take_several_values():
    @click.command(cls=Command)
    @click.argument('config')
    @click.option('--loggers', type=click.Choice(['a', 'b']), multiple=True)
    def command(config, loggers):
        seen.append((config, loggers))

    seen = []
    run(command, ['--loggers', 'a', 'b', 'c.py'])
    run(command, ['c.py', '--loggers', 'b', '--loggers', 'a'])
    assert seen == [('c.py', ('a', 'b')), ('c.py', ('b', 'a'))]
    for wrong in (
        ['c.py', '--loggers'],
        ['c.py', '--loggers', 'd'],
        ['c.py', '--loggers', 'a', 'd'],
    ):
        with pytest.raises(SystemExit) as ended:
            run(command, wrong)
        assert ended.value.code == 2


def test_interrupt_and_results_become_the_status():
    @click.command()
    @click.argument('outcome')
    def command(outcome):
        if outcome == 'interrupt':
            raise KeyboardInterrupt
        return 1 if outcome == 'issues' else None

    assert run(command, ['issues']) == 1
    assert run(command, ['nothing']) == 0
    with pytest.raises(SystemExit) as ended:
        run(command, ['interrupt'])
    assert ended.value.code == 130


def test_console_script_is_the_command():
    text = (ROOT / 'pyproject.toml').read_text()
    (module, name) = re.findall(r'^multitask = "([\w.]+):(\w+)"$', text, re.M)[0]
    assert getattr(importlib.import_module(module), name) is main


def test_info_names_versions_devices_and_operators(capsys):
    import torch

    assert main(['info']) == 0
    said = capsys.readouterr().out
    assert re.search(rf'^torch: +{re.escape(torch.__version__)}$', said, re.M)
    assert re.search(r'^PyTorch devices: +cpu', said, re.M)
    assert re.search(r'^mmcv operators: +CPU', said, re.M)
    assert re.search(r'^mmdet: +3\.', said, re.M)


def test_missing_pytorch_is_explained(monkeypatch):
    monkeypatch.setattr(importlib.util, 'find_spec', lambda name: None)
    for argv in (['predict', 'c.py', 'w.pth', 'a.png'], ['train', 'c.py'], ['check', 'a.json']):
        with pytest.raises(SystemExit, match='PyTorch is needed .* MODEL.onnx'):
            main(argv)


def test_config_needs_its_checkpoint(capsys):
    with pytest.raises(SystemExit) as ended:
        main(['predict', 'config.py', 'photo.jpg'])
    assert ended.value.code == 2
    assert 'expected CONFIG CHECKPOINT and more, found only config.py' in capsys.readouterr().err
    with pytest.raises(SystemExit) as ended:
        main(['test', 'config.py'])
    assert ended.value.code == 2
    assert 'config.py: expected a config and a checkpoint' in capsys.readouterr().err


@pytest.mark.parametrize('argv', [['models'], ['train', '--help'], ['predict']], ids=' '.join)
def test_output_that_nobody_reads_ends_as_sigpipe_does(argv, tmp_path):
    if argv == ['predict']:  # which prints a line when its files are complete
        model, image = make_file(tmp_path / 'model.onnx'), save_image(tmp_path / 'a.png')
        argv = ['predict', model, image, '--out-dir', str(tmp_path / 'out')]
    code = 'import sys; from multitask_cli.main import main; sys.exit(main())'
    env = dict(os.environ, PYTHONPATH=str(ROOT / 'projects'))
    reader, writer = os.pipe()
    os.close(reader)
    with open(writer, 'w') as pipe:
        done = subprocess.run(
            [sys.executable, '-c', code, *argv],
            env=env,
            stdout=pipe,
            stderr=subprocess.PIPE,
            text=True,
            timeout=60,
        )
    assert (done.returncode, done.stderr) == (141, '')
    assert argv[0] != 'predict' or (tmp_path / 'out/predictions.json').is_file()


def test_other_broken_pipes_end_in_a_sentence():
    @click.command()
    def command():
        raise BrokenPipeError(errno.EPIPE, 'Broken pipe')

    with pytest.raises(SystemExit, match='^Broken pipe'):
        run(command, [])


def test_full_disk_behind_stdout_ends_in_a_sentence():
    code = 'import sys; from multitask_cli.main import main; sys.exit(main())'
    env = dict(os.environ, PYTHONPATH=str(ROOT / 'projects'))
    with open('/dev/full', 'w') as full:
        done = subprocess.run(
            [sys.executable, '-c', code, 'models'],
            env=env,
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            timeout=60,
        )
    assert done.returncode == 1
    assert done.stderr.startswith('No space left on device. Free some space')
    assert 'Traceback' not in done.stderr


@pytest.mark.parametrize('place', ['file', 'file/below'])
def test_folder_of_results_that_cannot_be_made(tmp_path, place):
    model, image = make_file(tmp_path / 'model.onnx'), save_image(tmp_path / 'a.png')
    (tmp_path / 'file').write_text('mine')
    with pytest.raises(SystemExit, match=rf'^{tmp_path}/{place}: .* [Nn]ame another path\.$'):
        main(['predict', model, image, '--out-dir', str(tmp_path / place)])
    assert (tmp_path / 'file').read_text() == 'mine'


@pytest.mark.parametrize('score', ['1.1', '-0.1', 'nan'])
@pytest.mark.parametrize('argv', [['predict', 'model.onnx', 'a.png'], ['test', 'c.py', 'w.pth']])
def test_scores_are_from_0_to_1(argv, score, capsys):
    with pytest.raises(SystemExit) as ended:
        main([*argv, f'--score-thr={score}'])
    assert ended.value.code == 2
    said = capsys.readouterr().err
    assert "Invalid value for '--score-thr'" in said
    assert score in said


@EVERY_BACKEND
@pytest.mark.parametrize('verb', ['predict', 'track'])
def test_backend_and_threads(tmp_path, verb, backend, monkeypatch):
    opened, load = [], onnx_model.load_session
    monkeypatch.setattr(
        onnx_model,
        'load_session',
        lambda *args, **options: opened.append((options, load(*args, **options))) or opened[0][1],
    )
    model = make_file(tmp_path / 'model.onnx')
    if verb == 'track':
        writer = VideoWriter(tmp_path / 'a.mp4', 10)
        writer.write(np.full((48, 64, 3), 120, np.uint8))
        writer.close()
    else:
        save_image(tmp_path / 'a.png')
    source = str(tmp_path / ('a.mp4' if verb == 'track' else 'a.png'))
    options = ['--backend', backend, '--threads', '1', '--batch-size', '2', '--out-dir', '']
    assert main([verb, model, source, *options]) == 0
    ((given, session),) = opened
    assert given == dict(backend=backend, precision='float32', threads=1)
    assert session.runtime.lower().startswith(backend)


@pytest.mark.parametrize(
    'option', [('--backend', 'openvino'), ('--precision', 'bfloat16'), ('--threads', '2')]
)
@pytest.mark.parametrize(
    'argv',
    [['predict', 'c.py', 'w.pth', 'a.png'], ['test', 'c.py', 'w.pth'], ['serve', 'c.py', 'w.pth']],
)
def test_backends_are_for_exported_models(argv, option, capsys):
    with pytest.raises(SystemExit) as ended:
        main([*argv, *option])
    assert ended.value.code == 2
    said = ' '.join(capsys.readouterr().err.split())
    assert f'{option[0]}: expected an exported model (.onnx or .xml), found' in said


@pytest.mark.parametrize(
    'name, sentence',
    [
        ('w.pth', r'found a checkpoint alone. Put its config before it: CONFIG.py w.pth'),
        ('photo.jpg', 'found another file or a folder. The model comes first'),
        ('kept.jpg', 'found no such name. `multitask models` lists them'),
    ],
)
def test_what_is_no_model_is_explained(tmp_path, monkeypatch, name, sentence):
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'photo.jpg').touch()
    with pytest.raises(SystemExit, match=f'^{name}: expected .*, {sentence}'):
        main(['predict', name, 'a.png'])


def test_empty_fields_of_a_model_are_left_out(capsys):
    assert main(['models', 'multitask-rcnn_r26-w24_fpn-ms_regular_sample']) == 0
    said = capsys.readouterr().out
    assert 'license:    Apache 2.0' in said
    assert 'results:' not in said


def test_export_replaces_no_file(tmp_path, capsys):
    out = tmp_path / 'model.onnx'
    out.write_text('mine')
    with pytest.raises(SystemExit) as ended:
        main(['export', 'c.py', 'w.pth', str(out)])
    assert ended.value.code == 2
    assert f'{out}: expected the name of a new file' in capsys.readouterr().err
    assert out.read_text() == 'mine'
