"""The tables of the reliability page, from numbers by hand."""

import json

from tools.docs import reliability_page

RUN = dict(
    command='python x.py',
    commit='abc',
    date='2026-01-01',
    machine=dict(device='a device', torch='2'),
)


def _cells(text):
    return [
        [cell.strip() for cell in line.strip('|').split('|')]
        for line in text.splitlines()
        if line.startswith('|')
    ]


def test_counts_memory_and_inputs(tmp_path):
    assert set(reliability_page.sections(tmp_path).values()) == {'Not measured.'}
    damage = dict(
        images=100, missing=7, files_before=8, files_between=9, annotations=dict(a=3, b=4)
    )
    endurance = dict(
        run=RUN,
        damage=damage,
        ranks=2,
        workers=3,
        iterations=40,
        stopped_after=20,
        status=[75, 0],
        images_drawn=160,
        replaced=11,
        replaced_expected=12,
        memory=[
            [dict(process='rank', quarters=[1.5, 2, 4, 5], growth_percent=25.0)],
            [dict(process='worker', quarters=[4, 4, 4, 3], growth_percent=-25.0)],
        ],
    )
    fuzzing = dict(
        run=dict(
            RUN,
            seed=7,
            seconds=12.4,
            failed=['test_b'],
            inputs=dict(test_a=dict(one=10, two=5), test_b=dict(one=1)),
        )
    )
    for name, content in {'performance/endurance': endurance, 'fuzzing/fuzzing': fuzzing}.items():
        path = tmp_path / f'{name}.json'
        path.parent.mkdir()
        path.write_text(json.dumps(content))
    parts = reliability_page.sections(tmp_path)
    cells = _cells(parts['endurance'])
    assert ['damaged annotations', '7'] in cells
    assert ['**replaced and counted**', '11'] in cells
    assert ['**expected to be replaced**', '12'] in cells
    assert ['1', 'rank', '1.5', '2', '4', '5', '+25.0'] in cells
    assert ['2', 'worker', '4', '4', '4', '3', '-25.0'] in cells
    cells = _cells(parts['fuzzing'])
    assert ['`tests/fuzz/test_a.py`', '2', '15', 'no'] in cells
    assert ['`tests/fuzz/test_b.py`', '1', '1', 'yes'] in cells
    assert parts['fuzzing'].endswith(
        '\n\n`python x.py`, commit abc, 2026-01-01, a device, torch 2, seed 7, 12 s'
    )
