"""Rows of the report's tables: test runs, generated pages and invalid input."""

import hashlib
import json
import pickle
import runpy
import sys
import zipfile
from pathlib import Path

import mmdet
import numpy as np
import pytest
import torch
from mmdet.registry import MODELS
from mmengine.config import Config
from pycocotools import mask as mask_api

from multitask_cli import test
from multitask_refine.analysis.report_tables import Row, Table, load_tables, rows_by_config
from multitask_refine.analysis.results_files import ResultsError
from multitask_refine.utils.safe_checkpoint import load_checkpoint_file
from tests.conftest import CONFIGS, ROOT, SAMPLE_CONFIG, as_arguments, tiny_options
from tests.trainings import join_ranks, start_ranks
from tools import reproduce_tables as benchmark
from tools.docs import build_docs as pages

pytestmark = pytest.mark.slow

REGULAR = SAMPLE_CONFIG.with_name(SAMPLE_CONFIG.name.replace('rb-h', 'regular'))
KPS = 'multitask-rcnn_r50_fpn-ms_rb-h-kps_4xb3-90k_coco'
HEADS = ['bbox_AP', 'segm_AP', 'keypoints_AP']


def _options(scene):
    return as_arguments(tiny_options(scene))


@pytest.fixture(scope='module')
def trained(scene, tmp_path_factory):
    """Work dirs with a checkpoint of an RB+H network, as if it had been
    trained for 2 iterations with seed 3."""
    cfg = Config.fromfile(SAMPLE_CONFIG)
    cfg.merge_from_dict(tiny_options(scene))
    torch.manual_seed(0)
    model = MODELS.build(cfg.model)
    model.init_weights()
    meta = dict(
        seed=3,
        iter=2,
        mmengine_version='0.10.7' + '0123456789' * 4,
        experiment_name=f'{SAMPLE_CONFIG.stem}_20240229_235959',
    )
    folder = tmp_path_factory.mktemp('work_dirs')
    (folder / SAMPLE_CONFIG.stem).mkdir()
    torch.save(
        dict(meta=meta, state_dict=model.state_dict()), folder / SAMPLE_CONFIG.stem / 'iter_2.pth'
    )
    return folder


def copy_pages(folder):
    """Copy the project's pages, with something old in every generated part."""
    for page in (
        'README.md',
        'checkpoints/README.md',
        *(path.relative_to(ROOT) for path in (ROOT / 'docs').glob('*.md')),
    ):
        (folder / page).parent.mkdir(exist_ok=True)
        (folder / page).write_text(
            (ROOT / page).read_text().replace(pages.END, f'something old\n{pages.END}')
        )


def _by_hand(page):
    """The text of a page without its generated parts."""
    head, *rest = page.read_text().split(pages.BEGIN)
    return [head, *(part.split(pages.END)[1] for part in rest)]


@pytest.fixture
def project(tmp_path):
    """A folder whose pages may be written; in place of the report, tables of
    three rows: a config without masks, a regular network and a refined one."""
    copy_pages(tmp_path)
    row = dict(report=[10, 20, None])
    tables = [
        dict(
            key='3',
            title='heads',
            split='val2017',
            percent=True,
            columns=HEADS,
            rows=[
                dict(row, key='kps', name='K', config=KPS),
                dict(row, key='other', name='O', config=REGULAR.stem),
                dict(row, key='good', name='G', config=SAMPLE_CONFIG.stem),
            ],
        ),
        dict(
            key='4',
            title='again',
            split='test-dev2017',
            percent=False,
            columns=['segm_AP'],
            note='A note.',
            rows=[
                dict(key='cited', name='C', report=[0.5]),
                dict(
                    key='good',
                    name='G',
                    report=[0.25],
                    config=SAMPLE_CONFIG.stem,
                    submit='x-testdev',
                ),
            ],
        ),
    ]
    source = dict(title='T', authors='A', url='http://report')
    (tmp_path / 'tables.json').write_text(json.dumps(dict(source=source, tables=tables)))
    return tmp_path


