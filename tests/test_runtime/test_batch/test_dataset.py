"""Datasets that are predicted, stopped and completed."""

import functools
import json

import numpy as np
import pytest

from multitask_runtime import InputError, OnnxInferencer
from multitask_runtime.batch import predict_dataset, predict_here
from multitask_runtime.batch.outputs import write_complete
from multitask_runtime.io.results import to_coco
from tests.test_runtime.onnx_files import BOXES
from tests.test_runtime.test_batch.conftest import encode, make_files, make_tar, read_rows


def test_every_image_once_in_its_order(load, tmp_path):
    inputs = [
        make_files(tmp_path / 'photos', 5),
        make_tar(tmp_path / 'a.tar', {'x.png': encode(200), 'y.png': encode(100, 24, 32)}),
    ]
    summary = predict_dataset(load, inputs, tmp_path / 'out', model='m', shard_size=2)
    assert summary.model_dump() == dict(shards=4, images=7, bad_images=0, instances=14, reasons=[])
    rows = read_rows(tmp_path / 'out')
    names = ['0.png', '1.png', '2.png', '3.png', '4.png', 'x.png', 'y.png']
    assert [row['file_name'] for row in rows] == names
    numbers = [(row['id'] >> 32, row['id'] & 0xFFFFFFFF) for row in rows]  # shard, position
    assert numbers == [(0, 0), (0, 1), (1, 0), (1, 1), (2, 0), (3, 0), (3, 1)]
    assert {row['source'] for row in rows} == set(inputs)
    # Half the size of the model's image, as xywh.
    x1, y1, x2, y2 = (value / 2 for value in BOXES[0])
    annotation = rows[5]['annotations'][0]
    assert annotation['bbox'] == [x1, y1, x2 - x1, y2 - y1]
    assert annotation['score'] == pytest.approx(200 / 255)
    assert annotation['image_id'] == rows[5]['id']
    assert (rows[6]['height'], rows[6]['width']) == (24, 32)
    categories = json.loads((tmp_path / 'out/categories.json').read_text())
    assert categories[0]['keypoints'] == ['head', 'foot']


def test_predictions_are_those_of_the_inferencer(load, tmp_path):
    folder = make_files(tmp_path / 'photos', 3)
    predict_dataset(load, [folder], tmp_path / 'out', model='m', score_thr=0.05)
    results = load()(folder)
    for row, result in zip(read_rows(tmp_path / 'out'), results, strict=True):
        expected = [each for each in to_coco(result) if each['score'] >= 0.05]
        found = [{**each} for each in row['annotations']]
        for each in found:
            del each['image_id']
        assert found == json.loads(json.dumps(expected))
    assert [len(row['annotations']) for row in read_rows(tmp_path / 'out')] == [0, 0, 2]


def test_bad_images_are_counted_and_keep_their_place(load, tmp_path):
    members = {'0.png': encode(10), '1.png': encode(20)[:-20], '2.png': b'', '3.png': encode(30)}
    path = make_tar(tmp_path / 'a.tar', members)
    (tmp_path / 'list.txt').write_text('none.png\n')
    summary = predict_dataset(
        load, [path, str(tmp_path / 'list.txt')], tmp_path / 'out', model='m'
    )
    assert (summary.images, summary.bad_images, summary.instances) == (5, 3, 4)
    rows = read_rows(tmp_path / 'out')
    assert [bool(row['error']) for row in rows] == [False, True, True, False, True]
    assert rows[1]['error'].startswith(f'{path}: 1.png: expected an image, found')
    assert 'none.png: No such file' in rows[4]['error']
    assert summary.reasons == [row['error'] for row in rows if row['error']]
    assert all(row['annotations'] == [] and row['height'] is None for row in rows if row['error'])


def test_images_are_sorted_by_size_to_fill_batches(load, tmp_path):
    sizes = [(48, 64), (64, 48)] * 4
    members = {f'{i}.png': encode(10 * i, *size) for i, size in enumerate(sizes)}
    path = make_tar(tmp_path / 'a.tar', members)
    seen = []

    class Watched(OnnxInferencer):
        def _results(self, frames, batch_size, progress):
            for frame in frames:
                seen.append(frame.image.shape[:2])
                yield from super()._results([frame], batch_size, progress)

    watched = functools.partial(Watched, *load.args, **load.keywords)
    predict_dataset(watched, [path], tmp_path / 'out', model='m', batch_size=4)
    assert seen == [(48, 64)] * 4 + [(64, 48)] * 4
    rows = read_rows(tmp_path / 'out')
    assert [row['file_name'] for row in rows] == list(members)
    assert [(row['height'], row['width']) for row in rows] == sizes
    scores = [row['annotations'][0]['score'] for row in rows]
    np.testing.assert_allclose(scores, np.arange(8) * 10 / 255, rtol=1e-5, atol=1e-6)


def test_stopped_run_goes_on_with_what_is_not_done(load, tmp_path):
    folder = make_files(tmp_path / 'photos', 6)
    out = tmp_path / 'out'

    def stopped_engine(load, folder, shards, **options):
        reports = predict_here(load, folder, shards, **options)
        yield next(reports)
        yield next(reports)
        raise KeyboardInterrupt

    run = functools.partial(
        predict_dataset, load, [folder], out, model='m', shard_size=2, show_progress=False
    )
    with pytest.raises(KeyboardInterrupt):
        run(engine=stopped_engine)
    first = {part.name: part.stat().st_mtime_ns for part in out.glob('part-*')}
    assert sorted(first) == ['part-000000.jsonl', 'part-000001.jsonl']
    assert not (out / 'summary.json').exists()
    # The last shard was written, but its worker was killed before the report.
    (out / 'part-000002.jsonl').write_text('half of a line')
    (out / '.part-000002.jsonl.abc.part').touch()
    seen = []

    def engine(load, folder, shards, **options):
        seen.extend(shard.number for shard in shards)
        return predict_here(load, folder, shards, **options)

    summary = run(engine=engine)
    assert seen == [2]
    assert (summary.shards, summary.images) == (3, 6)
    assert [row['file_name'] for row in read_rows(out)] == [f'{i}.png' for i in range(6)]
    for name, time in first.items():
        assert (out / name).stat().st_mtime_ns == time
    assert not list(out.glob('.*.part'))
    # A third run has nothing to do, and needs no model.
    assert run(engine=None) == summary


