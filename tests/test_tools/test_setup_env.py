"""The set-up's decisions and sentences; nothing is installed and nothing is fetched."""

import fcntl
import importlib.util
import itertools
import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

ROOT = Path(__file__).resolve().parents[2]
PINS = {name: '1.0' for name in ('mmcv', 'mmengine', 'mmdet', 'mmpose', 'openmim', 'xtcocotools')}


@pytest.fixture
def setup(tmp_path, monkeypatch):
    """The script as a module, with everything that it writes under tmp_path."""
    spec = importlib.util.spec_from_file_location('setup_env', ROOT / 'tools' / 'setup_env.py')
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    for name, path in dict(
        ROOT='', VENV='.venv', LOG='work_dirs/setup.log', CACHE='cache/multitask_refine'
    ).items():
        monkeypatch.setattr(module, name, tmp_path / path)
    module.LOG.parent.mkdir()
    return module


def facts_of(tmp_path, **changes):
    """What PROBE says of a Python with the whole stack."""
    return {
        'version': [3, 11],
        'executable': '/usr/bin/python3.11',
        'purelib': str(tmp_path),
        'headers': True,
        'venv': True,
        'pkg_resources': True,
        'ops': True,
        'origins': {},
        'versions': {'numpy': '2.3.5', **PINS},
        'torch': ['2.13.0+cpu', None],
        **changes,
    }


def environment(setup, monkeypatch, tmp_path, own=False, **changes):
    monkeypatch.setattr(setup, 'probe', lambda python, own: facts_of(tmp_path, **changes))
    return setup.Environment('/some/bin/python', own)


@pytest.mark.parametrize('python, numpy', [((3, 10), '2.2'), ((3, 11), '2.4'), ((3, 12), '2.4')])
def test_requirements_pin_every_package_for_every_python(setup, python, numpy):
    pins = setup.read_requirements(python)
    assert set(pins) == {'wheels', 'torch', 'compiled'}
    assert pins['wheels']['numpy'].startswith(numpy)
    assert set(setup.OPENMMLAB) <= set(pins['wheels']) | set(pins['compiled'])
    assert ('tomli' in pins['wheels']) == (python == (3, 10))


def test_requirement_without_a_pin_is_refused(setup, tmp_path, monkeypatch):
    monkeypatch.setattr(setup, 'REQUIREMENTS', tmp_path / 'requirements.txt')
    setup.REQUIREMENTS.write_text('# [wheels]\nnumpy>=2\n')
    with pytest.raises(setup.SetupError, match='no exact pin: numpy>=2'):
        setup.read_requirements((3, 11))


def test_probe_finds_what_is_installed(setup):
    facts = setup.probe(sys.executable, own=False)
    assert facts['version'] == list(sys.version_info[:2])
    assert facts['versions']['pytest'] == pytest.__version__
    assert setup.probe('/no/such/python', own=False) is None


def test_python_is_chosen_by_what_it_has(setup, monkeypatch, tmp_path):
    known = {
        'a': None,
        'b': facts_of(tmp_path, version=[3, 13]),
        'c': facts_of(tmp_path, venv=False),
        'd': facts_of(tmp_path, executable='good'),
    }
    monkeypatch.setattr(setup, 'probe', lambda python, own: known[python])
    monkeypatch.setattr(setup, 'candidates', lambda: 'abcd')
    assert setup.choose_python() == 'good'
    monkeypatch.setattr(setup, 'candidates', lambda: 'abc')
    with pytest.raises(setup.SetupError, match='apt install python3.11-venv'):
        setup.choose_python()
    monkeypatch.setattr(setup, 'candidates', lambda: 'ab')
    with pytest.raises(setup.SetupError, match='only 3.13 was found: install one'):
        setup.choose_python()


def test_brought_python_of_another_version_is_refused(setup, monkeypatch, capsys):
    monkeypatch.setattr(setup, 'probe', lambda python, own: {'version': [3, 9]})
    assert setup.main(['--python', '/old/python']) == 1
    assert '/old/python is Python 3.9, and 3.10, 3.11 or 3.12 is needed' in capsys.readouterr().err


