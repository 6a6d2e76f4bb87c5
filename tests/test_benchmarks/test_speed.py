"""The speed benchmark, with stand-ins for the networks."""

import inspect
import json
import time
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from benchmarks.speed import compare as speed
from benchmarks.speed import scaling
from benchmarks.speed.agreement import differences
from benchmarks.speed.baselines.multitask_net import MultitaskNet
from benchmarks.speed.client import BaselineError, WorkerProcess
from benchmarks.speed.inputs import image_names, load_people
from benchmarks.speed.parts import PARTS, BaselineSpec, Part
from benchmarks.speed.rounds import compare_pairs, run_rounds
from benchmarks.speed.stages import attribute_to_stages, count_operations, measure_stages
from multitask_refine.ops import mkldnn_linear
from multitask_refine.ops.cpu.csr_matrix import CSRMatrix, csr_matmul
from tests.conftest import CONFIGS, ROOT

pytestmark = pytest.mark.slow

STAND_IN = 'tests.test_benchmarks.stand_in:StandIn'
MISSING = 'tests.test_benchmarks.missing_framework:Net'


# ---- arithmetic


def test_paired_ratios_by_hand():
    found = compare_pairs(dict(one=[1.0, 6.0, 2.0], other=[2.0, 2.0, 8.0]), 'other')
    # 1/2, 6/2 and 2/8; not 2/2, the ratio of the medians
    assert found['one'] == dict(seconds=[1.0, 6.0, 2.0], median=2.0, ratio=0.5)
    assert found['other']['ratio'] == 1


def test_no_ratio_without_the_reference():
    assert compare_pairs(dict(one=[1.0]), 'other') == dict(one=dict(seconds=[1.0], median=1.0))


def test_each_round_times_all_once_and_begins_with_another():
    order = []

    def call(name):
        return lambda: order.append(name) or float(len(order))

    seconds = run_rounds({name: call(name) for name in 'abc'}, 3)
    assert order == list('abcbcacab')
    assert seconds == dict(a=[1.0, 6.0, 8.0], b=[2.0, 4.0, 9.0], c=[3.0, 5.0, 7.0])


def test_inner_stages_do_not_count_for_the_outer_one():
    readings = iter([0, 1, 3, 6, 10, 15])
    owner = SimpleNamespace(inner=lambda: None)
    owner.outer = lambda: owner.inner()
    calls = [(owner, 'outer', 'outer'), (owner, 'inner', 'inner')]
    outer = owner.outer
    totals = attribute_to_stages(calls, lambda: owner.outer(), lambda: next(readings))
    # rest 0-1 and 10-15, outer 1-3 and 6-10, inner 3-6
    assert totals == dict(rest=6, outer=6, inner=3)
    assert owner.outer is outer


def test_backward_of_tensors_is_a_stage():
    readings = iter([0, 1, 3, 6])
    x = torch.ones(2, requires_grad=True)
    calls = [(torch.Tensor, 'backward', 'backward')]
    totals = attribute_to_stages(calls, lambda: x.sum().backward(), lambda: next(readings))
    assert totals == dict(rest=4, backward=2) and x.grad.tolist() == [1, 1]
    assert 'backward' not in vars(x)


def test_stages_of_a_network_by_hand(monkeypatch):
    """A linear layer from 3 to 5 numbers, for 2 rows, after a pause."""
    model = nn.Sequential(nn.Linear(3, 5))
    owner = SimpleNamespace(
        model=model, device=torch.device('cpu'), pause=lambda: time.sleep(0.02)
    )
    owner.stage_calls = lambda: [(model, 'forward', 'layer'), (owner, 'pause', 'pause')]
    rates = iter(
        [
            dict(operations_per_second=10.0, bytes_per_second=80.0),
            dict(operations_per_second=8.0, bytes_per_second=100.0),
        ]
    )
    monkeypatch.setattr('benchmarks.speed.stages.measure_rates', lambda device: next(rates))

    def run():
        owner.pause()
        model(torch.ones(2, 3))

    measured = measure_stages(owner, run, 3)
    assert measured['rates'] == dict(operations_per_second=10.0, bytes_per_second=100.0)
    stages = measured['stages']
    assert set(stages) == {'layer', 'pause', 'rest'}
    assert stages['pause']['seconds'] >= 0.02
    assert stages['layer']['seconds'] < 0.02
    assert stages['layer']['operations'] == 2 * 2 * 3 * 5
    assert stages['layer']['bytes'] == 4 * (2 * 3 + 2 * 5 + 3 * 5)
    assert stages['layer']['floor_seconds'] == pytest.approx(6.0)  # > 124/100
    assert stages['layer']['ratio'] == pytest.approx(stages['layer']['seconds'] / 6)
    assert stages['pause']['floor_seconds'] == 0
    assert stages['pause']['ratio'] is None


