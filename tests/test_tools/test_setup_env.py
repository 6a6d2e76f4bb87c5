"""Decisions and error messages of the set-up; nothing is installed or downloaded."""

import fcntl
import importlib.util
import os
import re
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

ROOT = Path(__file__).resolve().parents[2]
PINS = {
    'mmcv': ['mmcv==2.1.0'],
    'mmdet': ['mmdet==3.3.0'],
    'opencv-python-headless': ['opencv-python-headless==5.0'],
    'setuptools': ['setuptools==80.10.2'],
}


@pytest.fixture
def setup_env(tmp_path, monkeypatch):
    """The script as a module that writes under tmp_path only."""
    spec = importlib.util.spec_from_file_location('setup_env', ROOT / 'tools/setup_env.py')
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    (tmp_path / 'work_dirs').mkdir()
    for name in ('requirements.txt', 'pyproject.toml'):
        (tmp_path / name).write_text((ROOT / name).read_text())
    for name, path in dict(
        ROOT='', VENV='.venv', LOG='work_dirs/setup.log', CACHE='cache/multitask_refine'
    ).items():
        monkeypatch.setattr(module, name, tmp_path / path)
    return module


@pytest.fixture
def pip_calls(setup_env, monkeypatch, tmp_path):
    """An environment in tmp_path with torch and mmcv; commands are recorded, not run."""
    calls = []
    versions = dict(torch='2.13.0', mmcv='2.1.0', setuptools='80.10.2')
    monkeypatch.setattr(setup_env, 'run', lambda *arguments, **environ: calls.append(arguments))
    monkeypatch.setattr(setup_env, 'installed', lambda: dict(versions))
    monkeypatch.setattr(setup_env, 'files', lambda name: ['mmcv/_ext.so'])
    monkeypatch.setattr(setup_env, 'compiled_wheel', lambda name, version: f'{name}.whl')
    monkeypatch.setattr(setup_env.sysconfig, 'get_path', lambda name: str(tmp_path))
    return SimpleNamespace(calls=calls, versions=versions)


def test_requirements_pin_every_package_for_every_python(setup_env):
    pins = setup_env.read_pins()
    assert pins['mmcv'] == ['mmcv==2.1.0']
    assert pins['numpy'] == [
        'numpy==2.4.6; python_version >= "3.11"',
        'numpy==2.2.6; python_version < "3.11"',
    ]
    lines = [
        line.split('#')[0].strip()
        for line in (ROOT / 'requirements.txt').read_text().splitlines()
        if line and line[0] != '#'
    ]
    assert sorted(sum(pins.values(), [])) == sorted(lines)


@pytest.mark.parametrize(
    'output, message',
    [
        ('OSError: [Errno 28] No space left on device', 'The disk is full'),
        ('/usr/bin/python3: No module named venv', 'apt install python3-venv'),
        ('/usr/bin/python3: No module named pip', '`python -m ensurepip`'),
        (
            'Retrying after NewConnectionError: Connection refused\n'
            'ERROR: No matching distribution found for numpy==2.4.6',
            'pip cannot reach its index',
        ),
        ('error: externally-managed-environment', 'cannot be changed: bring an environment'),
        ('ERROR: [Errno 13] Permission denied: /usr/lib', 'cannot be changed: bring an environme'),
        ('ERROR: No matching distribution found for numpy==2.4.6', 'index lacks a pinned package'),
        ('fatal error: Python.h: No such file or directory', 'apt install python3-dev'),
        ("error: command 'g++' failed: No such file or directory", 'No C.. compiler was found'),
        ('#error You need C++17 to compile PyTorch', 'compiler is too old for torch'),
        ('c++: fatal error: Killed signal terminated program cc1plus', 'MAX_JOBS=1'),
        ('something else', "install numpy': fix what its last lines say and run again"),
    ],
)
def test_output_of_a_failed_command_becomes_one_sentence(
    setup_env, monkeypatch, tmp_path, capsys, output, message
):
    python = tmp_path / 'python'
    python.write_text(f'#!/bin/sh\ncat <<END\n{output}\nEND\nexit 1\n')
    python.chmod(0o755)
    monkeypatch.setattr(setup_env.sys, 'executable', str(python))
    with pytest.raises(SystemExit, match=f'^Set-up failed: .*{message}') as failure:
        setup_env.run('-m', 'pip', 'install', 'numpy')
    assert '\n' not in str(failure.value) and str(setup_env.LOG) in str(failure.value)
    assert f'| {output.splitlines()[-1]}' in capsys.readouterr().err
    assert output in setup_env.LOG.read_text()


