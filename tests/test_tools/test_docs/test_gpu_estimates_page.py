"""The tables about CUDA without a GPU, from numbers by hand."""

import json

import pytest

from tests.conftest import ROOT
from tools.docs import gpu_estimates_page

RUN = dict(
    command='python x.py',
    commit='abc',
    date='2026-01-01',
    machine=dict(device='a device', torch='2'),
)
SAMPLE = 'multitask_refine.models.task_modules.sync_free'


@pytest.fixture
def cells(tmp_path):
    def write(name, content):
        path = tmp_path / f'performance/{name}.json'
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(dict(content, run=RUN)))
        text = '\n'.join(gpu_estimates_page.sections(tmp_path).values())
        return [
            [cell.strip() for cell in line.strip('|').split('|')]
            for line in text.splitlines()
            if line.startswith('|')
        ]

    return write


def _place(kind, module, function, line, count):
    return dict(kind=kind, module=module, function=function, line=line, count=count)


def test_nothing_was_measured(tmp_path):
    assert set(gpu_estimates_page.sections(tmp_path).values()) == {'Not measured.'}


def test_synchronizations_by_network_and_by_place(cells):
    places = [
        _place('item', 'other', 'read', 1, 5),
        _place('nonzero', SAMPLE, '_sample', 10, 2),
        _place('boolean index', SAMPLE, '_sample', 12, 1),
    ]
    networks = dict(rb_h=dict(step=places, predict=places[:1]), detectron2=dict(step=places))
    rows = cells('synchronizations', dict(images=2, networks=networks))
    kinds = '5 number read, 3 indices of a mask'
    assert ['RB+H', 'training step, 2 images', '8', kinds] in rows
    assert ['RB+H', 'inference, 1 image', '5', '5 number read'] in rows
    name = "Detectron2's Keypoint R-CNN with a mask head"
    assert [name, 'training step, 2 images', '8', kinds] in rows
    reason = gpu_estimates_page.REASONS[SAMPLE, '_sample']
    assert ['training step', f'`{SAMPLE}._sample`', '3', reason] in rows
    assert ['inference', '`other.read`', '5', 'other'] in rows


def test_memory(cells):
    row = dict(network='a', weights=2**30, states=2**29)
    rows = cells(
        'memory-estimate',
        dict(
            size=dict(height=8, width=9, people=1),
            rows=[
                dict(row, task='predict', images=1, peak=3 * 2**30),
                dict(row, task='step', images=1, peak=4 * 2**30),
                dict(row, task='step', images=2, peak=5.5 * 2**30),
            ],
        ),
    )
    assert ['`a`', '1.00', '0.50', '3.00', '4.00', '5.50'] in rows
    assert rows[0][-2:] == ['step, 1 image', 'step, 2 images']


def test_graph_breaks(cells):
    part = dict(network='rb_h', part='backbone', graphs=2, waits=0)
    breaks = [dict(reason='No', place='m.f')]
    rows = cells(
        'compilation', dict(parts=[dict(part, breaks=breaks), dict(part, part='FPN', breaks=[])])
    )
    assert ['RB+H', 'backbone', '2', 'No in `m.f`', '0'] in rows
    assert ['RB+H', 'FPN', '2', '-', '0'] in rows


def test_every_place_of_the_project_has_a_reason():
    path = ROOT / 'docs/results/performance/synchronizations.json'
    networks = json.loads(path.read_text())['networks']
    for name in ('regular', 'rb_h', 'detectron2-converted'):
        for place in [each for places in networks[name].values() for each in places]:
            assert (place['module'], place['function']) in gpu_estimates_page.REASONS