def test_operations_of_both_libraries_count():
    """(2, 3) times (3, 5), once by each."""
    one, other = torch.ones(2, 3), torch.ones(3, 5)
    owner = SimpleNamespace(usual=lambda: one @ other, fast=lambda: mkldnn_linear(one, other.T))
    calls = [(owner, 'usual', 'usual'), (owner, 'fast', 'fast')]

    def run():
        owner.usual()
        owner.fast()

    counted = count_operations(calls, run)
    assert counted['usual'] == counted['fast'] == 2 * 2 * 3 * 5


def test_operations_of_weighted_sums_count():
    """Four weighted rows of three values."""
    matrix = CSRMatrix(torch.tensor([0, 1, 1, 4]), torch.ones(4), torch.tensor([1, 3]))
    owner = SimpleNamespace(run=lambda: csr_matmul(matrix, torch.ones(5, 3)))
    counted = count_operations([(owner, 'run', 'sums')], lambda: owner.run())
    assert counted['sums'] == 2 * 4 * 3


# ---- inputs and outputs


def test_extra_proposals_overlap_their_person():
    people = load_people(1, 120, 160)
    assert people.keypoints.shape == (4, 17, 2)
    for index, box in enumerate(people.boxes):
        for copy in people.extra_proposals[8 * index : 8 * index + 8]:
            both = np.prod(np.minimum(box[2:], copy[2:]) - np.maximum(box[:2], copy[:2]))
            one = np.prod(box[2:] - box[:2])
            assert both / (2 * one - both) > 0.7
        assert (people.keypoints[index] > box[:2]).all()
        assert (people.keypoints[index] < box[2:]).all()
        rows, columns = people.masks[index].nonzero()
        assert rows.min() >= int(box[1]) and columns.max() <= box[2]
        # an ellipse fills pi / 4 of its box
        assert people.masks[index].sum() == pytest.approx(np.pi / 4 * one, rel=0.05)


def test_differences_by_hand():
    masks = np.zeros((2, 4, 4), bool)
    masks[:, :2] = True
    expected = dict(
        boxes=np.array([[0.0, 0.0, 4.0, 4.0], [50.0, 50.0, 60.0, 60.0]]),
        scores=np.array([0.9, 0.8]),
        masks=masks,
        keypoints=np.zeros((2, 17, 2)),
    )
    found = {name: values[::-1].copy() for name, values in expected.items()}
    found['boxes'][0, 2] += 0.25
    found['scores'][1] -= 0.125
    found['keypoints'][1, 3, 1] = 7
    found['masks'][0, 0] = False  # 4 of 8 pixels are left
    result = differences(expected, found)
    assert result == dict(
        persons=2,
        box_pixels=0.25,
        score=pytest.approx(0.125),
        keypoint_pixels_median=0.0,
        keypoint_pixels_largest=7.0,
        keypoints_elsewhere=1 / 34,
        mask_iou_smallest=0.5,
        mask_iou_median=0.75,
    )


# ---- the protocol


def test_process_answers_whatever_libraries_print():
    with WorkerProcess('stand-in') as process:
        about = process.ask('build', baseline=STAND_IN, options={})
        assert about['versions'] == dict(stand_in='1')
        answer = process.ask('measure', task='predict', images=image_names(24, 2))
        assert answer['detections'] == [20, 20] and answer['seconds'] >= 0
        answer = process.ask('measure', task='step', images=image_names(24, 2))
        assert answer['loss'] == 32  # half of 2 images with 4 people and 8 proposals each


def test_crash_names_the_baseline_and_shows_its_last_lines():
    with WorkerProcess('beans') as process:
        process.ask('build', baseline=STAND_IN, options=dict(crash=True))
        with pytest.raises(BaselineError) as error:
            process.ask('measure', task='predict', images=image_names(24, 1))
        for part in ('baseline beans', "'measure'", 'status 3', 'out of beans'):
            assert part in str(error.value)
        with pytest.raises(BaselineError, match='baseline beans'):
            process.ask('measure', task='predict', images=image_names(24, 1))