def test_compiler_has_to_be_there_and_to_work(setup, monkeypatch):
    monkeypatch.setenv('CC', 'false')
    monkeypatch.setenv('CXX', 'false')
    with pytest.raises(setup.SetupError, match='compiler false does not compile C'):
        setup.find_compilers()
    monkeypatch.delenv('CXX')
    monkeypatch.setenv('PATH', '')
    with pytest.raises(setup.SetupError, match='No C.. compiler was found.*apt install'):
        setup.find_compilers()


def test_disk_has_to_have_room(setup, monkeypatch):
    usage = SimpleNamespace(free=2 * setup.GIGABYTE)
    monkeypatch.setattr(setup.shutil, 'disk_usage', lambda folder: usage)
    setup.check_disk(with_torch=False)
    with pytest.raises(setup.SetupError, match='2.0 GB free and 3 GB are needed'):
        setup.check_disk(with_torch=True)


@pytest.mark.parametrize(
    'output, sentence',
    [
        (
            'Retrying (Retry(total=0)) after NewConnectionError: Connection refused\n'
            'ERROR: No matching distribution found for numpy==2.4.6',
            'pip cannot reach its package',
        ),
        (
            'ERROR: No matching distribution found for numpy==2.4.6',
            'index has no numpy==2.4.6 for',
        ),
        ('OSError: [Errno 28] No space left on device', 'The disk is full'),
        ('error: externally-managed-environment', 'belongs to the operating system'),
        ('c++: fatal error: Killed signal terminated program cc1plus', 'MAX_JOBS=1'),
        ('something else', 'mend what its last lines say'),
    ],
)
def test_failure_of_pip_becomes_a_sentence(setup, tmp_path, output, sentence):
    python = tmp_path / 'python'
    python.write_text(f'#!/bin/sh\ncat <<END\n{output}\nEND\nexit 1\n')
    python.chmod(0o755)
    with pytest.raises(setup.SetupError) as failure:
        setup.pip(SimpleNamespace(python=str(python), own=True), 'install', 'numpy==2.4.6')
    assert sentence in str(failure.value)
    assert failure.value.details[-1] == output.splitlines()[-1]
    assert output in setup.LOG.read_text()


def test_second_call_does_nothing_until_something_changes(setup, monkeypatch, tmp_path):
    calls = []
    monkeypatch.setattr(setup, 'install', lambda env: calls.append('install'))
    monkeypatch.setattr(setup, 'verify', lambda env: calls.append('verify'))
    environment(setup, monkeypatch, tmp_path)
    assert setup.main(['--python', 'python']) == 0 and calls == ['install', 'verify']
    assert setup.main(['--python', 'python']) == 0 and len(calls) == 2
    environment(setup, monkeypatch, tmp_path, torch=['2.14.0', '13.0'])
    assert setup.main(['--python', 'python']) == 0 and len(calls) == 4


def test_failed_set_up_is_not_taken_for_done(setup, monkeypatch, tmp_path, capsys):
    def fail(env):
        raise setup.SetupError('No compiler: install one.', ('last line',))

    monkeypatch.setattr(setup, 'install', fail)
    env = environment(setup, monkeypatch, tmp_path)
    assert setup.main(['--python', 'python']) == 1
    error = capsys.readouterr().err
    assert 'Set-up failed: No compiler: install one.' in error and '| last line' in error
    assert not env.stamp.exists()


def test_progress_of_ninja_is_told_now_and_then(setup, capsys):
    progress = setup.CompileProgress(interval=20, clock=itertools.count(0, 5).__next__)
    progress('  creating build/temp.linux-x86_64-cpython-311\n')
    for done in range(1, 9):
        progress(f'  [{done}/77] c++ -MMD -MF /tmp/pip-wheel-sx80/mmcv/f{done}.o.d -g0 -fPIC\n')
    assert capsys.readouterr().out.splitlines() == [
        '[setup]   3 of 77 files after 0:20 min, about 8:13 min left',
        '[setup]   7 of 77 files after 0:40 min, about 6:40 min left',
    ]


