"""The benchmark of settings at test time, on three small images."""

import json

import pytest

from benchmarks.data import test_time as benchmark


def test_variants_are_evaluated_once(scene, tmp_path, monkeypatch):
    """A threshold above all scores finds nothing: AP 0."""
    for name in benchmark.DATASETS:
        (tmp_path / name).symlink_to(scene)
    variants = {'as trained': {}, 'blind': {'test_cfg.rcnn.score_thr': 1.1}}
    monkeypatch.setattr(benchmark, 'VARIANTS', variants)
    path = tmp_path / 'results.json'
    arguments = ['--data', str(tmp_path), '--json', str(path)]
    assert benchmark.main(arguments) == 0
    rows = json.loads(path.read_text())['variants']
    assert rows['as trained']['images'] == dict(base=3, crowded=3)
    assert rows['blind']['metrics']['base'] == dict(bbox=0, segm=0, keypoints=0)
    # A row with the same settings stays as it is; one with other settings is evaluated again.
    variants['blind'] = {'test_cfg.rcnn.score_thr': 1.2}
    rows['as trained']['metrics']['base']['bbox'] = 12.5
    content = dict(json.loads(path.read_text()), variants=rows)
    path.write_text(json.dumps(content))
    monkeypatch.setattr(benchmark, 'evaluate', lambda *args: pytest.fail('evaluated'))
    with pytest.raises(pytest.fail.Exception, match='evaluated'):
        benchmark.main(arguments)
    variants.pop('blind')
    assert benchmark.main(arguments) == 0
    (row,) = json.loads(path.read_text())['variants'].values()
    assert row['metrics']['base']['bbox'] == 12.5
