"""The tables of the performance page, from numbers by hand."""

import json

import pytest

from tests.conftest import CONFIGS, ROOT
from tools.docs import performance_page

MODEL = '_base_/models/multitask-rcnn_r50_fpn-ms_regular'

RUN = dict(
    command='python x.py',
    commit='abc',
    date='2026-01-01',
    machine=dict(device='CPU (a name, AVX2), 2 cores', torch='2'),
)
STEP = ['training step on the CPU, times as fast as the best baseline']
ABOUT = dict(
    baseline='a:B', options={}, device='CPU', threads=2, versions=dict(torch='2'), prediction=''
)


def _numbers(median, ratio):
    return dict(seconds=[median], median=median, ratio=ratio, peak_bytes=2**30)


def _part(side, ours, theirs='detectron2', tasks=('predict-1', 'step-2')):
    return dict(
        about='Two',
        reference=theirs,
        not_installed={},
        run=RUN,
        models={theirs: ABOUT, 'multitask_refine': ABOUT},
        outputs={},
        tasks={
            task: {side: {theirs: _numbers(2, 1), 'multitask_refine': _numbers(2 * ours, ours)}}
            for task in tasks
        },
        stages=dict(
            multitask_refine={
                'step-2': {
                    side: dict(stages=dict(targets=dict(seconds=1), backbone=dict(seconds=39)))
                }
            }
        ),
    )


@pytest.fixture
def folder(tmp_path):
    (tmp_path / 'performance').mkdir()
    return tmp_path


def _write(folder, name, content):
    path = folder / f'performance/{name}.json'
    path.write_text(json.dumps(content))


def _text(folder):
    return '\n'.join(performance_page.sections(folder).values())


def _cells(folder):
    return [
        [cell.strip() for cell in line.strip('|').split('|')]
        for line in _text(folder).splitlines()
        if line.startswith('|')
    ]


def test_nothing_was_measured(folder):
    parts = performance_page.sections(folder)
    assert {name for name, part in parts.items() if part != 'Not measured.'} == {'targets'}
    rows = [row for row in _cells(folder) if row[-3:] == ['not measured', '-', '-']]
    assert len(rows) == 18


def test_sizes_from_two_files_and_the_worst_of_them(folder):
    _write(folder, 'speed-cpu', dict(parts=dict(detectron2=_part('480', 0.5))))
    _write(folder, 'speed-cpu-800', dict(parts=dict(detectron2=_part('800', 0.8))))
    cells = _cells(folder)
    assert [*STEP, '1.25', '1.25 (Detectron2, 800 pixels)', 'AVX2', 'yes'] in cells
    row = ['training step, 2 images', '480', 'this project', '1.00', '2.00', '1.0', 'AVX2']
    assert row in cells
    row = ['training step, 2 images', '800', 'this project', '1.60', '1.25', '1.0', 'AVX2']
    assert row in cells
    targets = 'making targets, % of a training step on the CPU'
    assert [targets, '3', '2.5 (800 pixels)', 'AVX2', 'yes'] in cells
    assert _text(folder).count('`python x.py`') == 2


def _runtimes(load_average):
    def forms(seconds, points):
        return {
            'onnxruntime float32': dict(
                bytes=9, bbox_AP=50.0, segm_AP=40.0, keypoints_AP=30.0, sides=_sides(seconds, 0.5)
            ),
            'OpenVINO float32': dict(bytes=9, bbox_AP=0, sides=_sides(seconds, 0.4)),
            'OpenVINO int8': dict(
                bytes=9,
                bbox_AP=50.5,
                segm_AP=points,
                keypoints_AP=30.0,
                sides=_sides(seconds, 0.25),
            ),
        }

    def network(config, seconds, reference='onnxruntime float32', points=40.0, digest=None):
        content = forms(seconds, points)
        if reference == 'detectron2':
            content['detectron2'] = dict(sides=_sides(seconds, 1))
        return dict(config=config, reference=reference, forms=content, checkpoint_sha256=digest)

    def _sides(seconds, ratio):
        return {'480': _numbers(seconds, ratio), '800': _numbers(3 * seconds, ratio + 0.25)}

    name = 'multitask-rcnn_r50_fpn-ms_{}_4xb3-90k_coco.py'.format
    networks = [
        network('small.py', 0.1, points=39.625, digest='f' * 64),
        network('converted.py', 1, 'detectron2'),
        network(name('regular'), 1),
        network(name('rb-h'), 1.25),
    ]
    return dict(load_average=load_average, networks=networks, run=RUN)


