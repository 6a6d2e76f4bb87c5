"""Tables of single runs and of training on few photos, from numbers by hand."""

import json

import pytest

from multitask_refine.analysis.results_files import ResultsError
from tools.docs import results_page

DIGEST = 'c0ffee' + 58 * '0'
MACHINE = dict(device='a device', torch='2.1', mmcv='2.2', mmdet='3.3')
RUN = dict(command='python x.py', commit='abc', date='2026-01-01', machine=MACHINE)


def _write(path, content):
    path.write_text(json.dumps(content))
    return path


def _result(path, **run):
    origin = dict(
        config='a.py',
        checkpoint_sha256=DIGEST,
        annotations='ann.json',
        num_images=3,
        seconds=7,
        seed=None,
    )
    return _write(path, dict(bbox_AP=51.25, run={**RUN, **origin, **run}))


def _cells(text):
    return [
        [cell.strip() for cell in line.strip('|').split('|')]
        for line in text.splitlines()
        if line.startswith('|')
    ]


def test_a_run_is_shown_with_how_it_came_about(tmp_path):
    path = tmp_path / 'a.json'
    assert results_page.render_result(path) == 'Not measured.'
    lines = results_page.render_result(_result(path)).splitlines()
    assert lines[-6:] == [
        '- command: `python x.py`',
        '- config: `a.py`, seed None',
        '- checkpoint: SHA-256 `c0ffee0000000000`',
        '- data: `ann.json`, 3 images',
        '- commit abc, 2026-01-01, 7 s on a device',
        '- torch 2.1, mmcv 2.2, mmdet 3.3',
    ]
    assert f'`{DIGEST}`' in results_page.render_result(path, digits=64)


def test_the_stages_of_a_quickstart_are_summed(tmp_path):
    """2.6 + 10.6 + 0.4 seconds are 13.6, which is shown as 14."""
    stages = dict(Drawing=2.6, Training=10.6, Testing=0.4)
    text = results_page.render_result(_result(tmp_path / 'a.json', stages=stages))
    expected = '- with set-up done: 14 s (drawing 3 s, training 11 s, testing 0 s)'
    assert text.splitlines()[-1] == expected


@pytest.mark.parametrize('field', ['checkpoint_sha256', 'seconds', 'machine'])
def test_a_missing_field_is_named(tmp_path, field):
    path = _result(tmp_path / 'a.json')
    content = json.loads(path.read_text())
    del content['run'][field]
    _write(path, content)
    with pytest.raises(ResultsError, match=rf'a\.json: .*{field}'):
        results_page.render_result(path)


def test_the_page_has_a_section_for_each_single_run(tmp_path):
    parts = results_page.sections(tmp_path)
    assert parts == {'few-photos': 'Not measured.', 'runs': 'Not measured.'}
    for name in ('b', 'a'):
        _result(tmp_path / f'{name}.json')
    for name in ('partial-labels', 'test-time'):  # on pages of their own
        _write(tmp_path / f'{name}.json', {})
    lines = results_page.sections(tmp_path)['runs'].splitlines()
    assert [line for line in lines if line.startswith('#')] == ['## a', '## b']


def _few_photos():
    def figure(mean, std):
        return dict(mean=mean, std=std)

    unlabeled, one = figure(None, None), figure(12.5, None)
    summary = {
        'base, rb_h, 5': dict(
            runs=3, bbox=figure(41.25, 1.5), segm=unlabeled, keypoints=one, seconds=99.6
        ),
        'base, rb_h, 10': dict(runs=1, bbox=one, segm=one, keypoints=one, seconds=None),
    }
    return dict(run=RUN, base='base.pth', base_sha256=DIGEST, data_sha256=DIGEST, summary=summary)


def test_few_photos_are_means_with_deviations(tmp_path):
    _write(tmp_path / 'few-photos.json', _few_photos())
    text = results_page.sections(tmp_path)['few-photos']
    cells = _cells(text)
    assert ['base, rb_h, 5', '3', '41.2 ± 1.5', '-', '12.5', '100'] in cells
    assert ['base, rb_h, 10', '1', '12.5', '12.5', '12.5', '-'] in cells
    assert '- base: `base.pth`, SHA-256 `c0ffee0000000000`' in text
    assert results_page.sections(tmp_path)['runs'] == 'Not measured.'


