"""Measurements of ONNX files and their page, from numbers by hand."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from benchmarks.onnx.evaluation import time_files
from benchmarks.onnx.parity import read_images, summarize
from benchmarks.onnx.runtimes import find_part, write_files
from multitask_refine.deployment.parity import Difference
from tests.conftest import CONFIGS, SAMPLE_CONFIG
from tests.test_runtime.onnx_files import make_file
from tools.docs import onnx_page

RUN = dict(
    command='python x.py',
    commit='abc',
    date='2026-01-01',
    machine=dict(device='CPU', torch='2', instructions=['AVX2', 'VNNI']),
)


@pytest.fixture
def folder(tmp_path):
    (tmp_path / 'images').mkdir()
    for name, shape in (('a', (40, 80, 3)), ('b', (30, 20, 3)), ('c', (9, 9, 3))):
        cv2.imwrite(str(tmp_path / f'images/{name}.png'), np.zeros(shape, np.uint8))
    return tmp_path


def test_images_and_differences(folder):
    images = read_images(str(folder / 'images'), 2, 60)
    assert [tuple(each.shape) for each in images] == [(3, 30, 60), (3, 30, 20), (3, 30, 60)]
    assert images[-1].unique().tolist() == [127]
    rows = [dict(boxes=Difference(0.01, 1, 5)), dict(boxes=Difference(0.03, 2, 7))]
    assert summarize(rows) == dict(boxes=dict(largest=0.03, beyond=3, total=12))


def test_every_file_is_timed(folder):
    files = {name: make_file(folder / f'{name}.onnx') for name in 'ab'}
    seconds = time_files(files, str(folder / 'images'), 2)
    assert seconds.keys() == files.keys()
    assert 0 < min(seconds.values()) < 1


def test_reference_of_a_config():
    part = find_part(CONFIGS / 'converted/multitask-rcnn_r50_fpn_detectron2_8xb2-90k_coco.py')
    assert part.reference == 'detectron2'
    assert find_part(SAMPLE_CONFIG) is None


def test_forms_that_cannot_run_are_left_out(folder):
    exported = Path(make_file(folder / 'float32.onnx'))
    (folder / 'int8-static.onnx').write_bytes(b'damaged')
    names = ['onnxruntime float32', 'onnxruntime int8']
    files, left_out = write_files(exported, names, None)
    assert files == {'onnxruntime float32': exported}
    assert 'found 7 bytes' in left_out['onnxruntime int8']


def test_runtimes(folder):
    def times(median, ratio, peak):
        return dict(median=median, ratio=ratio, peak_bytes=peak * 2**30)

    forms = {
        'PyTorch float32': dict(
            sides={'480': times(0.5, 1, 2), '800': times(1.5, 1, 3)}, bbox_AP=50.0, segm_AP=40.0
        ),
        'OpenVINO int8': dict(
            sides={'480': times(0.2, 0.4, 0.25), '800': times(0.5, 0.25, 0.5)},
            bytes=4_560_000,
            bbox_AP=49.0,
            segm_AP=39.0,
        ),
    }
    network = dict(
        config='a.py',
        checkpoint_sha256='f' * 64,
        reference='PyTorch float32',
        forms=forms,
        left_out={'OpenVINO bfloat16': 'too old'},
    )
    quiet = dict(threads=2, load_average=0.2, networks=[network], run=RUN)
    busy = dict(quiet, load_average=3.14, networks=[dict(network, checkpoint_sha256=None)])
    (folder / 'onnx').mkdir()
    texts = []
    for content in (quiet, busy):
        (folder / 'onnx/runtimes.json').write_text(json.dumps(content))
        texts.append(onnx_page.sections(folder)['runtimes'])
    cells, of_busy = (
        [
            [cell.strip() for cell in line.strip('|').split('|')]
            for line in text.splitlines()
            if line.startswith('|')
        ]
        for text in texts
    )
    row = ['PyTorch float32', '50.00', '40.00', '-', '500', '1500', '1.00', '1.00', '-', '3.00']
    assert row in cells
    row = ['OpenVINO int8', '49.00', '39.00', '-', '200', '500', '2.50', '4.00', '4.6', '0.50']
    assert row in cells
    assert '`a.py`, trained; reference: PyTorch float32' in texts[0]
    assert 'Left out: OpenVINO bfloat16 (too old)' in texts[0]
    assert 'Instruction sets of the processor: AVX2, VNNI; threads: 2.' in texts[0]
    assert 'busy' not in texts[0]
    assert 'the machine was busy with other programs (3.1 processes' in texts[1]
    assert ['OpenVINO int8', '49.00', '39.00', '-', *['-'] * 4, '4.6', '0.50'] in of_busy
    assert '`a.py`, synthetic weights' in texts[1]


def test_page(folder):
    assert set(onnx_page.sections(folder).values()) == {'Not measured.'}
    same = dict(largest=2e-5, beyond=0, total=9)
    other = dict(largest=0.03, beyond=2, total=9)
    row = dict(
        config='a.py',
        num_instances=dict(pytorch=[3, 1], onnx=[3, 2]),
        onnx=dict(boxes=other, scores=same),
        float64=dict(boxes=same, scores=same),
    )
    forms = dict(
        pytorch=dict(bbox_AP=1, segm_AP=2, keypoints_AP=3),
        float16=dict(bbox_AP=4, segm_AP=5, keypoints_AP=6, bytes=2_340_000, seconds=0.0456),
    )
    (folder / 'onnx').mkdir()
    for name, content in (
        (
            'parity',
            dict(
                image_sizes=[[4, 3], [5, 6]],
                drawn_image_sizes=[],
                limits=dict(boxes=0.1),
                trained=[row],
                random_weights=dict(RB=row),
            ),
        ),
        ('quantization', dict(networks=[dict(config='a.py', forms=forms)])),
        (
            'deform-conv',
            dict(layers=dict(conv3=dict(shape=[1, 8, 5, 6], milliseconds=dict(Conv=1.2, B=20.7)))),
        ),
    ):
        (folder / f'onnx/{name}.json').write_text(json.dumps(dict(content, run=RUN)))
    lines = '\n'.join(onnx_page.sections(folder).values()).splitlines()
    cells = [
        [cell.strip() for cell in line.strip('|').split('|')]
        for line in lines
        if line.startswith('|')
    ]
    assert ['`a.py`', 'PyTorch', '1.00', '2.00', '3.00', '-', '-'] in cells
    assert ['`a.py`', 'float16', '4.00', '5.00', '6.00', '2.3', '46'] in cells
    assert [
        'RB, random weights',
        '4',
        '5',
        '1 of 2',
        '3e-02; beyond: 2 of 9 (0)',
        '2e-05',
        '-',
        '-',
        '-',
    ] in cells
    assert ['limit', '', '', '', '0.1', *['-'] * 4] in cells
    assert ['layer', 'shape', 'Conv, ms', 'B, ms'] in cells
    assert ['conv3', '1 x 8 x 5 x 6', '1', '21'] in cells
    # Photos of 4 x 3 and 5 x 6 pixels.
    assert ['trained', '2', '2', '6', '0'] in cells
    assert '`python x.py`, commit abc, 2026-01-01, CPU, torch 2' in lines
