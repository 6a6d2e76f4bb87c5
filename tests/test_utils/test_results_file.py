"""Provenance in results files: commit and machine."""

import subprocess

import pytest
import torch

from multitask_refine.utils import results_file
from multitask_runtime.utils import processor


@pytest.fixture
def repository(tmp_path, monkeypatch):
    """A repository with a source file and a results file."""
    monkeypatch.setattr(results_file, '_ROOT', tmp_path)
    for path in ('code.py', 'docs/results/old.json'):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text('old')
    for command in (
        ['init', '-q'],
        ['add', '.'],
        ['-c', 'user.name=A', '-c', 'user.email=a@b', 'commit', '-qm', 'first'],
    ):
        subprocess.check_call(['git', '-C', str(tmp_path), *command])
    return tmp_path


def test_commit_is_marked_for_changed_sources_but_not_for_changed_results(repository):
    commit = results_file.current_commit()
    assert len(commit) == 12
    (repository / 'docs/results/old.json').unlink()
    assert results_file.current_commit() == commit
    (repository / 'code.py').write_text('new')
    assert results_file.current_commit() == commit + '+changes'


def test_no_commit_outside_a_repository(tmp_path, monkeypatch):
    monkeypatch.setattr(results_file, '_ROOT', tmp_path)
    monkeypatch.setenv('GIT_CEILING_DIRECTORIES', str(tmp_path.parent))
    assert results_file.current_commit() is None


def test_machine_names_the_processor(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: False)
    monkeypatch.setattr(processor, 'CPUINFO', tmp_path / 'cpuinfo')
    (tmp_path / 'cpuinfo').write_text('model name\t: A Processor 9\nflags\t\t: fpu avx avx2 fma\n')
    machine = results_file.describe_machine()
    assert machine['device'].startswith('CPU (A Processor 9, AVX2), ')
    assert machine['instructions'] == ['AVX2']