@pytest.mark.parametrize(
    'versions, message',
    [
        ({'mmdet': '3.2.0'}, 'has mmdet==3.2.0, which do not fit .* and stay'),
        ({'onedl-mmcv': '2.3.6'}, 'has onedl-mmcv==2.3.6, .* uninstall'),
        ({'mmcv-lite': '2.1.0'}, 'has mmcv-lite==2.1.0,'),
        ({'torch': '2.5.1'}, 'has torch==2.5.1, .*2.6 or later'),
        ({'torch': '1.13.1', 'mmpose': '1.0'}, 'has torch==1.13.1, mmpose==1.0,'),
        ({'mmcv': '2.1.0'}, 'has mmcv without its ops'),
    ],
)
def test_environment_that_does_not_fit_is_refused(setup_env, monkeypatch, versions, message):
    pins = setup_env.read_pins()
    monkeypatch.setattr(setup_env, 'files', lambda name: ['mmcv/__init__.py'])
    monkeypatch.setattr(setup_env, 'installed', lambda: {'mmdet': '3.3.0', 'torch': '2.10.0a0'})
    setup_env.missing(pins)
    monkeypatch.setattr(setup_env, 'installed', lambda: versions)
    with pytest.raises(SystemExit, match=f'^Set-up failed: .*{message}'):
        setup_env.missing(pins)


@pytest.mark.parametrize(
    'versions, cv2, expected',
    [
        ({'mmcv': '2.1.0', 'setuptools': '79.0'}, True, {'mmdet'}),
        ({'mmcv': '2.1.0', 'setuptools': '81.0'}, True, {'mmdet', 'setuptools'}),
        (
            {'mmdet': '3.3.0', 'setuptools': '65.5'},
            False,
            {'mmcv', 'opencv-python-headless', 'setuptools'},
        ),
    ],
)
def test_only_what_an_environment_lacks_is_added(setup_env, monkeypatch, versions, cv2, expected):
    monkeypatch.setattr(setup_env, 'files', lambda name: ['mmcv/_ext.so'])
    monkeypatch.setattr(setup_env, 'installed', lambda: versions)
    monkeypatch.setattr(setup_env.importlib.util, 'find_spec', lambda name: cv2)
    assert set(setup_env.missing(PINS)) == expected


def test_second_call_does_nothing_until_something_changes(setup_env, pip_calls):
    setup_env.main(['--current'])
    first = list(pip_calls.calls)
    assert ('-m', 'pip', 'install', '--no-deps', '--no-build-isolation', '-e', '.') in first
    assert not any('torch==2.13.0' in call or 'mmcv.whl' in call for call in first)
    assert any('xtcocotools.whl' in call for call in first)
    setup_env.main(['--current'])
    assert pip_calls.calls == first
    pip_calls.versions['torch'] = '2.14.0'
    setup_env.main(['--current'])
    assert len(pip_calls.calls) > len(first)


def test_failed_set_up_is_repeated(setup_env, pip_calls, monkeypatch):
    def fail(*command, **environ):
        sys.exit('Set-up failed: something: try again.')

    works = setup_env.run
    monkeypatch.setattr(setup_env, 'run', fail)
    with pytest.raises(SystemExit):
        setup_env.main(['--current'])
    monkeypatch.setattr(setup_env, 'run', works)
    setup_env.main(['--current'])
    assert pip_calls.calls


def test_packages_of_an_interrupted_pip_are_installed_again(setup_env, pip_calls, tmp_path):
    for name in ('whole', 'half'):
        (tmp_path / f'{name}-1.0.dist-info').mkdir()
    (tmp_path / 'whole-1.0.dist-info/RECORD').touch()
    setup_env.set_up(own=True)
    assert [path.name for path in tmp_path.glob('*.dist-info')] == ['whole-1.0.dist-info']