def _benchmark(project, work_dirs, *args):
    return benchmark.main(
        [
            '--root',
            str(project),
            '--tables',
            str(project / 'tables.json'),
            '--work-dirs',
            str(work_dirs),
            *args,
        ]
    )


@pytest.mark.exhaustive
def test_a_failing_row_stops_no_other(project, trained, scene, capfd):
    """Real processes; the reasons come through; what was tested is kept."""
    work_dirs = project / 'work_dirs'
    good = trained / SAMPLE_CONFIG.stem
    weights = load_checkpoint_file(good / 'iter_2.pth')['state_dict']
    for name in (KPS, REGULAR.stem):
        (work_dirs / name).mkdir(parents=True)
    (work_dirs / SAMPLE_CONFIG.stem).symlink_to(good)
    (work_dirs / KPS / 'iter_9.pth').write_bytes(b'damaged')
    torch.save(dict(state_dict=weights), work_dirs / REGULAR.stem / 'iter_1.pth')

    assert _benchmark(project, work_dirs, *_options(scene)) == 1
    out, err = capfd.readouterr()
    assert '[3/3]' in out and '(3.good, 4.good)' in out
    assert '2 of 3 failed' in err
    assert 'row 3.kps asks for segm' in err
    assert 'these are not the weights of this config' in err

    (path,) = (project / 'docs/results/coco').iterdir()
    result = json.loads(path.read_text())
    assert path.stem == SAMPLE_CONFIG.stem
    _check_origin(result['run'], good / 'iter_2.pth')
    _check_pages(project, result)

    # What is there is not tested again: there is no checkpoint any more.
    assert _benchmark(project, project / 'nothing', '4.good') == 0
    assert 'was tested before' in capfd.readouterr().out


def _check_origin(run, checkpoint):
    digest = hashlib.sha256(checkpoint.read_bytes()).hexdigest()
    assert run['checkpoint_sha256'] == digest
    assert (run['seed'], run['iteration'], run['processes']) == (3, 2, 1)
    assert run['trained_with'] == SAMPLE_CONFIG.stem
    assert run['training_commit'] == '012345678901'
    assert run['num_images'] == 3 and run['seconds'] > 0
    assert run['annotations'].endswith('person_keypoints_val2017.json')
    assert run['command'].startswith('python tools/test.py configs/')
    versions = ('torch', 'mmcv', 'mmengine', 'mmdet', 'mmpose', 'pycocotools', 'numpy', 'python')
    assert all(run['machine'][name] for name in versions)


def _check_pages(project, result):
    page = (project / 'docs/reproducing-the-paper.md').read_text()
    rows = [
        [cell.strip() for cell in line.split('|')[1:-1]]
        for line in page.splitlines()
        if line.startswith('|')
    ]
    box, mask = result['bbox_AP'], result['segm_AP']
    keypoints = result['keypoints_AP']
    assert ['O', 'report', '10.00', '20.00', '-'] in rows
    assert ['', 'this project', 'not measured', '', ''] in rows
    assert ['', 'this project', f'{box:.2f}', f'{mask:.2f}', f'{keypoints:.2f}'] in rows
    assert ['', 'difference', f'{box - 10:+.2f}', f'{mask - 20:+.2f}', '-'] in rows
    assert ['C', 'cited by the report', '50.0'] in rows
    assert ['', 'this project, test-dev2017', 'not measured'] in rows
    assert ['', 'this project, val2017', f'{mask:.2f}'] in rows
    assert 'A note.' in page and 'configs/multitask_refine/x-testdev.py' in page
    assert result['run']['checkpoint_sha256'][:8] in page

    checkpoints = (project / 'checkpoints/README.md').read_text()
    assert f'{pages.BEGIN} -->\nNot measured.\n{pages.END}\n' in checkpoints
    for page in (
        'README.md',
        'checkpoints/README.md',
        'docs/reproducing-the-paper.md',
        'docs/performance.md',
        'docs/offsets-experiment.md',
    ):
        assert 'something old' not in (project / page).read_text()
        assert _by_hand(project / page) == _by_hand(ROOT / page)
    metafile = (project / 'metafile.yml').read_text()
    assert metafile.count('Results:') == 1
    assert f'box AP: {round(box, 2)}' in metafile


