"""Means over seeds and intervals of their differences."""

import json

import pytest
from scipy import stats

from multitask_refine.analysis.ablation.seeds import (
    load_groups,
    mean_and_deviation,
    paired_difference,
    render,
    variant_of,
    verdict,
)
from tests.conftest import ROOT
from tests.test_tools.test_reproduce_tables import copy_pages
from tools.docs import ablation_tables
from tools.docs import build_docs as pages

CONFIG = 'multitask-rcnn_r26-w16_{}_1xb4-1500_sample'


def _write(folder, variant, seed, box, mask=None, keypoints=40.0, name=None, **run):
    """A results file with the AP of the three tasks."""
    config = CONFIG.format(variant)
    content = dict(
        bbox_AP=box,
        keypoints_AP=keypoints,
        run=dict(
            dict(
                config=f'{config}.py',
                seed=seed,
                annotations='ann.json',
                num_images=300,
                iteration=1500,
                training_commit='abc',
                machine=dict(device='CPU'),
            ),
            **run,
        ),
    )
    if mask is not None:
        content['segm_AP'] = mask
    folder.mkdir(exist_ok=True, parents=True)
    path = folder / (name or f'{config}_seed{seed}.json')
    path.write_text(json.dumps(content))


def _rows(text):
    return [
        [cell.strip() for cell in line.split('|')[1:-1]]
        for line in text.splitlines()
        if line.startswith('|')
    ]


def test_interval_of_differences():
    """Differences 1, 2, 3: mean 2, s = 1; t(0.975; 2) is 4.303 in the tables,
    so 2 -+ 4.303 / sqrt(3). Seed 9 has no partner. With two seeds t(0.975; 1)
    is 12.706, s = sqrt(1/2), and the margin 12.706 / 2."""
    others = {0: 10.0, 1: 20.0, 2: 30.0}
    mean, low, high = paired_difference({0: 11.0, 1: 22.0, 2: 33.0, 9: 99.0}, others)
    assert mean == pytest.approx(2)
    assert low == pytest.approx(2 - 2.4843, abs=1e-3)
    assert high == pytest.approx(2 + 2.4843, abs=1e-3)
    mean, low, high = paired_difference({0: 11.0, 1: 22.0}, others)
    assert (mean, high) == pytest.approx((1.5, 1.5 + 6.353), abs=1e-3)
    assert paired_difference({0: 1.0}, others) is None


def test_intervals_that_hold_together():
    """Of 5 comparisons each has 99 %: differences 1, 2, 3 as above, and
    t(0.995; 2) is 9.925 in the tables, so 2 -+ 9.925 / sqrt(3)."""
    values, others = [11.0, 22.0, 33.0], [10.0, 20.0, 30.0]
    found = paired_difference(dict(enumerate(values)), dict(enumerate(others)), comparisons=5)
    assert found == pytest.approx((2, 2 - 5.7302, 2 + 5.7302), abs=1e-3)
    # Exactly those that exclude 0 are below the corrected level.
    p = stats.ttest_rel(values, others).pvalue
    assert (found[1] > 0) == (p < 0.05 / 5)
    single = paired_difference(dict(enumerate(values)), dict(enumerate(others)))
    assert (single[1] > 0) == (p < 0.05)


def test_verdict_of_an_interval():
    assert verdict(0.1, 0.2) == 'higher'
    assert verdict(-0.2, -0.1) == 'lower'
    assert verdict(-0.1, 0.2) == verdict(0, 0) == 'within noise'


def test_mean_with_the_samples_deviation():
    """1, 2, 4: mean 7/3, variance (16 + 1 + 25) / 9 / 2 = 7/3."""
    assert mean_and_deviation([1, 2, 4]) == '2.33 ± 1.53'
    assert mean_and_deviation([3.0]) == '3.00'
    assert mean_and_deviation([]) == '-'


def test_a_name_is_split_into_variant_and_rest():
    assert variant_of('multitask-rcnn_r50_fpn-ms_rb-h-kps_4xb3-90k_coco') == (
        'fpn-ms_rb-h-kps',
        'r50_4xb3-90k_coco',
    )
    assert variant_of('multitask-rcnn_r50_c4_rb-h_4xb3-90k_coco')[0] == ('c4_rb-h')


