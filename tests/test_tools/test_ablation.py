"""The small-scale runs, smaller still, by the tool that does them."""
import json
import re

import pytest

from tests.conftest import as_arguments, tiny_options
from tools import ablation


@pytest.fixture
def options(tmp_path, monkeypatch):
    """Six pictures and a network of seconds."""
    monkeypatch.setattr(
        ablation, 'CPU',
        ablation.CPU._replace(
            sample=str(tmp_path / 'sample'), size=64, train=4, val=2))
    monkeypatch.setattr(ablation.torch.cuda, 'is_available', lambda: False)
    settings = {
        name: value
        for name, value in tiny_options(tmp_path).items()
        if not re.search('data_root|ann_file|val_interval|checkpoint', name)
    }
    return ['--work-dir', str(tmp_path / 'runs'), '--variants',
            'fpn-ms_regular', *as_arguments(settings)]


def test_runs_leave_results_and_tables_and_are_not_repeated(
        options, tmp_path, capfd):
    assert ablation.main(['--seeds', '5', *options]) == 0
    (result, ) = (tmp_path / 'runs/results').glob('*.json')
    assert result.stem.endswith('fpn-ms_regular_1xb4-1500_sample_seed5')
    run = json.loads(result.read_text())['run']
    assert run['num_images'] == 2 and run['seed'] == 5
    assert run['iteration'] == 2
    tables = (tmp_path / 'runs/tables.md').read_text()
    assert '| Regular' in tables and 'not measured' in tables
    capfd.readouterr()
    before = result.stat().st_mtime_ns
    assert ablation.main(['--seeds', '5', *options]) == 0
    assert '1 of them finished before' in capfd.readouterr().out
    assert result.stat().st_mtime_ns == before


def test_a_failed_run_names_its_log(options):
    with pytest.raises(SystemExit, match=r'train.py failed.*output.txt'):
        ablation.main(
            ['--seeds', '5', *options, 'model.backbone.type=Nothing'])