def test_unknown_rows_and_ambiguous_weights_are_refused(project, tmp_path):
    with pytest.raises(SystemExit, match='unknown row: 9. Known .* 3.good'):
        _benchmark(project, tmp_path, '9')
    with pytest.raises(SystemExit, match='rows of one config, got .* 3'):
        _benchmark(project, tmp_path, '3', '--checkpoint', 'x.pth')


@pytest.mark.exhaustive
def test_a_named_row_needs_weights_of_its_own_config(project, trained, capfd):
    assert _benchmark(project, project / 'nothing', '3.good') == 1
    assert 'no checkpoint in the work dir' in capfd.readouterr().err
    checkpoint = trained / SAMPLE_CONFIG.stem / 'iter_2.pth'
    assert _benchmark(project, trained, '3.other', '--checkpoint', str(checkpoint)) == 1
    assert (
        f'was trained with {SAMPLE_CONFIG.stem}, the row is of {REGULAR.stem}'
    ) in capfd.readouterr().err
    assert not (project / 'docs/results').exists()


def test_the_list_shows_rows_and_weights(project, trained, capsys):
    assert _benchmark(project, trained, '--list') == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3 and lines[1].endswith('3.other: no checkpoint')
    assert lines[2].endswith('.pth')


def test_checkpoint_selection(tmp_path):
    find = benchmark.find_checkpoint
    assert find(tmp_path / 'nothing') is None
    (tmp_path / 'iter_9.pth').touch()
    (tmp_path / 'iter_10.pth').touch()
    assert find(tmp_path).name == 'iter_10.pth'
    # Trained elsewhere: only the name counts.
    (tmp_path / 'last_checkpoint').write_text('/elsewhere/iter_9.pth')
    assert find(tmp_path).name == 'iter_9.pth'
    (tmp_path / 'last_checkpoint').write_text('/elsewhere/iter_11.pth')
    assert find(tmp_path).name == 'iter_10.pth'
    (tmp_path / 'best_coco_keypoints_AP_iter_5.pth').touch()
    assert find(tmp_path).name == 'best_coco_keypoints_AP_iter_5.pth'


def test_the_reports_tables():
    """What the report says twice is the same, and every row has its config."""
    tables = {table.key: table for table in load_tables()}
    assert list(tables)[:7] == list('1234567')
    assert [len(tables[key].rows) for key in '1234567'] == [5, 7, 3, 3, 3, 2, 2]
    regular = [tables[key].rows[0].report[0] for key in '354']
    assert list(tables['7'].rows[1].report) == regular
    for config, rows in rows_by_config(list(tables.values()), []).items():
        cfg = Config.fromfile(CONFIGS / f'multitask_refine/{config}.py')
        tasks = cfg.test_evaluator.get('tasks', ['bbox', 'segm', 'keypoints'])
        for table, row in rows:
            assert set(table.tasks_of(row)) <= set(tasks), row.key
            if row.submit:
                submit = Config.fromfile(CONFIGS / f'multitask_refine/{row.submit}.py')
                assert submit.model == cfg.model
                assert submit.test_evaluator.format_only
                dataset = submit.test_dataloader.dataset
                assert submit.test_evaluator.ann_file == (dataset.data_root + dataset.ann_file)
                assert dataset.data_prefix.img == 'test2017/'
                assert '2017/' in submit.train_dataloader.dataset.data_prefix.img


def test_a_row_asks_for_the_tasks_of_its_cells():
    row = Row('6.kps', 'K', (1.0, None), 'c')
    table = Table('6', 'T', 'val2017', ('keypoints_AP', 'segm_AP'), (row,))
    assert table.tasks_of(row) == ['keypoints']
    assert table.tasks_of(Row('6.x', 'X')) == ['segm', 'keypoints']