def test_tables_say_means_seeds_and_noise(tmp_path):
    """RB is always 1 or 1.1 above, RB+H above or below; one run of the
    keypoints alone; no other runs."""
    for seed, box in enumerate((50.0, 52.0, 54.0)):
        _write(tmp_path, 'fpn-ms_regular', seed, box, mask=30.0)
        _write(tmp_path, 'fpn-ms_rb', seed, box + 1 + seed / 20, mask=30.0)
    _write(tmp_path, 'fpn-ms_rb-h', 0, 60.0, mask=31.0)
    _write(tmp_path, 'fpn-ms_rb-h', 1, 40.0, mask=29.0)
    _write(tmp_path, 'fpn-ms_rb-h-kps', 1, 41.0)
    rows = _rows(render(tmp_path))
    empty = [''] * 5
    assert ['Regular', '3', '52.00 ± 2.00', *['-'] * 5] in rows
    assert ['RB+H', '2', '50.00 ± 14.14', *['-'] * 5] in rows
    assert ['RB+H, keypoints only', '1', '40.00', '-'] in rows
    assert ['RB+H, single-scale', '0', 'not measured', '', ''] in rows
    differences = {row[0]: row[1:] for row in rows if ' minus ' in row[0]}
    n, box, mask, keypoints = differences['RB minus Regular']
    assert n == '3' and box == '+1.05 [+0.93, +1.17] higher'
    assert mask == '+0.00 [+0.00, +0.00] within noise' == keypoints
    n, box, mask, _ = differences['RB+H minus Regular']
    assert n == '2' and box.startswith('-1.00 [') and 'noise' in box
    kps = differences['RB+H, keypoints only minus RB+H']
    assert kps == ['1', '-', '-', '-']
    assert differences['RB+H, single-scale minus RB+H'] == ['0', *['-'] * 3]
    assert ['RB+H, no heatmap offsets', '0', 'not measured', *empty] not in rows


def test_missing_results_are_reported(tmp_path):
    assert 'Not measured.' in render(tmp_path / 'nothing')


@pytest.mark.parametrize(
    'run, words',
    [
        (dict(num_images=10), 'expected .*300.* found .*10'),
        (dict(iteration=700), 'found .*700'),
        (dict(annotations='other.json'), 'found .*other.json'),
        (dict(seed=5), 'with seed 5, and must be named so'),
    ],
)
def test_runs_that_do_not_belong_together_are_refused(tmp_path, run, words):
    _write(tmp_path, 'fpn-ms_rb', 0, 50.0)
    name = CONFIG.format('fpn-ms_regular') + '_seed1.json'
    _write(tmp_path, 'fpn-ms_regular', run.pop('seed', 1), 50.0, name=name, **run)
    with pytest.raises(ValueError, match=words):
        load_groups(tmp_path)


def test_networks_and_schedules_are_kept_apart(tmp_path):
    _write(tmp_path, 'fpn-ms_rb', 0, 50.0)
    other = 'multitask-rcnn_r50_fpn-ms_rb_1xb16-6k_sample'
    _write(
        tmp_path, 'x', 1, 60.0, config=f'{other}.py', num_images=500, name=f'{other}_seed1.json'
    )
    names = [group.name for group in load_groups(tmp_path)]
    assert names == ['r26-w16_1xb4-1500_sample', 'r50_1xb16-6k_sample']


def test_pages_include_the_runs(tmp_path):
    folder = tmp_path / 'docs/results/ablation'
    _write(folder, 'fpn-ms_rb', 0, 51.25, mask=30.0)
    _write(folder, 'fpn-ms_rb', 1, 51.75, mask=30.0)
    copy_pages(tmp_path)
    made = pages.generate(tmp_path)
    assert '51.50 ± 0.35' in made[tmp_path / 'docs/reproducing-the-paper.md']
    assert 'RB minus Regular' in made[tmp_path / 'docs/offsets-experiment.md']
    # The report's own tables are untouched by runs on drawn people.
    assert 'Results' not in made[tmp_path / 'metafile.yml']


def test_the_readme_has_the_refinements_of_the_offsets_experiment(tmp_path):
    folder = tmp_path / 'docs/results/offsets/final'
    folder.mkdir(parents=True)
    for seed, box in enumerate((50.0, 52.0)):
        content = json.loads((ROOT / f'docs/results/offsets/final/rb_seed{seed}.json').read_text())
        (folder / f'rb_seed{seed}.json').write_text(json.dumps(content | dict(bbox_AP=box)))
    copy_pages(tmp_path)
    rows = _rows(pages.generate(tmp_path)[tmp_path / 'README.md'])
    (rb,) = (row for row in rows if row[0] == 'RB')
    assert rb[1:3] == ['2', '51.00 ± 1.41']
    assert ['RB+H', '0', 'not measured', '', ''] in rows
    assert not any(row[0].startswith('Regular, SGD') for row in rows)


def test_the_command_writes_the_tables(tmp_path, capsys):
    _write(tmp_path / 'runs', 'fpn-ms_rb', 0, 51.25)
    assert ablation_tables.main([str(tmp_path / 'runs')]) == 0
    assert '51.25' in capsys.readouterr().out
    ablation_tables.main([str(tmp_path / 'runs'), '--out', str(tmp_path / 'tables.md')])
    assert '51.25' in (tmp_path / 'tables.md').read_text()


def test_published_runs_can_be_tabulated():
    assert render(ROOT / 'docs/results/ablation')