@pytest.mark.parametrize('complete', [True, False])
def test_environment_without_pip_is_made_again(setup_env, pip_calls, monkeypatch, complete):
    """A run that was interrupted while it made `.venv` left a Python, but no pip."""
    started = []
    monkeypatch.setenv('PYTHONPATH', '/packages/that/hide/the/pinned/ones')
    monkeypatch.setattr(
        setup_env.os,
        'execv',
        lambda *command: started.append((*command, 'PYTHONPATH' in os.environ)),
    )
    (setup_env.VENV / 'bin').mkdir(parents=True)
    for name in ('python', 'pip') if complete else ('python',):
        (setup_env.VENV / 'bin' / name).touch()
    setup_env.main([])
    venv = ('-m', 'venv', '--clear', str(setup_env.VENV))
    assert pip_calls.calls == ([] if complete else [venv])
    python = str(setup_env.VENV / 'bin/python')
    assert started == [(python, [python, '-I', setup_env.__file__], False)]


def test_unsuitable_python_is_refused(setup_env, monkeypatch):
    monkeypatch.setattr(setup_env.sys, 'version_info', (3, 13, 0))
    with pytest.raises(SystemExit, match='3.10, 3.11 or 3.12 is needed: name another Python'):
        setup_env.main(['--current'])
    monkeypatch.setattr(setup_env.sys, 'prefix', str(setup_env.VENV))
    with pytest.raises(SystemExit, match=f'is needed: remove {setup_env.VENV} and run again'):
        setup_env.main([])


@pytest.mark.parametrize(
    'error, message',
    [
        (PermissionError(13, 'Permission denied', '/opt/x'), "'/opt/x': make that possible and"),
        (ImportError('libtorch_cpu.so: cannot open'), 'libtorch_cpu.so: .* make that possible'),
        (KeyboardInterrupt(), 'interrupted: run again to go on'),
    ],
)
def test_other_errors_are_one_sentence(setup_env, monkeypatch, error, message):
    def fail(own):
        raise error

    monkeypatch.setattr(setup_env, 'set_up', fail)
    with pytest.raises(SystemExit, match=message):
        setup_env.main(['--current'])


def cuda(version, capabilities):
    """The part of torch that tells what it is built for."""
    return SimpleNamespace(
        __version__='2.13.0+cu130' if version else '2.13.0+cpu',
        version=SimpleNamespace(cuda=version),
        cuda=SimpleNamespace(
            device_count=lambda: len(capabilities), get_device_capability=capabilities.__getitem__
        ),
    )


@pytest.mark.parametrize(
    'nvcc, version, capabilities, target',
    [
        ('release 13.1', None, [], ''),
        ('release 13.1', '13.0', [(9, 0), (8, 0), (9, 0)], '13.0-sm8.0;9.0'),
        ('release 13.1', '13.0', [], '13.0-small'),
        ('release 13.1', '12.8', [(9, 0)], ''),
        ('not found', '13.0', [(9, 0)], ''),
    ],
)
def test_cuda_is_compiled_for_only_with_its_own_nvcc(
    setup_env, monkeypatch, capsys, nvcc, version, capabilities, target
):
    monkeypatch.delenv('TORCH_CUDA_ARCH_LIST', raising=False)
    monkeypatch.setitem(sys.modules, 'torch', cuda(version, capabilities))
    monkeypatch.setattr(setup_env.subprocess, 'getoutput', lambda command: nvcc)
    assert setup_env.cuda_target() == target
    assert ('for the CPU only' in capsys.readouterr().out) == bool(version and not target)


def test_wheels_are_compiled_once_per_version_of_torch_and_numpy(setup_env, monkeypatch):
    compiled = []

    def compile_wheel(*arguments, **environ):
        folder = Path(arguments[-2])
        folder.mkdir(parents=True, exist_ok=True)  # as `pip wheel` does
        (folder / f'{arguments[-1].replace("==", "-")}.whl').touch()
        compiled.append((arguments[-1], environ['FORCE_CUDA']))

    monkeypatch.setattr(setup_env, 'run', compile_wheel)
    for torch, target in (
        (cuda(None, []), ''),
        (cuda(None, []), ''),
        (cuda('13.0', []), '13.0-sm9.0'),
    ):
        monkeypatch.setitem(sys.modules, 'torch', torch)
        monkeypatch.setattr(setup_env, 'cuda_target', lambda target=target: target)
        for name, version in (('mmcv', '2.1.0'), ('xtcocotools', '1.14.3')):
            assert setup_env.compiled_wheel(name, version).name == f'{name}-{version}.whl'
    assert compiled == [('mmcv==2.1.0', '0'), ('xtcocotools==1.14.3', '0'), ('mmcv==2.1.0', '1')]
    keys = sorted(
        re.sub(r'-(glibc|musl)?[\d.]*(?=-cuda|$)', '', folder.name)
        for folder in setup_env.CACHE.iterdir()
    )
    python, machine = f'cp3.{sys.version_info[1]}', os.uname().machine
    assert keys == [
        f'mmcv-2.1.0-torch2.13.0+cpu-{python}-{machine}',
        f'mmcv-2.1.0-torch2.13.0+cu130-{python}-{machine}-cuda13.0-sm9.0',
        f'xtcocotools-1.14.3-numpy2-{python}-{machine}',
    ]