@pytest.mark.parametrize(
    'change, words',
    [
        (lambda t: t['columns'].append('segm_AP'), 'expected 4 numbers, found 3'),
        (lambda t: t.update(columns=['mask_AP'] * 3), 'mask_AP'),
        (lambda t: t['rows'].append(t['rows'][0]), 'twice'),
    ],
)
def test_errors_in_the_tables_are_named(project, change, words):
    path = project / 'tables.json'
    content = json.loads(path.read_text())
    change(content['tables'][0])
    path.write_text(json.dumps(content))
    with pytest.raises(ValueError, match=words):
        load_tables(path)


@pytest.mark.parametrize(
    'old, new, words',
    [
        (' runs -->', ' run -->', r"'report', 'run', 'small-scale'"),
        (' runs -->', ' more -->', "'more', 'more', 'report'"),
        (f'{pages.END}\n\n## Small', '## Small', r"'report', 'runs', 'subm"),
    ],
)
def test_other_markers_in_a_page_are_refused(project, old, new, words):
    page = project / 'docs/reproducing-the-paper.md'
    page.write_text(page.read_text().replace(old, new))
    with pytest.raises(ResultsError, match=f'reproducing-the-paper.md: .*found.*{words}'):
        pages.generate(project, project / 'tables.json')


def test_a_result_under_another_name_and_a_readme_without_markers(project):
    folder = project / 'docs/results/coco'
    folder.mkdir(parents=True)
    (folder / 'a.json').write_text(json.dumps(dict(run=dict(config='b.py'))))
    with pytest.raises(ValueError, match='a.json: is a result of b'):
        pages.generate(project, project / 'tables.json')
    (folder / 'a.json').unlink()
    (project / 'README.md').write_text('nothing')
    with pytest.raises(ValueError, match=r'README.md: .* found \[\]'):
        pages.generate(project, project / 'tables.json')


def test_a_missing_dataset_is_named(trained, tmp_path, scene):
    options = _options(scene) + ['test_dataloader.dataset.data_root=/nowhere/']
    with pytest.raises(SystemExit, match='/nowhere/annotations/.*make_sample'):
        test.main(
            [
                str(SAMPLE_CONFIG),
                str(trained / SAMPLE_CONFIG.stem / 'iter_2.pth'),
                '--work-dir',
                str(tmp_path),
                *options,
            ]
        )


def _read(folder, kind, split, name):
    (archive,) = Path(folder).glob(f'{kind}_{split}_*_results.zip')
    assert archive.name == f'{kind}_{split}_{name}_results.zip'
    with zipfile.ZipFile(archive) as file:
        return json.loads(file.read(archive.with_suffix('.json').name))


def test_files_for_the_server_hold_all_predictions(trained, scene, tmp_path):
    """Three images: what one process writes is what the network predicted,
    and two processes, one of which has an image twice, write the same."""
    checkpoint = str(trained / SAMPLE_CONFIG.stem / 'iter_2.pth')
    common = [str(SAMPLE_CONFIG), checkpoint]
    one, two = tmp_path / 'one', tmp_path / 'two'
    test.main(
        [
            *common,
            '--work-dir',
            str(one),
            '--format-only',
            '--out',
            str(tmp_path / 'out.pkl'),
            *_options(scene),
        ]
    )
    run = json.loads((one / 'submission.json').read_text())
    assert list(run) == ['run'] and run['run']['seed'] == 3
    _compare_with_predictions(one, tmp_path / 'out.pkl')

    log = tmp_path / 'out.txt'
    command = [*common, '--format-only', '--work-dir', str(two), *_options(scene)]
    out = join_ranks(start_ranks(test.main, command, log, ranks=2), log)
    assert out.count('read back without fault') == 2
    name = SAMPLE_CONFIG.stem.replace('_', '-')
    for kind in ('detections', 'person_keypoints'):
        single, double = (_read(folder, kind, 'val2017', name) for folder in (one, two))
        assert len(single) == len(double) > 3
        for a, b in zip(single, double):
            assert a['image_id'] == b['image_id']
            assert a['score'] == pytest.approx(b['score'], abs=1e-5)
            if kind == 'detections':
                a, b = (mask_api.decode(r['segmentation']) for r in (a, b))
                assert (a != b).mean() < 1e-3
            else:
                assert a['keypoints'] == pytest.approx(b['keypoints'], abs=0.05)


