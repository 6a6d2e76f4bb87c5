"""What a results file says about the commit, in repositories made here, and
about the machine."""

import subprocess

import pytest
import torch

from multitask_refine.utils import results_file


@pytest.fixture
def repository(tmp_path, monkeypatch):
    """One commit with a source file and a results file."""
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


def test_changed_sources_are_told_and_changed_results_are_not(repository):
    commit = results_file.current_commit()
    assert len(commit) == 12
    (repository / 'docs/results/old.json').unlink()
    assert results_file.current_commit() == commit
    (repository / 'code.py').write_text('new')
    assert results_file.current_commit() == commit + '+changes'


def test_outside_a_repository_there_is_no_commit(tmp_path, monkeypatch):
    monkeypatch.setattr(results_file, '_ROOT', tmp_path)
    monkeypatch.setenv('GIT_CEILING_DIRECTORIES', str(tmp_path.parent))
    assert results_file.current_commit() is None


def test_the_processor_is_named(monkeypatch):
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: False)
    monkeypatch.setattr(torch.backends.cpu, 'get_cpu_capability', lambda: 'AVX9')
    monkeypatch.setattr(
        results_file,
        '_read',
        lambda path: 'vendor_id\t: A\nmodel name\t: A Processor 9\nprocessor\t: 1\n',
    )
    device = results_file.describe_machine()['device']
    assert device.startswith('CPU (A Processor 9, AVX9), ')
    # Other systems have no such file; theirs may be unknown.
    monkeypatch.setattr(results_file, '_read', lambda path: '')
    monkeypatch.setattr(results_file.platform, 'processor', lambda: '')
    device = results_file.describe_machine()['device']
    assert device.startswith('CPU (AVX9), ')