@pytest.mark.parametrize(
    'changes, sentence',
    [
        (
            {'versions': {'mmcv': '2.2.0'}},
            'has mmcv 2.2.0 where 1.0 is needed; nothing was changed',
        ),
        ({'versions': {'onedl-mmcv': '2.3.6'}}, 'pip uninstall onedl-mmcv'),
        ({'ops': False}, 'mmcv without its compiled ops'),
        ({'purelib': '/no/such/folder'}, 'cannot be written to'),
    ],
)
def test_brought_environment_that_does_not_fit_is_refused(
    setup, monkeypatch, tmp_path, changes, sentence
):
    setup.check_brought(environment(setup, monkeypatch, tmp_path), PINS)
    with pytest.raises(setup.SetupError, match=sentence):
        setup.check_brought(environment(setup, monkeypatch, tmp_path, **changes), PINS)


def test_torch_has_to_load_checkpoints_safely(setup, monkeypatch, tmp_path):
    setup.check_torch(environment(setup, monkeypatch, tmp_path, torch=['2.10.0a0+git1', '13.0']))
    with pytest.raises(setup.SetupError, match='has torch 2.5.1, and 2.6 or later is needed'):
        setup.check_torch(environment(setup, monkeypatch, tmp_path, torch=['2.5.1', None]))


def test_what_a_brought_environment_has_stays(setup, monkeypatch, tmp_path):
    pins = {'numpy': '2.4.6', 'setuptools': '80.10.2', 'scipy': '1.17.1'}
    has = {'numpy': '2.3.5', 'setuptools': '84.0.0'}
    env = environment(setup, monkeypatch, tmp_path, versions=has)
    assert setup.missing(env, pins) == {'scipy': '1.17.1'}
    env = environment(setup, monkeypatch, tmp_path, versions=has, pkg_resources=False)
    assert setup.missing(env, pins) == {'scipy': '1.17.1', 'setuptools': '80.10.2'}
    env = environment(setup, monkeypatch, tmp_path, own=True, versions=has)
    assert setup.missing(env, pins) == pins


def test_headless_opencv_is_not_put_over_one_that_works(setup, monkeypatch, tmp_path):
    env = environment(setup, monkeypatch, tmp_path)
    for works, wanted in ((True, {}), (False, {'opencv-python-headless': '5'})):
        monkeypatch.setattr(env, 'imports', lambda module: works)
        assert setup.missing(env, {'opencv-python-headless': '5'}) == wanted


def test_compiled_package_is_kept_only_for_the_torch_it_was_made_for(setup, monkeypatch, tmp_path):
    def from_cache(made_for, now, cuda=''):
        key = setup.cache_key('mmcv', '1.0', facts_of(tmp_path, torch=[made_for, None]), cuda)
        return environment(
            setup,
            monkeypatch,
            tmp_path,
            torch=[now, None],
            origins={'mmcv': f'file://{setup.CACHE}/{key}/mmcv.whl'},
        )

    assert setup.fits(from_cache('2.13.0+cpu', '2.13.0+cpu'), 'mmcv', '1.0', '')
    assert not setup.fits(from_cache('2.13.0+cpu', '2.13.0+cu130'), 'mmcv', '1.0', '')
    assert not setup.fits(from_cache('2.13.0+cu130', '2.13.0+cu130'), 'mmcv', '1.0', '13.0-sm9.0')
    assert setup.fits(from_cache('2.13.0+cu130', '2.13.0+cu130', '13.0-sm9.0'), 'mmcv', '1.0', '')
    assert setup.fits(environment(setup, monkeypatch, tmp_path), 'mmcv', '1.0', '')


def test_cache_key_names_python_and_numpy(setup, tmp_path):
    facts = facts_of(tmp_path)
    other_python = facts_of(tmp_path, version=[3, 12])
    other_numpy = facts_of(tmp_path, versions={'numpy': '1.26.4'})
    assert setup.cache_key('mmcv', '1', facts) != setup.cache_key('mmcv', '1', other_python)
    assert setup.cache_key('mmcv', '1', facts) == setup.cache_key('mmcv', '1', other_numpy)
    assert os.uname().machine in setup.cache_key('mmcv', '1', facts)
    assert setup.cache_key('xtcocotools', '1', facts) != setup.cache_key(
        'xtcocotools', '1', other_numpy
    )