@pytest.mark.parametrize('content', ['{', '[]', '{"run": null}', '{"run": {"machine": {}}}'])
def test_an_invalid_file_of_few_photos_is_refused(tmp_path, content):
    path = tmp_path / 'few-photos.json'
    path.write_text(content)
    with pytest.raises(ResultsError, match='few-photos.json: expected what .* Write it anew'):
        results_page.few_photos(path)


def test_training_parity_has_a_row_for_each_source(tmp_path):
    assert results_page.training_parity(tmp_path) == {'training-parity': 'Not measured.'}
    source = dict(
        source='detectron2-kps',
        num_losses=5,
        num_parameters=80,
        losses_first_step=1.23e-7,
        losses_all_steps=4.4e-7,
        gradients=0.0,
        weights_first_step=2e-9,
        weights_all_steps=9.6e-7,
    )
    _write(tmp_path / 'training-parity.json', dict(run=RUN, sources=[source]))
    text = results_page.training_parity(tmp_path)['training-parity']
    expected = ['detectron2-kps', '5', '80', '1e-07', '4e-07', '0e+00', '2e-09', '1e-06']
    assert expected in _cells(text)
    assert results_page.sections(tmp_path)['runs'] == 'Not measured.'


def test_partial_labels_are_compared_seed_by_seed(tmp_path):
    """Gains of 2 and 4 in every task, whatever the order of the runs; 51 and 53 have the mean 52
    and the sample standard deviation sqrt(2)."""
    values = {
        ('all', 0): 60,
        ('all', 1): 60,
        ('partial', 1): 53,
        ('half', 0): 49,
        ('half', 1): 49,
        ('partial', 0): 51,
    }
    runs = [
        dict(
            variant=variant,
            seed=seed,
            metrics={f'{task}_AP': value for task in ('bbox', 'segm', 'keypoints')},
        )
        for (variant, seed), value in values.items()
    ]
    content = dict(run=RUN, runs=runs, seeds=[0, 1], images=100, iterations=10, rate=1e-3)
    _write(tmp_path / 'partial-labels.json', content)
    text = results_page.partial_labels(tmp_path)['partial-labels']
    cells = _cells(text)
    assert ['all labels', *3 * ['60.0 ± 0.0']] in cells
    assert ['half of the masks, half of the keypoints removed', *3 * ['52.0 ± 1.4']] in cells
    assert ['second minus third row, seed by seed', *3 * ['+2.0, +4.0']] in cells
    assert 'AdamW with rate 0.001, seeds 0, 1;' in text


def test_settings_at_test_time_are_compared_with_the_first(tmp_path):
    images = dict(base=30, crowded=20)

    def row(bbox, segm, keypoints, commit):
        metrics = dict(bbox=bbox, segm=segm, keypoints=keypoints)
        other = dict(bbox=10.0, segm=20.0, keypoints=30.0)
        return dict(commit=commit, images=images, metrics=dict(base=metrics, crowded=other))

    variants = {'as trained': row(50.0, 40.0, 30.0, 'a1'), 'other': row(51.5, 38.0, 30.04, 'b2')}
    content = dict(variants=variants, checkpoint_sha256='c' * 64, run=RUN)
    _write(tmp_path / 'test-time.json', content)
    text = results_page.test_time(tmp_path)['test-time']
    cells = _cells(text)
    assert ['**as trained**', '50.0', '40.0', '30.0', '10.0', '20.0', '30.0'] in cells
    same = ['10.0 (+0.0)', '20.0 (+0.0)', '30.0 (+0.0)']
    assert ['other', '51.5 (+1.5)', '38.0 (-2.0)', '30.0 (+0.0)', *same] in cells
    assert '30 images of base, 20 images of crowded' in text
    assert 'evaluated at commit a1, b2' in text
