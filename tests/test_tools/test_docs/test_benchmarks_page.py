"""The report's tables beside this project's results, from numbers by hand."""

import json

import pytest

from multitask_refine.analysis.report_tables import Row, Table
from multitask_refine.analysis.results_files import ResultsError
from tools.docs import benchmarks_page, metafile

HEADS = ('bbox_AP', 'segm_AP', 'keypoints_AP')
RUN = dict(
    config='a.py',
    checkpoint_sha256='c0ffee00' + 56 * '0',
    iteration=90,
    num_images=5,
    commit='abc',
    processes=2,
    seconds=12.4,
    seed=None,
    machine=dict(device='a device'),
)
CITED = Row('1.x', 'Another', (50.0, None))
FULL = Row('1.a', 'Full', (40.0, None), 'a', submit='a-testdev')
OTHER = Row('1.b', 'Other', (41.0, 31.0), 'b')
OWN = Row('new.a', 'Own idea', None, 'a')


def _table(*rows, key='1', split='val2017', columns=HEADS[:2], title='heads on val2017'):
    return Table(key, title, split, columns, rows, digits=1, note='A note.')


@pytest.fixture
def folder(tmp_path):
    (tmp_path / 'coco').mkdir()
    content = dict(bbox_AP=41.5, segm_AP=30.25, keypoints_AP=None, run=RUN)
    (tmp_path / 'coco/a.json').write_text(json.dumps(content))
    return tmp_path


def _cells(text):
    return [
        [cell.strip() for cell in line.strip('|').split('|')]
        for line in text.splitlines()
        if line.startswith('|')
    ]


def test_a_row_is_compared_with_the_report(folder):
    """41.5 is 1.5 above 40; where the report leaves a cell empty there is no difference."""
    parts = benchmarks_page.sections([_table(CITED, FULL, OTHER)], folder)
    assert _cells(parts['report'])[2:] == [
        ['Another', 'cited by the report', '50.0', '-'],
        ['Full', 'report', '40.0', '-'],
        ['', 'this project', '41.50', '30.25'],
        ['', 'difference', '+1.50', '-'],
        ['Other', 'report', '41.0', '31.0'],
        ['', 'this project', 'not measured', ''],
    ]
    assert parts['report'].startswith('## Table 1: heads on val2017\n')
    assert parts['report'].endswith('\n\nA note.\n')
    assert parts['submissions'].split() == [
        'python',
        'tools/test.py',
        'configs/multitask_refine/a-testdev.py',
        'CHECKPOINT',
    ]
    assert parts['more'] == ''


def test_rows_of_test_dev_show_what_was_measured_on_val(folder):
    parts = benchmarks_page.sections([_table(FULL, split='test-dev2017')], folder)
    assert _cells(parts['report'])[3:] == [
        ['', 'this project, test-dev2017', 'not measured', ''],
        ['', 'this project, val2017', '41.50', '30.25'],
    ]


def test_rows_that_are_not_in_the_report_come_last(folder):
    parts = benchmarks_page.sections([_table(OWN, title='own ideas')], folder)
    assert parts['report'] == '' and parts['more'].startswith('### Own ideas\n')
    assert _cells(parts['more'])[2:] == [['Own idea', 'this project', '41.50', '30.25']]


def test_how_a_result_came_about(folder, tmp_path):
    row = _cells(benchmarks_page.sections([], folder)['runs'])[-1]
    digest = '`c0ffee00`'
    config = '[a](results/coco/a.json)'
    assert row == [config, digest, 'unknown', '90', '5', 'abc', '2 x a device', '12 s']
    nothing = benchmarks_page.sections([], tmp_path / 'nothing')['runs']
    assert nothing == 'No config was tested on COCO yet.'


def test_the_excerpt_has_rows_that_the_report_gives_for_all_tasks(folder):
    """Its three tasks may be in several tables; of two numbers for one task the first counts."""
    tables = [
        _table(FULL, OTHER, columns=HEADS[:2]),
        _table(
            Row('2.a', 'Again', (99.0, 20.0, 60.0), 'a'), Row('2.b', 'Other', (1, 2, None), 'b')
        ),
        _table(Row('3.a', 'Hidden', (9.0, 9.0, 9.0), 'a'), split='test-dev2017', columns=HEADS),
    ]
    tables[1] = Table('2', 'all', 'val2017', HEADS, tables[1].rows)
    tables[0] = Table('1', 'one', 'val2017', HEADS[:1], (Row('1.a', 'Full', (40.0,), 'a'),))
    assert _cells(benchmarks_page.excerpt(tables, folder))[2:] == [
        ['Full, report', '40.00', '20.00', '60.00'],
        ['Full, here', '41.50', '30.25', '-'],
    ]


@pytest.mark.parametrize(
    'change, message', [(dict(config='b.py'), 'is a result of b'), (dict(seconds=None), 'seconds')]
)
def test_a_file_that_cannot_be_used_is_named(folder, change, message):
    path = folder / 'coco/a.json'
    path.write_text(json.dumps(dict(bbox_AP=1, run={**RUN, **change})))
    with pytest.raises(ResultsError, match=f'a.json: .*{message}'):
        benchmarks_page.load_results(folder / 'coco')


def test_models_of_the_metafile_have_the_metrics_that_were_measured(tmp_path):
    (tmp_path / 'configs/sample').mkdir(parents=True)
    (tmp_path / 'configs/sample/a.py').write_text('train_cfg = dict(max_iters=90)\n')
    source = dict(title='A title', url='https://example.org', authors=[])
    results = dict(a=dict(bbox_AP=41.456, segm_AP=None))
    text = metafile.render(source, [_table(CITED, FULL, OWN)], results, tmp_path)
    (model,) = metafile.yaml.safe_load(text)['Models']
    assert model['Config'] == 'configs/sample/a.py'
    assert model['Metadata'] == dict(Iterations=90)
    (result,) = model['Results']
    assert result['Metrics'] == {'box AP': 41.46}
