"""The benchmarks of evaluation, data, endurance and CUDA, at small sizes."""

import json
from importlib.util import find_spec

import cv2
import pytest
import torch

from benchmarks.cuda import ops, suite
from benchmarks.data import evaluation
from benchmarks.data import pipeline as data_pipeline
from benchmarks.micro import functions
from benchmarks.robustness import endurance
from benchmarks.robustness.dirty_data import ANNOTATION_FAULTS, damage_annotations, damage_files
from multitask_refine.datasets import read_annotations, repair
from multitask_refine.testing.synthetic_images import draw_image


def test_evaluation_gives_pycocotools_figures(tmp_path):
    """On people of whom some are found, so that no figure is trivial."""
    path = tmp_path / 'evaluation.json'
    evaluation.main(
        [
            '--images',
            '60',
            '--persons',
            '150',
            '--detections',
            '8',
            '--rounds',
            '1',
            '--json',
            str(path),
        ]
    )
    found = json.loads(path.read_text())
    assert found['largest_difference'] < 1e-9
    for task in ('bbox', 'segm', 'keypoints'):
        assert 1 < found['figures'][task]['AP'] < 99
    assert found['run']['machine']['torch'] == torch.__version__


@pytest.mark.exhaustive
def test_variants_give_the_same(tmp_path):
    path = tmp_path / 'micro.json'
    functions.main(['--rounds', '1', '--repeats', '1', '--json', str(path)])
    found = json.loads(path.read_text())['functions']
    limits = dict(
        masks=0, Maxima=3e-5, Samples=1e-2, Gradient=1e-2, JPEG=8, product=1e-4, transform=1e-4
    )
    assert len(found) == 8
    for function in found:
        (limit,) = (limits[word] for word in limits if word in function['about'].split())
        for way in function['variants'].values():
            assert 'missing' in way or way['difference'] <= limit
            assert 'missing' in way or way['median'] > 0


def test_variant_without_its_library():
    variants = dict(
        usual=functions.Variant(lambda: torch.ones(2)),
        fast=functions.Variant(lambda: None, 'faster', 'no_such_library'),
    )
    found = functions.measure(functions.Comparison('A thing', variants), 1, 1)['variants']
    assert found['fast'] == dict(expected='faster', missing='no_such_library')
    assert found['usual']['ratio'] == 1 and found['usual']['difference'] == 0


def test_data_pipeline_times_every_step(tmp_path):
    path = tmp_path / 'data.json'
    data_pipeline.main(['--images', '6', '--rounds', '1', '--workers', '0', '--json', str(path)])
    found = json.loads(path.read_text())
    assert len(found['step_milliseconds']) == 5
    assert all(value > 0 for value in found['step_milliseconds'].values())
    assert len(found['images_per_second']['0']) == 1


CASES = ops.draw_sampling_cases() | ops.draw_decoding_cases()


@pytest.mark.parametrize('name', sorted(CASES.keys() - {'deformable RoI pooling'}))
def test_operators_equal_float64_on_this_device(name):
    """As on CUDA, where the rest is checked, too."""
    case = CASES[name]
    errors = ops.largest_errors(case, torch.float32, 'cpu')
    assert max(errors.values()) <= ops.TOLERANCES[torch.float32]


def test_wrong_operator_is_noticed():
    case = CASES['RoIAlign, sampling ratio 2']
    move = torch.tensor([0.0, 1, 1, 1, 1])
    shifted = case._replace(on_device=lambda x, rois: case.exact(x, rois + move))
    errors = ops.largest_errors(shifted, torch.float32, 'cpu')
    assert errors['value'] > ops.TOLERANCES[torch.float32]


def test_loader_finds_every_damaged_annotation(tmp_path):
    people = evaluation.draw_people(30, 120, 0).truth
    path = tmp_path / 'annotations.json'
    path.write_text(json.dumps(people))
    before = len(repair(read_annotations(str(path)), 17)[1])
    counts = damage_annotations(path, 24, seed=0)
    assert counts == dict.fromkeys(ANNOTATION_FAULTS, 4)
    problems = repair(read_annotations(str(path)), 17)[1]
    damaged = {each.annotation_id for each in problems}
    assert before == 0 and len(damaged) == 24


def test_damaged_files_are_not_what_they_were(tmp_path):
    (tmp_path / 'train2017').mkdir()
    cv2.imwrite(str(tmp_path / 'a.jpg'), draw_image(1, 64, 48))
    whole = (tmp_path / 'a.jpg').read_bytes()
    for name in 'abcd':
        (tmp_path / 'train2017' / f'{name}.jpg').write_bytes(whole)
    names = damage_files(tmp_path / 'train2017', 4, seed=0)
    left = [(tmp_path / 'train2017' / name).read_bytes() for name in names]
    assert len(set(left)) == 4 and whole not in left


def test_growth_of_memory_by_hand():
    """100 MiB, and 110 in the last quarter; processes that were seen too
    rarely are left out."""
    samples = [(100 if i < 12 else 110) * 2**20 for i in range(16)]
    rows = endurance.describe_memory({'rank 5': samples, 'worker 6': samples[:4]})
    assert rows == [
        dict(
            process='rank', samples=16, quarters=[100.0, 100.0, 100.0, 110.0], growth_percent=10.0
        )
    ]


def test_cuda_suite_goes_on_where_it_was(tmp_path, monkeypatch, capsys):
    """The first part fails, the second is done, the third writes its file."""
    monkeypatch.setattr(suite, 'ROOT', tmp_path)
    (tmp_path / 'done.json').write_text('{}')
    write = "open('new.json', 'w').write('{}')"
    parts = [
        suite.Part('bad', ['-c', 'raise SystemExit(3)'], 'bad.json'),
        suite.Part('old', ['-c', 'raise SystemExit(4)'], 'done.json'),
        suite.Part('new', ['-c', write], 'new.json'),
    ]
    assert suite.run_parts(parts, minutes=60) == ['bad']
    assert (tmp_path / 'new.json').exists()
    said = capsys.readouterr().out
    assert 'old: results file exists' in said and 'bad: ended with 3' in said
    assert suite.run_parts(parts[2:], minutes=0) == []
    assert suite.run_parts(parts[:1], minutes=1) == []
    assert 'no time left' in capsys.readouterr().out


def test_cuda_suite_names_its_parts():
    parts = suite.list_parts('python', None)
    for part in parts:
        assert part.command[0] == '-m' and find_spec(part.command[1])
    names = [part.name for part in parts]
    assert names[:3] == ['cuda-ops', 'cuda-precision', 'cuda-kernels']
    assert len(set(names)) == len(names)
    with pytest.raises(SystemExit):
        suite.main(['--only', 'nothing'])
