"""The benchmark of the server, with few requests to a hand-made model."""

import json

import pytest

from benchmarks.robustness import serving
from tests.test_runtime.onnx_files import make_file


@pytest.mark.exhaustive
def test_server_under_a_light_load(tmp_path):
    model = make_file(tmp_path / 'model.onnx')
    path = tmp_path / 'serving.json'
    assert serving.main([model, '--scale', '0.2', '--json', str(path)]) == 0
    found = json.loads(path.read_text())
    groups = {group['requests']: group for group in found['groups']}
    assert groups['an image, one by one']['statuses'] == {'200': 5}
    assert groups['all at once, of one address']['statuses']['200'] >= 4
    assert groups['all at once, each of its own address']['statuses']['200'] >= 16
    assert groups['all at once, coming back after Retry-After']['statuses'] == {'200': 20}
    assert groups['decompression bombs']['statuses'].get('413', 0) >= 4
    assert '200' not in groups['files of other kinds']['statuses']
    # Bombs and uploads of 100 MiB take no memory to speak of.
    usual = groups['all at once, of one address']['peak_mib']
    for name in ('decompression bombs', 'uploads of 40 MiB', 'uploads of 40 MiB without a length'):
        assert groups[name]['peak_mib'] < usual + 200
    assert not found['tracebacks']


def test_mutations_are_reproducible_and_many():
    first = list(serving.mutate(bytes(100), 20, seed=1))
    assert first == list(serving.mutate(bytes(100), 20, seed=1))
    assert len(set(first)) == 20