def test_exception_of_a_baseline_is_shown():
    with WorkerProcess('beans') as process, pytest.raises(BaselineError, match='has no attribute'):
        process.ask('build', baseline=STAND_IN[:-1], options={})


# ---- the whole command


@pytest.mark.exhaustive
def test_results_merge_and_missing_baselines_are_named(tmp_path, monkeypatch):
    parts = dict(
        first=Part(
            'Two',
            'one',
            dict(
                one=BaselineSpec(STAND_IN, {}),
                two=BaselineSpec(STAND_IN, dict(shift=0.5), ('predict',)),
                three=BaselineSpec(MISSING, {}),
            ),
        ),
        second=Part('One', 'one', dict(one=BaselineSpec(STAND_IN, {}))),
    )
    monkeypatch.setattr(speed, 'PARTS', parts)
    path = tmp_path / 'speed.json'
    common = ['--sides', '24', '--rounds', '2', '--json', str(path)]
    speed.main(['--only', 'first', *common])
    first = json.loads(path.read_text())['parts']['first']
    assert first['not_installed'] == dict(three='tests.test_benchmarks.missing_framework')
    assert list(first['models']) == ['one', 'two']
    assert first['outputs']['24'] == dict(two=dict(persons=19, box_pixels=0.5, score=0.0))
    assert list(first['tasks']['step-2']['24']) == ['one']
    two = first['tasks']['predict-8']['24']['two']
    assert two['detections'] == [20] * 8 and len(two['seconds']) == 2
    assert two['peak_bytes'] == 1000 and two['ratio'] > 0
    speed.main(['--only', 'second', *common])
    content = json.loads(path.read_text())
    assert list(content['parts']) == ['first', 'second']
    assert content['parts']['first'] == first
    assert set(content['parts']['second']['run']) == {'command', 'commit', 'date', 'machine'}


@pytest.mark.exhaustive
def test_scaling_grows_one_number_at_a_time(tmp_path, monkeypatch):
    part = Part(
        '', 'regular', dict(regular=BaselineSpec(STAND_IN, {}), rb_h=BaselineSpec(STAND_IN, {}))
    )
    monkeypatch.setattr(scaling, 'PARTS', {'refinement-usual': part})
    monkeypatch.setattr(
        scaling,
        'SERIES',
        dict(images=[scaling.Point(images=3, side=24)], people=[scaling.Point(people=5, side=24)]),
    )
    path = tmp_path / 'scaling.json'
    scaling.main(['--rounds', '2', '--json', str(path)])
    content = json.loads(path.read_text())
    assert content['part'] == 'refinement-usual'
    series = content['series']
    assert series['images']['3']['regular']['detections'] == [20] * 3
    assert series['images']['3']['regular']['ratio'] == 1
    assert series['people']['5']['rb_h']['detections'] == [5]
    assert len(series['people']['5']['rb_h']['seconds']) == 2


def test_too_few_detections_are_refused():
    with WorkerProcess('few') as process:
        process.ask('build', baseline=STAND_IN, options=dict(detections=19))
        with pytest.raises(ValueError, match=r'few: expected 20 .*\[19\]'):
            speed.measure_task(dict(few=process), 'few', 'predict', image_names(24, 1), 1)


@pytest.mark.parametrize('name', PARTS)
def test_parts_name_configs_and_classes_that_exist(name):
    part = PARTS[name]
    assert part.reference in part.baselines
    assert not part.converter or 'multitask_refine' in part.baselines
    for spec in part.baselines.values():
        module, made = spec.baseline.split(':')
        file = ROOT / f'{module.replace(".", "/")}.py'
        assert f'class {made}(' in file.read_text()
        if made in ('MultitaskNet', 'OnnxNet'):
            assert (CONFIGS / spec.options['config']).is_file()
            parameters = inspect.signature(MultitaskNet.__init__).parameters
            assert spec.options.keys() <= parameters.keys() | {'bfloat16'}


def test_refinement_is_compared_with_the_same_convolutions():
    networks = PARTS['refinement-usual'].baselines
    assert {name: spec.options['reference_ops'] for name, spec in networks.items()} == {
        'regular': ['WinogradConv2d'],
        'rb_h': ['WinogradConv2d'],
    }