def test_progress_of_the_compilation_is_shown(setup_env, monkeypatch, capsys):
    monkeypatch.setattr(setup_env.sys, 'executable', 'echo')
    setup_env.run('  [30/77] c++ -MMD -MF /tmp/mmcv/f30.o.d -g0 -fPIC')
    setup_env.run('  [31/77] c++ -MMD -MF /tmp/mmcv/f31.o.d -g0 -fPIC')
    setup_env.run('  Downloading torch-2.13.0-cp311.whl (530.2 MB)')
    setup_env.run('  Downloading six-1.17.0-py3-none-any.whl (11 kB)')
    assert capsys.readouterr().out.splitlines() == [
        '[setup]   [30/77]',
        '[setup]   Downloading torch-2.13.0-cp311.whl (530.2 MB)',
    ]


def test_pip_settings_that_install_elsewhere_are_dropped(setup_env, monkeypatch):
    for name in ('PIP_TARGET', 'PIP_CONSTRAINT', 'PIP_INDEX_URL'):
        monkeypatch.setenv(name, 'mine')
    monkeypatch.setattr(setup_env.sys, 'executable', 'sh')
    setup_env.run('-c', 'echo "$PIP_TARGET,$PIP_CONSTRAINT,$PIP_INDEX_URL,$PIP_USER"')
    assert setup_env.LOG.read_text().splitlines()[-1] == ',,mine,0'


def is_running(process):
    status = Path(f'/proc/{process}/stat')
    return status.exists() and status.read_text().split()[2] != 'Z'


def test_interrupt_ends_the_children_too(setup_env, monkeypatch):
    children = []

    def interrupt(pattern, line):
        children.append(int(line))
        raise KeyboardInterrupt

    monkeypatch.setattr(setup_env.re, 'match', interrupt)
    monkeypatch.setattr(setup_env.sys, 'executable', 'sh')
    with pytest.raises(KeyboardInterrupt):
        setup_env.run('-c', 'sleep 600 & echo $!; wait')
    monkeypatch.undo()
    deadline = time.monotonic() + 60
    while is_running(children[0]) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not is_running(children[0])


def test_second_set_up_waits_for_the_first(setup_env, monkeypatch):
    monkeypatch.setattr(setup_env.signal, 'signal', lambda *handler: None)  # not in a thread
    done = threading.Event()
    monkeypatch.setattr(setup_env, 'set_up', lambda own: done.set())
    with setup_env.LOG.with_suffix('.lock').open('w') as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        second = threading.Thread(target=setup_env.main, args=(['--current'],))
        second.start()
        assert not done.wait(timeout=0.2)
    second.join(timeout=60)
    assert done.is_set()


@pytest.mark.parametrize(
    'brought, python', [('/my/python', '/my/python'), ('', '.venv/bin/python')]
)
def test_make_uses_the_environment_that_is_brought(brought, python):
    shown = subprocess.run(
        ['make', '-n', 'test', f'PYTHON={brought}'],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    assert f'{python} -m pytest tests' in shown
    assert ('--current' in shown) == bool(brought)


@pytest.mark.parametrize('brought', ['', '/no/such/python'])
def test_make_names_the_pythons_that_fit(brought, tmp_path):
    for name in ('sh', 'make'):
        (tmp_path / name).symlink_to(f'/usr/bin/{name}')
    failed = subprocess.run(
        ['/usr/bin/make', 'setup', f'PYTHON={brought}'],
        cwd=ROOT,
        env={'PATH': str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert failed.returncode != 0
    assert re.search(r'^Set-up failed: .* 3.10, 3.11 or 3.12: install one', failed.stderr, re.M)