def _compare_with_predictions(folder, dump):
    with open(dump, 'rb') as file:
        samples = pickle.load(file)
    name = SAMPLE_CONFIG.stem.replace('_', '-')
    masks = iter(_read(folder, 'detections', 'val2017', name))
    keypoints = iter(_read(folder, 'person_keypoints', 'val2017', name))
    for sample in samples:
        pred = sample['pred_instances']
        for index in range(len(pred['scores'])):
            mask, keypoint = next(masks), next(keypoints)
            assert mask['image_id'] == keypoint['image_id'] == sample['img_id']
            score = float(pred['scores'][index])
            assert mask['score'] == pytest.approx(score)
            mean = float(pred['keypoint_scores'][index].mean())
            assert keypoint['score'] == pytest.approx(score * mean)
            decoded = mask_api.decode(mask['segmentation']).astype(bool)
            assert (decoded == pred['masks'][index].numpy()).all()
            points = np.reshape(keypoint['keypoints'], (17, 3))
            np.testing.assert_allclose(points[:, :2], pred['keypoints'][index] - 0.5, atol=0.006)
    assert not list(masks) and not list(keypoints)


def test_mmdets_test_tool_writes_the_files_of_test_dev(trained, scene, tmp_path, monkeypatch):
    """The config alone says so; the file lists 80 categories and no
    annotations, as COCO's does."""
    data = tmp_path / 'coco'
    (data / 'annotations').mkdir(parents=True)
    (data / 'test2017').symlink_to(scene / 'val2017')
    content = json.loads((scene / 'annotations/person_keypoints_val2017.json').read_text())
    categories = [dict(id=i, name='person' if i == 1 else f'thing {i}') for i in range(1, 81)]
    (data / 'annotations/image_info_test-dev2017.json').write_text(
        json.dumps(dict(images=content['images'], categories=categories))
    )
    config = tmp_path / 'testdev.py'
    config.write_text(
        f"_base_ = ['{SAMPLE_CONFIG}', "
        f"'{ROOT}/configs/_base_/datasets/coco-testdev.py']\n"
        'test_dataloader = dict(dataset=_base_.testdev_dataset)\n'
        'test_evaluator = dict(**_base_.testdev_evaluator, '
        f"outfile_prefix='{tmp_path}/out/net')\n"
    )
    options = [
        option
        for option in _options(scene)
        if not option.startswith(('test_dataloader.dataset.data_root', 'test_evaluator'))
    ]
    ann_file = f'{data}/annotations/image_info_test-dev2017.json'
    # What `mim test mmdet` starts; it sets LOCAL_RANK where there is none.
    tool = Path(mmdet.__file__).parent / '.mim/tools/test.py'
    checkpoint = str(trained / SAMPLE_CONFIG.stem / 'iter_2.pth')
    options += [
        f'test_dataloader.dataset.data_root={data}/',
        f'test_evaluator.ann_file={ann_file}',
    ]
    work_dir = ['--work-dir', str(tmp_path / 'work')]
    monkeypatch.setenv('LOCAL_RANK', '0')
    monkeypatch.setattr(sys, 'argv', ['test.py', str(config), checkpoint, *work_dir, *options])
    runpy.run_path(str(tool), run_name='__main__')
    for kind in ('detections', 'person_keypoints'):
        results = _read(tmp_path / 'out', kind, 'test-dev2017', 'net')
        assert results
        assert {result['category_id'] for result in results} == {1}
