"""Importing the package changes nothing in other libraries but what the table lists."""

import json
import subprocess
import sys

import pytest
import torch

from multitask_refine.engine.patches import PATCHES
from multitask_refine.engine.patches.cpu_launchers import run_on_cpu
from tests.conftest import ROOT

LIBRARIES = ('mmcv', 'mmdet', 'mmengine', 'mmpose', 'numpy', 'pickle', 'torch', 'yaml')
# Prints the dotted names of attributes of modules and classes, and of entries of their dicts, that
# the import changes; of mmdet's registries the names that hide those of MMEngine.
COMPARE = """
import importlib, json, sys, warnings

import torch
from mmengine.registry import Registry

warnings.simplefilter('ignore')
modules = {'builtins': importlib.import_module('builtins'), 'sys': sys}
for name in json.load(sys.stdin):
    try:
        modules[name] = importlib.import_module(name)
    except Exception:  # some can only be imported by their library
        pass


def take_snapshot():
    owners = {name: vars(module) for name, module in modules.items()}
    for name, module in modules.items():
        for key, value in vars(module).items():
            if isinstance(value, type) and value.__module__ == name:
                owners[f'{name}.{key}'] = vars(value)
    found, seen = {}, set()
    for path, attributes in owners.items():
        for key, value in list(attributes.items()):
            if key.startswith('__'):
                continue
            if not isinstance(value, dict):
                found[f'{path}.{key}'] = value
            elif id(value) not in seen:  # under its first name alone
                seen.add(id(value))
                found.update({f'{path}.{key}[{item!r}]': value[item] for item in list(value)})
    return found, set(torch.serialization.get_safe_globals())


(before, allowed), excepthook = take_snapshot(), sys.excepthook
import multitask_refine

after, allowed_after = take_snapshot()
changed = [name for name, value in before.items() if name in after and after[name] is not value]
changed += [f'safe global {each}' for each in allowed_after - allowed]
changed += ['sys.excepthook'] * (sys.excepthook is not excepthook)
for key, registry in vars(modules['mmdet.registry']).items():
    if isinstance(registry, Registry) and registry.parent is not None:
        for name, cls in registry.module_dict.items():
            if cls.__module__.startswith('multitask_') and name in registry.parent.module_dict:
                changed.append(f'mmdet.registry.{key}[{name!r}]')
print(json.dumps(changed))
"""


def test_import_changes_only_the_targets_of_the_table():
    names = sorted(name for name in sys.modules if name.split('.')[0] in LIBRARIES)
    done = subprocess.run(
        [sys.executable, '-c', COMPARE],
        input=json.dumps(names),
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    changed = set(json.loads(done.stdout.splitlines()[-1]))
    listed = {target for patch in PATCHES for target in patch.targets}
    assert changed == listed


def test_every_patch_is_documented():
    for patch in PATCHES:
        assert all((patch.replacement, patch.reason, patch.upstream, patch.remove_when))


@pytest.mark.parametrize(
    'cuda, backend, expected',
    [(True, 'nccl', 'nccl'), (True, 'mpi', 'mpi'), (False, 'nccl', 'gloo'), (False, 'mpi', 'mpi')],
)
def test_gloo_replaces_nccl_only_without_cuda(cuda, backend, expected, monkeypatch):
    calls = []
    launcher = run_on_cpu(lambda backend, **options: calls.append((backend, options)))
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: cuda)
    launcher(backend, timeout=9)
    assert calls == [(expected, dict(timeout=9))]


def test_device_selection_is_disabled_only_while_a_launcher_runs(monkeypatch):
    def init_dist(backend):
        torch.cuda.set_device(3)  # as MMEngine's launchers do
        raise RuntimeError('no network')

    monkeypatch.setattr(torch.cuda, 'is_available', lambda: False)
    set_device = torch.cuda.set_device
    with pytest.raises(RuntimeError, match='no network'):
        run_on_cpu(init_dist)('nccl')
    assert torch.cuda.set_device is set_device