def test_targets_of_exported_files(folder):
    (folder / 'onnx').mkdir()
    found = []
    for load_average in (0.2, 3):
        (folder / 'onnx/runtimes.json').write_text(json.dumps(_runtimes(load_average)))
        found.append(_cells(folder))
    quiet, busy = found
    fast = 'exported file in {} by the faster backend, times as fast as Detectron2'.format
    row = [fast('float32'), '1.7', '1.54 (OpenVINO float32, 800 pixels)', 'AVX2', 'no']
    assert row in quiet
    assert [fast('bfloat16'), '3.2', 'not measured', '-', '-'] in quiet
    row = [fast('int8'), '4', '2.00 (OpenVINO int8, 800 pixels)', 'AVX2', 'no']
    assert row in quiet
    assert [fast('int8'), '4', 'not measured', '-', '-'] in busy
    cost = "RB+H's exported file, times the time of regular's"
    assert [cost, '1.3', '1.25 (onnxruntime float32, 800 pixels)', 'AVX2', 'yes'] in quiet
    loss = ['AP that int8 costs the trained small network', '0.3', '0.38 (OpenVINO int8)']
    assert [*loss, 'AVX2', 'no'] in quiet and [*loss, 'AVX2', 'no'] in busy


def test_the_cost_of_refinement_in_two_ways(folder):
    parts = {}
    for name, ratio in {'refinement': 1.75, 'refinement-usual': 1.125}.items():
        parts[name] = dict(_part('480', ratio, 'regular'), stages={})
        for sides in parts[name]['tasks'].values():
            sides['480']['rb_h'] = sides['480'].pop('multitask_refine')
    _write(folder, 'speed-cpu', dict(parts=parts))
    cells = _cells(folder)
    title = 'RB+H on the CPU, times the time of regular, {}, training'.format
    same = title("both with PyTorch's 3x3 convolutions")
    assert [same, '1.5', '1.12 (480 pixels)', 'AVX2', 'yes'] in cells
    # Default settings have no target.
    assert [title('default settings'), '-', '1.75 (480 pixels)', 'AVX2', '-'] in cells


def test_a_target_is_met_only_where_it_was_measured(folder):
    slow = _part('480', 0.9, tasks=('step-2',))
    slow['run'] = dict(RUN, machine=dict(device='CPU (a name, AVX512), 2 cores', torch='2'))
    unknown = _part('320', 0.5, tasks=('step-2',))
    unknown['run'] = dict(RUN, machine=dict(device='CPU, 2 cores, 2 threads', torch='2'))
    fast = _part('800', 0.5, tasks=('step-2',))
    for number, part in enumerate((slow, unknown, fast)):
        _write(folder, f'speed-cpu-{number}', dict(parts=dict(detectron2=part)))
    rows = [row for row in _cells(folder) if row[:1] == STEP]
    assert rows == [
        [*STEP, '1.25', '1.11 (Detectron2, 480 pixels)', 'AVX-512', 'no'],
        [*STEP, '1.25', '2.00 (Detectron2, 800 pixels)', 'AVX2', 'yes'],
        [*STEP, '1.25', '2.00 (Detectron2, 320 pixels)', 'not recorded', '-'],
    ]


def test_a_target_that_is_an_upper_limit(folder):
    part = dict(_part('480', 1.6, 'regular'), stages={})
    for sides in part['tasks'].values():
        sides['480']['rb_h'] = sides['480'].pop('multitask_refine')
    _write(folder, 'speed-cpu', dict(parts={'refinement-usual': part}))
    rows = [row for row in _cells(folder) if '3x3 convolutions, inference' in row[0]]
    assert [row[1:] for row in rows] == [['1.5', '1.60 (480 pixels)', 'AVX2', 'no']]


def test_gains_beside_the_switch_are_those_of_the_results():
    parts = performance_page.load_parts(ROOT / 'docs/results/performance', 'cpu')
    step, inference = (parts['means-1']['tasks'][task]['480'] for task in ('step-2', 'predict-1'))
    _, convolutions, roi_align, nms, *_ = step  # in the order of benchmarks/speed/parts.py
    assert 'convolutions' in convolutions and 'all levels' in nms
    gains = {
        '(Winograd, oneDNN products) ': step[convolutions],
        'RoIAlign ': step[roi_align],
        'NMS ': step[nms],
        '(inference ': inference[nms],
    }
    text = ' '.join((CONFIGS / f'{MODEL}.py').read_text().replace('#', '').split())
    for name, numbers in gains.items():
        assert f'{name}{numbers["ratio"]:.1f}' in text
        assert numbers['processor'] == 'AVX2'
    deform_conv = parts['refined-convolution']['tasks']['step-2']['480']['multitask_refine']
    assert f'(RB) {1 / deform_conv["ratio"]:.1f}' in text