def test_shard_that_two_workers_predict_is_there_once(load, tmp_path):
    """As after a worker that was taken for dead: the later one replaces the same file."""
    folder = make_files(tmp_path / 'photos', 2)

    def engine(load, folder, shards, **options):
        list(predict_here(load, folder, shards, **options))
        for report in (tmp_path / 'out/done').glob('*.json'):
            report.unlink()
        return predict_here(load, folder, shards, **options)

    predict_dataset(load, [folder], tmp_path / 'out', model='m', engine=engine)
    assert [row['file_name'] for row in read_rows(tmp_path / 'out')] == ['0.png', '1.png']


@pytest.mark.parametrize(
    'change, sentence',
    [
        (dict(model='other'), 'expected model m, found other'),
        (dict(score_thr=0.5), 'expected score_thr 0.0, found 0.5'),
        (dict(shard_size=1), 'expected shards 1, found 3'),
        (dict(format='parquet'), 'expected format jsonl, found parquet'),
    ],
)
def test_other_settings_need_another_folder(load, tmp_path, change, sentence):
    if 'format' in change:
        pytest.importorskip('pyarrow')
    folder = make_files(tmp_path / 'photos', 3)
    predict_dataset(load, [folder], tmp_path / 'out', model='m')
    with pytest.raises(InputError, match=sentence):
        predict_dataset(load, [folder], tmp_path / 'out', **{'model': 'm', **change})


def test_other_images_need_another_folder(load, tmp_path):
    folder = make_files(tmp_path / 'photos', 3)
    predict_dataset(load, [folder], tmp_path / 'out', model='m')
    (tmp_path / 'photos/0.png').rename(tmp_path / 'photos/9.png')
    with pytest.raises(InputError, match='expected inputs_sha256'):
        predict_dataset(load, [folder], tmp_path / 'out', model='m')


def test_other_files_are_never_replaced(load, tmp_path):
    (tmp_path / 'out').mkdir()
    (tmp_path / 'out/part-000000.jsonl').write_text('mine')
    with pytest.raises(InputError, match='expected a new or empty folder'):
        predict_dataset(load, [make_files(tmp_path / 'photos')], tmp_path / 'out', model='m')
    assert (tmp_path / 'out/part-000000.jsonl').read_text() == 'mine'


def test_damaged_report_is_named(load, tmp_path):
    folder = make_files(tmp_path / 'photos', 1)
    predict_dataset(load, [folder], tmp_path / 'out', model='m')
    (tmp_path / 'out/done/000000.json').write_text('{"shard": 0}')
    with pytest.raises(InputError, match='done/000000.json: .*Remove it, and the shard'):
        predict_dataset(load, [folder], tmp_path / 'out', model='m')
    (tmp_path / 'out/done/000000.json').unlink()
    assert predict_dataset(load, [folder], tmp_path / 'out', model='m').images == 1


def test_model_that_always_fails_ends_the_run(load, tmp_path):
    class Faulty(OnnxInferencer):
        def __init__(self, *args, **kwargs):
            super().__init__(*args, **kwargs)
            self._resize = lambda image: 1 / 0

    faulty = functools.partial(Faulty, *load.args, **load.keywords)
    with pytest.raises(ZeroDivisionError):
        predict_dataset(faulty, [make_files(tmp_path / 'photos', 12)], tmp_path / 'out', model='m')
    assert not list((tmp_path / 'out').glob('part-*'))


def test_parquet_has_the_same_predictions(load, tmp_path):
    parquet = pytest.importorskip('pyarrow.parquet')
    members = {'0.png': encode(100), '1.png': b'nothing', '2.png': encode(0)}
    path = make_tar(tmp_path / 'a.tar', members)
    for format in ('jsonl', 'parquet'):
        predict_dataset(load, [path], tmp_path / format, model='m', format=format, score_thr=0.1)
    table = parquet.read_table(tmp_path / 'parquet/part-000000.parquet')
    assert table.to_pylist() == read_rows(tmp_path / 'jsonl')


def test_writes_are_complete_or_nothing(tmp_path):
    path = tmp_path / 'a.json'
    write_complete(path, b'first')
    with pytest.raises(TypeError):
        write_complete(path, 'no bytes')
    assert path.read_bytes() == b'first'
    assert [each.name for each in tmp_path.iterdir()] == ['a.json']


@pytest.mark.slow
def test_workers_of_ray_write_what_one_process_does(load, tmp_path):
    pytest.importorskip('ray')
    from multitask_runtime.batch import predict_on_ray

    members = {f'{i}.png': encode(10 * i) for i in range(4)}
    paths = [make_tar(tmp_path / f'{i}.tar', members) for i in range(3)]
    engine = functools.partial(predict_on_ray, workers=2, gpus=0)
    for name, options in (('here', {}), ('ray', dict(engine=engine))):
        predict_dataset(load, paths, tmp_path / name, model='m', **options)
    assert read_rows(tmp_path / 'ray') == read_rows(tmp_path / 'here')
