"""Corrupt predictions, annotations and results files through the pages."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools import mask as mask_api

from multitask_refine.analysis.ablation import seeds
from multitask_refine.evaluation import PredictionsFileError, file_sha256, read_predictions
from tests.conftest import ROOT
from tests.fuzz.mutations import mutated_bytes, mutated_json, portion
from tools.analysis_tools import report
from tools.docs import benchmarks_page, results_page

_RESULTS = json.loads((ROOT / 'docs/results/quickstart-from-scratch.json').read_text())
_KEYPOINTS = [value for i in range(17) for value in (11 + i, 11 + i, 1)]
_RLE = mask_api.encode(np.eye(48, 64, dtype=np.uint8, order='F'))
_MASK = dict(size=[48, 64], counts=_RLE['counts'].decode())


def _entry(image, **value):
    return dict(image_id=image, category_id=1, score=0.9, **value)


def _images():
    people = dict(
        bbox=[_entry(1, bbox=[10, 10, 20, 30])],
        segm=[_entry(1, segmentation=_MASK)],
        keypoints=[_entry(1, keypoints=_KEYPOINTS)],
    )
    nobody = dict(bbox=[], segm=[], keypoints=[])
    return [
        dict(image_id=i, file_name=f'{i:012d}.png', **(people if i == 1 else nobody))
        for i in (1, 2, 3)
    ]


def _predictions(truth, folder):
    return dict(
        format='multitask_refine predictions',
        version=1,
        run=_RESULTS['run'],
        metrics=dict(bbox_AP=1.5, segm_AP=None),
        tasks=['bbox', 'segm', 'keypoints'],
        image_folder=str(folder),
        annotations=dict(file=str(truth), sha256=file_sha256(str(truth))),
        categories=dict(ids=[1], names=['person']),
        joints=dict(
            names=[str(i) for i in range(17)],
            sigmas=[0.1] * 17,
            mirror=list(range(17)),
            colors=[[0, 99, 255]] * 17,
            skeleton=[[0, 1], [2, 3]],
            skeleton_colors=[[1, 2, 3]] * 2,
        ),
        images=_images(),
    )


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp('corrupt')


@pytest.fixture(scope='module')
def predictions(scene):
    return _predictions(scene / 'annotations/person_keypoints_val2017.json', scene / 'val2017')


def _page(folder, content):
    """The page is made, or a sentence names the file."""
    path = folder / 'predictions.json'
    path.write_text(json.dumps(content))
    try:
        report.main([str(path), '--out', str(folder / 'out.html')])
    except SystemExit as error:
        assert str(folder) in str(error)


def test_the_whole_file_makes_a_page(folder, predictions):
    (folder / 'p.json').write_text(json.dumps(predictions))
    out = folder / 'out.html'
    assert report.main([str(folder / 'p.json'), '--out', str(out)]) == 0
    assert 'data:image' in out.read_text()


# What random files have found: each ended in a KeyError or TypeError.


def test_predictions_without_joints(folder, predictions):
    content = {k: v for k, v in predictions.items() if k != 'joints'}
    (folder / 'p.json').write_text(json.dumps(content))
    with pytest.raises(PredictionsFileError, match='keypoints: expected'):
        read_predictions(str(folder / 'p.json'))


@pytest.mark.parametrize(
    'change',
    [
        lambda c: c.pop('categories'),
        lambda c: c['annotations'][0].update(segmentation=None, bbox=None),
        lambda c: c['annotations'][1]['segmentation'].update(counts='0'),
        lambda c: c['images'][0].update(height=0),
        lambda c: c['annotations'][0].update(image_id=9),
    ],
)
def test_annotations_of_a_page(folder, predictions, scene, change):
    truth = folder / 'truth.json'
    content = json.loads((scene / 'annotations/person_keypoints_val2017.json').read_text())
    change(content)
    truth.write_text(json.dumps(content))
    path = folder / 'predictions.json'
    path.write_text(
        json.dumps(
            dict(predictions, annotations=dict(file=str(truth), sha256=file_sha256(str(truth))))
        )
    )
    with pytest.raises(SystemExit, match='truth.json: .*expected'):
        report.main([str(path), '--out', str(folder / 'out.html')])


@pytest.mark.parametrize(
    'change',
    [
        lambda c: c['run'].update(checkpoint_sha256=None),
        lambda c: c['run'].update(machine={}),
        lambda c: c['run'].update(machine=[]),
        lambda c: c['run'].pop('seconds'),
        lambda c: c.update(bbox_AP='x'),
    ],
)
def test_results_of_a_page(folder, change):
    content = json.loads(json.dumps(_RESULTS))
    change(content)
    place = folder / 'one'
    place.mkdir(exist_ok=True)
    (place / 'a.json').write_text(json.dumps(content))
    with pytest.raises(ValueError, match='a.json: .*expected'):
        results_page.sections(place)


@given(data=st.data())
def test_predictions_are_checked(folder, predictions, data):
    path = folder / 'checked.json'
    text = json.dumps(data.draw(mutated_json(predictions))).encode()
    if data.draw(st.booleans()):
        text = data.draw(mutated_bytes(text, (b'{', b'[' * 3000, b'"', b'1e')))
    path.write_bytes(text)
    try:
        read_predictions(str(path))
    except PredictionsFileError as error:
        assert str(path) in str(error)


@settings(max_examples=portion(0.5))
@given(data=st.data())
def test_pages_of_corrupt_predictions(folder, predictions, data):
    _page(folder, data.draw(mutated_json(predictions)))


@settings(max_examples=portion(0.5))
@given(data=st.data())
def test_pages_of_corrupt_annotations(folder, predictions, scene, data):
    truth = folder / 'truth.json'
    whole = json.loads((scene / 'annotations/person_keypoints_val2017.json').read_text())
    truth.write_text(json.dumps(data.draw(mutated_json(whole))))
    _page(
        folder,
        dict(predictions, annotations=dict(file=str(truth), sha256=file_sha256(str(truth)))),
    )


@given(data=st.data())
def test_pages_of_corrupt_results(folder, data):
    """As one of the single runs, of the configs and of the small scale."""
    content = data.draw(mutated_json(_RESULTS))
    config = 'multitask-rcnn_r26-w16_fpn-ms_rb-h_1xb8-1500_sample'
    for name, read in (
        ('single', results_page.sections),
        (config, benchmarks_page.load_results),
        (f'{config}_seed0', seeds.load_groups),
    ):
        place = folder / name
        place.mkdir(exist_ok=True)
        (place / f'{name}.json').write_text(json.dumps(content))
        try:
            read(place)
        except ValueError as error:
            assert str(place) in str(error)