def test_differences_from_the_reference(folder):
    part = _part('480', 0.5)
    part['outputs'] = {
        '480': dict(multitask_refine=dict(persons=3, mask_iou_smallest=0.5, what='text')),
        '800': dict(multitask_refine=dict(persons=4, keypoints_elsewhere=1e-5)),
    }
    _write(folder, 'speed-cpu', dict(parts=dict(detectron2=part)))
    cells = _cells(folder)
    assert [
        'differences',
        'pixels',
        'persons',
        'mask iou smallest',
        'keypoints elsewhere',
    ] in cells
    assert ['this project', '480', '3', '0.5', '-'] in cells
    assert ['this project', '800', '4', '-', '1e-05'] in cells


def test_options_are_shown_with_their_expected_gain(folder):
    part = _part('480', 0.8, 'plain')
    part['models']['multitask_refine'] = dict(ABOUT, prediction='much')
    part['models']['other'] = dict(ABOUT, prediction='little')
    part['tasks']['predict-1']['480']['other'] = _numbers(4, 2)
    _write(folder, 'speed-cpu', dict(parts={'means-1': part}))
    cells = _cells(folder)
    assert ['multitask_refine', 'much', '1.25', '1.25', '1.0', 'AVX2'] in cells
    assert ['other', 'little', '0.50', '-', '1.0', 'AVX2'] in cells
    assert [
        'what',
        'expected',
        'inference, 1 image, 480 pixels',
        'training step, 2 images, 480 pixels',
        'GiB',
        'processor',
    ] in cells


def test_cuda(folder):
    _write(
        folder,
        'cuda-ops',
        dict(
            run=RUN,
            operators=[
                dict(operator='nms', type='float32', errors=dict(a=2e-3, b=1e-4), passed=False)
            ],
        ),
    )
    _write(
        folder,
        'cuda-precision',
        dict(
            run=RUN,
            side=480,
            rows=[
                dict(
                    variant='rb-h',
                    type='float16',
                    loss=1.5,
                    gradient_cosine=0.25,
                    gradient_length=0.5,
                ),
                dict(variant='rb', type='bfloat16', failure='no kernel'),
            ],
        ),
    )
    _write(
        folder,
        'cuda-kernels',
        dict(
            run=RUN,
            side=800,
            variants={
                'rb-h': dict(
                    step=dict(
                        largest=[dict(name='gemm', calls=3, milliseconds=1.25)],
                        waits=dict(cudaStreamSynchronize=4),
                    )
                )
            },
        ),
    )
    cells = _cells(folder)
    assert ['nms', 'float32', '2.0e-03', 'NO'] in cells
    assert ['RB+H', 'float16', '1.5000', '0.25000', '0.50000'] in cells
    assert ['RB', 'bfloat16', 'no kernel', '-', '-'] in cells
    assert ['gemm', '3', '1.25'] in cells
    assert ['the host waits: cudaStreamSynchronize', '4', '-'] in cells
    assert '### RB+H, step, 800 pixels' in _text(folder)


def test_both_networks_of_a_framework_are_compared(folder):
    _write(
        folder,
        'speed-cpu',
        dict(
            parts={
                f'torchvision-{task}': _part('480', ours, 'torchvision')
                for task, ours in (('keypoints', 0.8), ('masks', 0.5))
            }
        ),
    )
    assert ['the same, 8 images at a time', '1.5', 'not measured', '-', '-'] in _cells(folder)
    found = "1.25 (torchvision's Keypoint R-CNN, 480 pixels)"
    assert [*STEP, '1.25', found, 'AVX2', 'yes'] in _cells(folder)


def test_single_functions_beside_their_reference(folder):
    variants = {
        'old': dict(expected='', median=0.004, ratio=1, difference=0),
        'new': dict(expected='faster', median=0.002, ratio=0.5, difference=1e-7),
        'else': dict(expected='no faster', missing='somelib'),
    }
    _write(
        folder,
        'micro-cpu',
        dict(run=RUN, functions=[dict(about='A thing', reference='old', variants=variants)]),
    )
    cells = _cells(folder)
    assert ['A thing', 'old', '-', '4.00', '1.00', '0.0e+00'] in cells
    assert ['', 'new', 'faster', '2.00', '2.00', '1.0e-07'] in cells
    assert ['', 'else', 'no faster', '-', 'somelib is not installed', '-'] in cells
