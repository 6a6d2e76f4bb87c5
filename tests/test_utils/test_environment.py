"""Messages for unsuitable installations and GPUs out of memory."""

import os
import re
import subprocess
import sys
from types import SimpleNamespace

import pytest
import torch

from multitask_cli import train
from multitask_refine.engine import inference_settings as settings
from multitask_refine.models import MultitaskRoIHead
from multitask_refine.utils import environment
from multitask_refine.utils.errors import EnvironmentMismatchError, explained_errors
from tests.conftest import ROOT, SAMPLE_CONFIG, as_arguments, tiny_options

pytestmark = pytest.mark.slow

NO_SYMBOL = '/x/mmcv/_ext.so: undefined symbol: _ZNK3c1010TensorImpl4sizeEv'
# Stand-ins for mmcv: version, content of its operators, expected message.
INSTALLATIONS = {
    'lite': ('2.1.0', None, 'no operators .*found mmcv-lite or a build'),
    'other torch': (
        '2.1.0',
        f'raise ImportError({NO_SYMBOL!r})',
        f'built against another torch or CUDA than torch '
        f'.*undefined symbol: {NO_SYMBOL.split()[-1]}',
    ),
    'too new': ('2.2.0', '', r'mmdet rejects.*MMCV==2\.2\.0 is used'),
}


@pytest.mark.parametrize(
    'missing, errors, expected',
    [
        ({'mmengine'}, {}, 'mmengine: the package is not installed in'),
        ({'mmdet'}, {}, 'mmdet: the package is not installed in'),
        ({'mmcv._ext'}, {}, r'mmcv 2.1.0 in /x/mmcv has no operators .mmcv._ext.: expected'),
        (
            set(),
            {'mmcv._ext': ImportError(f'{NO_SYMBOL}\nmore lines')},
            f'built against another torch or CUDA than torch .* here: {NO_SYMBOL}. Run',
        ),
        (set(), {'mmdet': AssertionError('MMCV==3 is used')}, 'mmdet rejects .*: MMCV==3 is used'),
    ],
)
def test_problem_of_the_installation_is_named(monkeypatch, missing, errors, expected):
    def import_module(name):
        if name in errors:
            raise errors[name]
        return SimpleNamespace(__version__='2.1.0', __path__=['/x/mmcv'])

    fake = SimpleNamespace(
        import_module=import_module,
        util=SimpleNamespace(find_spec=lambda name: None if name in missing else name),
    )
    monkeypatch.setattr(environment, 'importlib', fake)
    with pytest.raises(EnvironmentMismatchError, match=f'{expected}.*make setup'):
        environment.check_environment()
    missing.clear()
    errors.clear()
    environment.check_environment()


def test_this_installation_fits():
    environment.check_environment()


@pytest.mark.parametrize('kind', INSTALLATIONS)
@pytest.mark.exhaustive
def test_unsuitable_mmcv_is_explained(kind, tmp_path):
    version, operators, expected = INSTALLATIONS[kind]
    package = tmp_path / 'mmcv'
    package.mkdir()
    (package / '__init__.py').write_text(f"__version__ = '{version}'\n")
    if operators is not None:
        (package / '_ext.py').write_text(operators)
    done = subprocess.run(
        [sys.executable, 'tools/train.py', str(SAMPLE_CONFIG)],
        cwd=ROOT,
        env=dict(os.environ, PYTHONPATH=f'{tmp_path}:{ROOT}/projects'),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert 'Traceback' not in done.stderr
    *_, sentence = done.stderr.splitlines()
    assert re.search(expected, sentence), sentence
    assert 'make setup' in sentence and 'docs/installation.md' in sentence


def test_cuda_out_of_memory_is_explained(scene, tmp_path, monkeypatch):
    def loss(self, *args, **kwargs):
        raise torch.OutOfMemoryError(
            'CUDA out of memory. Tried to allocate 20.00 GiB. GPU 0 has a '
            'total capacity of 10.00 GiB.\nC++ stack'
        )

    monkeypatch.setattr(MultitaskRoIHead, 'loss', loss)
    with pytest.raises(SystemExit) as stop:
        train.main(
            [str(SAMPLE_CONFIG), '--work-dir', str(tmp_path), *as_arguments(tiny_options(scene))]
        )
    for help in ('CUDA out of memory', 'batch_size', '--amp', 'Resize', 'max_per_img'):
        assert help in stop.value.code
    assert 'stack' not in stop.value.code


def test_mmcv_without_cuda_operators_is_explained():
    expected = pytest.raises(SystemExit, match='without CUDA operators.*make setup')
    with expected, explained_errors():
        raise RuntimeError('DeformConv is not compiled with GPU support')
    with pytest.raises(RuntimeError, match='^another$'), explained_errors():
        raise RuntimeError('another')


def test_mixed_precision_and_cuda_need_a_gpu(scene, tmp_path):
    if torch.cuda.is_available():
        pytest.skip('there is CUDA here')
    with pytest.raises(SystemExit, match='--amp .*expected a GPU'):
        train.main(
            [
                str(SAMPLE_CONFIG),
                '--amp',
                '--work-dir',
                str(tmp_path),
                *as_arguments(tiny_options(scene)),
            ]
        )
    with pytest.raises(ValueError, match='no CUDA device here, found cuda:0'):
        settings.choose_device('cuda:0')


@pytest.mark.parametrize('name', ['gpu', 'cuda:x', '', '0'])
def test_unknown_devices_are_refused(name):
    with pytest.raises(ValueError, match="device: expected 'cpu', .* found "):
        settings.choose_device(name)