def test_cuda_is_compiled_for_only_with_its_own_nvcc(setup, monkeypatch, capsys):
    monkeypatch.setenv('TORCH_CUDA_ARCH_LIST', '9.0')
    monkeypatch.setattr(setup, 'find_nvcc', lambda: 'nvcc')
    monkeypatch.setattr(setup, 'output_of', lambda command: 'release 13.1, V13.1.80')
    assert setup.cuda_target(None) == ''
    assert setup.cuda_target('13.0') == '13.0-sm9.0'
    assert capsys.readouterr().out == ''
    assert setup.cuda_target('12.8') == ''
    assert 'compiled for the CPU only' in capsys.readouterr().out


def test_half_installed_packages_are_forgotten(setup, tmp_path):
    (tmp_path / 'whole-1.0.dist-info').mkdir()
    (tmp_path / 'whole-1.0.dist-info' / 'RECORD').touch()
    (tmp_path / 'half-1.0.dist-info').mkdir()
    setup.clear_half_installed(tmp_path)
    assert [path.name for path in tmp_path.glob('*.dist-info')] == ['whole-1.0.dist-info']


def test_environment_follows_the_last_checkout(setup, monkeypatch, tmp_path, capsys):
    env = environment(setup, monkeypatch, tmp_path)
    link, other = tmp_path / 'multitask_refine.pth', tmp_path / 'other'
    other.mkdir()
    link.write_text(f'{other}\n')
    setup.link_checkout(env)
    assert link.read_text() == f'{tmp_path}\n'
    assert f'used the checkout {other} and from now on uses {tmp_path}' in capsys.readouterr().out
    setup.link_checkout(env)
    assert capsys.readouterr().out == ''


def test_settings_that_install_elsewhere_are_dropped(setup, monkeypatch):
    for name in ('PIP_TARGET', 'PIP_CONSTRAINT', 'PIP_INDEX_URL', 'PYTHONHOME', 'PYTHONPATH'):
        monkeypatch.setenv(name, 'mine')
    monkeypatch.setenv('PIP_USER', '1')
    own, brought = setup.clean_environ(own=True), setup.clean_environ(own=False)
    assert not {'PIP_TARGET', 'PIP_CONSTRAINT', 'PYTHONHOME'} & {*own, *brought}
    assert own['PIP_INDEX_URL'] == 'mine' and own['PIP_USER'] == '0'
    assert 'PYTHONPATH' not in own and brought['PYTHONPATH'] == 'mine'


def is_running(process):
    status = Path(f'/proc/{process}/stat')
    return status.exists() and status.read_text().split()[2] != 'Z'


def test_interrupt_ends_the_children_too(setup):
    children = []

    def interrupt(line):
        children.append(int(line))
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        setup.run_logged(['sh', '-c', 'sleep 600 & echo $!; wait'], dict(os.environ), interrupt)
    deadline = time.monotonic() + 60
    while is_running(children[0]) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not is_running(children[0])


def test_second_set_up_waits_for_the_first(setup, monkeypatch, capsys):
    monkeypatch.setattr(setup, 'set_up', lambda python: print('my turn'))
    told = threading.Event()
    monkeypatch.setattr(setup, 'say', lambda text: (print(text), told.set()))
    with open(setup.LOG.with_suffix('.lock'), 'w') as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        second = threading.Thread(target=setup.main, args=([],))
        second.start()
        assert told.wait(timeout=60)
        assert 'another set-up' in capsys.readouterr().out
    second.join(timeout=60)
    assert capsys.readouterr().out == 'my turn\n'


def test_make_uses_the_environment_that_is_brought():
    for brought, python in (('/my/python', '/my/python'), ('', '.venv/bin/python')):
        shown = subprocess.run(
            ['make', '-n', 'test', f'PYTHON={brought}'],
            cwd=ROOT,
            check=True,
            stdout=subprocess.PIPE,
            universal_newlines=True,
        ).stdout
        assert f'{python} -m pytest tests' in shown
        assert ("--python '/my/python'" in shown) == bool(brought)
