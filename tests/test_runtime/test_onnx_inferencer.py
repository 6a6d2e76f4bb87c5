"""Exported networks without PyTorch: drawn images, graphs made by hand."""

import hashlib
import json
import os
import re
import subprocess
import sys
from types import SimpleNamespace

import cv2
import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from mmdet.models.roi_heads.mask_heads.fcn_mask_head import _do_paste_mask
from mmdet.registry import TRANSFORMS
from onnx import TensorProto, helper, numpy_helper
from PIL import Image
from pycocotools import mask as rle

from demo import image_demo
from multitask_refine.apis import MultitaskInferencer
from multitask_refine.apis import image_loader as frames
from multitask_refine.apis import test as tools_test
from multitask_refine.deployment.metadata import build_metadata
from multitask_runtime import InputError, OnnxError, OnnxInferencer, VideoReader, VideoWriter
from multitask_runtime.io.image_file import ImageFile
from multitask_runtime.io.resize import Resizer
from multitask_runtime.onnx.masks import paste_masks
from multitask_runtime.onnx.metadata import to_dataset_meta
from multitask_runtime.onnx.session import load_session
from tests.conftest import ROOT, SAMPLE_CONFIG, as_arguments, tiny_options
from tools.deployment import export_onnx

# In pixels of the resized image, which is twice as large as the original.
BOXES = [[20, 10, 60, 80], [64, 20, 104, 60]]
KEYPOINTS = [[[40, 20], [44, 60]], [[80, 30], [84, 50]]]
MASK = [[1, 1, 0, 0]] * 4  # the left half of the box
DESCRIPTION = dict(
    classes=['person'],
    keypoint_names=['head', 'foot'],
    skeleton=[[0, 1]],
    keypoint_colors=[[0, 255, 0], [255, 0, 0]],
    skeleton_colors=[[0, 0, 255]],
    flip_indices=[0, 1],
    sigmas=[0.05, 0.08],
    resize=dict(type='Resize', scale=[128, 96], keep_ratio=True),
    image_backend='cv2',
    joint_shift=0.5,
    mask_threshold=0.5,
    config='drawn_config.py',
    checkpoint='drawn.pth',
    checkpoint_sha256='0' * 64,
)


def _save(path, nodes, outputs, metadata, opset=17):
    image = helper.make_tensor_value_info('image', TensorProto.FLOAT, [1, 3, 'H', 'W'])
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs]
    graph = helper.make_graph(nodes, 'drawn', [image], values)
    model = helper.make_model(
        graph,
        ir_version=8,
        opset_imports=[helper.make_opsetid('', opset), helper.make_opsetid('other', 1)],
    )
    helper.set_model_props(model, metadata)
    onnx.save(model, path)
    return str(path)


def _constant(name, values):
    value = numpy_helper.from_array(np.array(values, np.float32))
    return helper.make_node('Constant', [], [name], value=value)


def make_file(path, metadata=None, leave_out=(), **changes):
    """A graph that always finds the same two people; their scores are how
    blue and how green the image is, so they tell the channels' order."""
    nodes = [
        _constant('boxes', BOXES),
        _constant('masks', [MASK] * 2),
        _constant('keypoints', KEYPOINTS),
        _constant('keypoint_scores', [[0.9, 0.8], [0.7, 0.1]]),
        _constant('white', [255, 255, 255]),
        helper.make_node('ReduceMean', ['image'], ['means'], axes=[0, 2, 3], keepdims=0),
        helper.make_node('Div', ['means', 'white'], ['shares']),
        helper.make_node(
            'Constant', [], ['two'], value=numpy_helper.from_array(np.array([0, 1], np.int64))
        ),
        helper.make_node('Gather', ['shares', 'two'], ['scores']),
    ]
    outputs = [
        name
        for name in ('boxes', 'scores', 'masks', 'keypoints', 'keypoint_scores')
        if name not in leave_out
    ]
    usual = dict(
        format='multitask_refine',
        format_version='1',
        description=json.dumps(dict(DESCRIPTION, **changes)),
    )
    return _save(path, nodes, outputs, usual if metadata is None else metadata)


@pytest.fixture(scope='module')
def model(tmp_path_factory):
    return make_file(tmp_path_factory.mktemp('onnx') / 'model.onnx')


@pytest.fixture
def image():
    """64 x 48 pixels: blue 204, green 102, red 0."""
    return np.full((48, 64, 3), (204, 102, 0), np.uint8)


@pytest.fixture
def video(tmp_path, image):
    writer = VideoWriter(tmp_path / 'film.mp4', 10)
    for _ in range(3):
        writer.write(image)
    writer.close()
    return str(tmp_path / 'film.mp4')


# ---- what is found


def test_results_by_hand(model, image):
    (result,) = OnnxInferencer(model)(image)
    assert {name: type(value).__name__ for name, value in result.items()} == {
        'source': 'str',
        'height': 'int',
        'width': 'int',
        'bboxes': 'ndarray',
        'scores': 'ndarray',
        'labels': 'ndarray',
        'masks': 'list',
        'keypoints': 'ndarray',
        'keypoint_scores': 'ndarray',
    }
    assert (result['source'], result['height'], result['width']) == ('array-000000', 48, 64)
    np.testing.assert_allclose(result['bboxes'], np.array(BOXES) / 2)
    np.testing.assert_allclose(result['scores'], [0.8, 0.4], rtol=1e-6)
    np.testing.assert_allclose(result['keypoints'], np.array(KEYPOINTS) / 2)
    assert result['labels'].tolist() == [0, 0]
    # A mask's cell is 5 wide and 8.75 high. Across the borders, at x = 10 and
    # 20 and y = 5 and 40, probabilities fall from 1 to 0 over one cell.
    x, y = np.arange(64) + 0.5, np.arange(48) + 0.5
    across = np.clip(0.5 + np.minimum(x - 10, 20 - x) / 5, 0, 1)
    down = np.clip(0.5 + np.minimum(y - 5, 40 - y) / 8.75, 0, 1)
    expected = np.outer(down, across) >= 0.5
    np.testing.assert_array_equal(rle.decode(result['masks'][0]), expected)


def test_keypoint_shift_of_the_metadata(tmp_path, image):
    path = make_file(tmp_path / 'a.onnx', joint_shift=0.0)
    (result,) = OnnxInferencer(path)(image)
    np.testing.assert_allclose(result['keypoints'], np.array(KEYPOINTS) / 2 + 0.5)


@pytest.mark.parametrize('names', [('masks',), ('keypoints', 'keypoint_scores')])
def test_networks_without_a_head(tmp_path, image, names):
    has_keypoints = 'keypoints' not in names
    path = make_file(
        tmp_path / 'a.onnx',
        leave_out=names,
        keypoint_names=['head', 'foot'] if has_keypoints else [],
    )
    inferencer = OnnxInferencer(path)
    (result,) = inferencer(image, out_dir=tmp_path / 'out')
    assert not set(names) & set(result)
    assert (inferencer.visualize(image, result) != image).any()
    category = json.loads((tmp_path / 'out/predictions.json').read_text())['categories'][0]
    assert ('keypoints' in category) == has_keypoints


def test_drawn_like_the_description_says(model, image):
    inferencer = OnnxInferencer(model)
    drawn = inferencer.visualize(image, inferencer(image)[0])
    # RGB colors of the description in a BGR image.
    assert drawn[9, 19].tolist() == [0, 255, 0]
    assert drawn[29, 21].tolist() == [0, 0, 255]
    assert abs(drawn[19, 20].astype(int) - [255, 0, 0]).max() < 60
    assert (drawn[20:40, 54:] == image[20:40, 54:]).all()


def test_names_of_a_network_without_keypoints(make_network):
    network = make_network(**{'model.roi_head.keypoint_head': None})
    inferencer = MultitaskInferencer(network.config, network.checkpoint, 'cpu')
    said = json.loads(
        build_metadata(inferencer.cfg, network.checkpoint, inferencer.model, 19)['description']
    )
    assert to_dataset_meta(said) == inferencer.dataset_meta == dict(classes=('person',))


def test_thresholds_of_drawing(model, tmp_path):
    said = OnnxInferencer(make_file(tmp_path / 'a.onnx', kpt_thr=0.6, mask_alpha=0.1))
    assert (said.kpt_thr, said.mask_alpha) == (0.6, 0.1)
    unsaid = OnnxInferencer(model)
    assert (unsaid.kpt_thr, unsaid.mask_alpha) == (0.2, 0.4)


BLOCK = """
import sys

class Blocked:
    names = {'torch', 'mmcv', 'mmengine', 'mmdet', 'mmpose', 'PIL',
             'onnx', 'matplotlib', 'yaml'}

    def find_spec(self, name, path=None, target=None):
        if name.split('.')[0] in self.names:
            raise ImportError(name + ' is blocked')

sys.meta_path.insert(0, Blocked())
"""


@pytest.fixture
def run_without_torch(tmp_path):
    """Runs a demo in a process that cannot import torch and the like."""
    (tmp_path / 'site').mkdir()
    (tmp_path / 'site/sitecustomize.py').write_text(BLOCK)

    def run(*command):
        done = subprocess.run(
            [sys.executable, *map(str, command)],
            cwd=tmp_path,
            text=True,
            env=dict(os.environ, PYTHONPATH=str(tmp_path / 'site')),
            capture_output=True,
            timeout=300,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    with pytest.raises(AssertionError, match='torch is blocked'):
        run('-c', 'import torch')
    return run


def test_image_demo_without_torch(run_without_torch, model, image, tmp_path):
    (tmp_path / 'photos').mkdir()
    for name in 'ab':
        cv2.imwrite(str(tmp_path / f'photos/{name}.png'), image)
    said = run_without_torch(ROOT / 'demo/image_demo.py', 'photos', '--out-dir', 'out', model)
    assert said == 'Results: out\n'
    content = json.loads((tmp_path / 'out/predictions.json').read_text())
    assert [each['file_name'] for each in content['images']] == ['a.png', 'b.png']
    first = content['annotations'][0]
    assert first['bbox'] == [10, 5, 20, 35]
    assert first['keypoints'] == [19.5, 9.5, 0.9, 21.5, 29.5, 0.8]
    inferencer = OnnxInferencer(model)
    drawn = inferencer.visualize(image, inferencer(image)[0])
    assert (cv2.imread(str(tmp_path / 'out/a.png')) == drawn).all()


def test_video_demo_without_torch(run_without_torch, model, video, tmp_path):
    run_without_torch(ROOT / 'demo/video_demo.py', video, model, '--track', '--out-dir', 'out')
    content = json.loads((tmp_path / 'out/predictions.json').read_text())
    assert len(content['images']) == 3
    assert [entry['track_id'] for entry in content['annotations']] == [1, 2] * 3
    assert len(list(VideoReader(str(tmp_path / 'out/film.mp4')))) == 3


# ---- the parts, against those of the pipelines and of mmdet


@pytest.mark.parametrize(
    'settings, tolerance',
    [
        (dict(type='Resize', scale=(133, 80), keep_ratio=True), 0),
        (dict(type='Resize', scale=(50, 70), interpolation='area'), 0),
        (dict(type='Resize', scale=90, keep_ratio=True, backend='pillow'), 0),
        (dict(type='ResizeShortestEdge', scale=80, max_size=133, backend='pillow'), 0),
        (dict(type='ResizeShortestEdge', scale=80, max_size=133), 0),
        (dict(type='ResizeShortestEdge', scale=80), 0),
        (dict(type='FloatResize', scale=(1333, 800)), 1e-3),
    ],
)
def test_resizing_gives_the_pipeline_s_pixels(noise, settings, tolerance):
    theirs = TRANSFORMS.build(settings)
    of_json = {
        name: list(value) if isinstance(value, tuple) else value
        for name, value in settings.items()
    }
    ours = Resizer(json.loads(json.dumps(of_json)))
    for size in [(48, 64), (64, 48), (50, 50), (31, 97), (3, 4), (301, 17), (33, 32)]:
        image = noise(*size)
        expected, found = theirs(dict(img=image))['img'], ours(image)
        assert (found.shape, found.dtype) == (expected.shape, expected.dtype)
        assert abs(found.astype(float) - expected).max() <= tolerance


def test_masks_are_pasted_as_mmdet_does():
    random = np.random.default_rng(0)
    corner = random.uniform(-4, 68, (60, 2))
    side = random.uniform(5, 90, (60, 2))
    side[30:] /= 18  # less than a pixel, or a few
    corner[30:] = abs(corner[30:])
    boxes = np.hstack([corner, corner + side])
    boxes[0] = [10, 10, 10, 30]  # no width
    boxes = np.float32(boxes)
    masks = np.float32(random.random((60, 7, 7)))
    for threshold in (0.5, 0.2):
        found = paste_masks(masks, boxes, (70, 100), threshold)
        for mask, box, pasted in zip(masks, boxes, found):
            values, place = _do_paste_mask(
                torch.tensor(mask)[None, None], torch.tensor(box)[None], 70, 100
            )
            expected = np.zeros((70, 100), np.float32)
            expected[place] = values[0]
            unsure = abs(expected - threshold) < 1e-4  # differ by rounding
            assert ((expected >= threshold) == pasted)[~unsure].all()
            assert unsure.sum() <= 10


@pytest.mark.parametrize('mode', ['RGB', 'L', 'LA', 'RGBA', 'P', 'CMYK'])
@pytest.mark.parametrize('backend', ['cv2', 'pillow'])
def test_images_are_read_as_by_the_pipeline(noise, tmp_path, mode, backend):
    suffix = '.jpg' if mode in ('RGB', 'CMYK') else '.png'
    path = str(tmp_path / f'a{suffix}')
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned clockwise
    Image.fromarray(noise(20, 30)).convert(mode).save(path, exif=exif)
    step = dict(type='LoadImageFromFile', imdecode_backend=backend)
    expected = frames.ImageFile(step)(path)
    np.testing.assert_array_equal(ImageFile(backend)(path), expected)


def test_reading_without_pillow(noise, tmp_path, monkeypatch):
    path = tmp_path / 'a.png'
    image = noise(20, 30)
    cv2.imwrite(str(path), image)
    monkeypatch.setitem(sys.modules, 'PIL', None)
    monkeypatch.setitem(sys.modules, 'PIL.Image', None)
    assert (ImageFile()(str(path)) == image).all()
    path.write_bytes(path.read_bytes()[:-12])
    with pytest.raises(InputError, match='a.png: expected an image, found'):
        ImageFile()(str(path))
    for make in (
        lambda: ImageFile('pillow'),
        lambda: Resizer(dict(type='ResizeShortestEdge', scale=8, backend='pillow')),
    ):
        with pytest.raises(OnnxError, match='Pillow is needed for this model'):
            make()


# ---- what is refused


def test_files_that_are_not_of_this_project(tmp_path):
    path = tmp_path / 'a.onnx'
    with pytest.raises(FileNotFoundError, match='a.onnx: there is no such'):
        OnnxInferencer(path)
    for content in (b'', b'no ONNX file'):
        path.write_bytes(content)
        with pytest.raises(
            OnnxError, match=f'a.onnx: expected an ONNX file, found {len(content)} bytes'
        ):
            OnnxInferencer(path)


@pytest.mark.parametrize(
    'change, match',
    [
        (dict(format=None), 'that this project exported .*found no format there'),
        (dict(format='yolo'), 'found format=yolo. Export it anew'),
        (dict(format_version='2'), 'expected format_version 1, found 2.*Update'),
        (dict(format_version='new'), 'a number as format_version.*found new'),
        (dict(description=None), 'a JSON object as description'),
        (dict(description='{'), 'a JSON object as description'),
        (dict(description='{"classes": []}'), 'lacks keypoint_names, skeleton'),
    ],
)
def test_metadata_that_do_not_fit(tmp_path, change, match):
    metadata = dict(
        format='multitask_refine', format_version='1', description=json.dumps(DESCRIPTION)
    )
    metadata.update(change)
    path = make_file(
        tmp_path / 'a.onnx', {name: value for name, value in metadata.items() if value is not None}
    )
    with pytest.raises(OnnxError, match=f'a.onnx: (.|\n)*{match}'):
        OnnxInferencer(path)


def test_what_this_onnxruntime_cannot_run(tmp_path, model, monkeypatch):
    node = helper.make_node('Blub', ['image'], ['y'], domain='other')
    strange = _save(tmp_path / 'a.onnx', [node], ['y'], {})
    with pytest.raises(OnnxError, match='operator other:Blub. Expected onnxr'):
        load_session(strange)
    node = helper.make_node('Relu', ['image'], ['y'])
    for changes in (dict(opset=99), dict()):
        newer = _save(tmp_path / 'b.onnx', [node], ['y'], {}, **changes)
        if not changes:
            content = onnx.load(newer)
            content.ir_version = 99
            onnx.save(content, newer)
        with pytest.raises(OnnxError, match='is too old for this file'):
            load_session(newer)

    def refuse(*_, **__):
        raise RuntimeError(
            '[ONNXRuntimeError] : 9 : NOT_IMPLEMENTED : Could not find an '
            "implementation for DeformConv(19) node with name ''"
        )

    monkeypatch.setattr(onnxruntime, 'InferenceSession', refuse)
    monkeypatch.setattr(onnxruntime, '__version__', '1.24.4')
    with pytest.raises(
        OnnxError,
        match='operator DeformConv. Expected onnxr'
        "untime 1.25 or later, found 1.24.4(.|\n)*>=1.25'",
    ):
        load_session(model)


def test_without_onnxruntime(model, monkeypatch):
    monkeypatch.setitem(sys.modules, 'onnxruntime', None)
    with pytest.raises(OnnxError, match='pip install -r requirements-onnx'):
        OnnxInferencer(model)


def test_devices(model, monkeypatch):
    with pytest.raises(OnnxError, match="cpu', 'cuda', .*found 'tpu'"):
        OnnxInferencer(model, 'tpu')
    monkeypatch.setattr(onnxruntime, 'get_available_providers', lambda: ['CPUExecutionProvider'])
    OnnxInferencer(model, 'auto')
    with pytest.raises(
        OnnxError, match='runs on cuda:1(.|\n)*has no CUDAExecutionProvider here, only CPUExec'
    ):
        OnnxInferencer(model, 'cuda:1')
    asked = []
    monkeypatch.setattr(onnxruntime, 'get_available_providers', lambda: ['CUDAExecutionProvider'])
    monkeypatch.setattr(
        onnxruntime,
        'InferenceSession',
        lambda *_, providers: (
            asked.append(providers[0])
            or SimpleNamespace(get_providers=lambda: ['CPUExecutionProvider'])
        ),
    )
    with pytest.raises(OnnxError, match='could not start CUDAExecution'):
        OnnxInferencer(model, 'cuda:1')
    assert asked == [('CUDAExecutionProvider', dict(device_id='1'))]


def test_images_without_pixels(model):
    inferencer = OnnxInferencer(model)
    with pytest.raises(InputError, match=r'found shape \(0, 5, 3\)'):
        inferencer(np.zeros((0, 5, 3), np.uint8))


@pytest.mark.parametrize(
    'settings, match',
    [
        (dict(type='Rotate'), 'expected one of Resize,.*found Rotate'),
        (dict(type='Resize', scale=[8, 8], blub=1), "unexpected keyword.*'blub'"),
        (dict(), 'found None'),
    ],
)
def test_resizing_that_is_not_known(settings, match):
    with pytest.raises(OnnxError, match=match):
        Resizer(settings)


def test_demo_errors_are_sentences(model, tmp_path):
    with pytest.raises(SystemExit, match='nothing.onnx: there is no such ONN'):
        image_demo.main(['a.png', 'nothing.onnx'])
    with pytest.raises(SystemExit, match='config.py: expected a config and a'):
        image_demo.main(['a.png', 'config.py'])
    (tmp_path / 'a.png').write_bytes(b'')
    with pytest.raises(SystemExit, match='a.png: expected an image, found 0'):
        image_demo.main([str(tmp_path / 'a.png'), model, '--out-dir', ''])


def test_requirements_are_pinned_in_one_place():
    lines = (ROOT / 'requirements-onnx.txt').read_text().splitlines()
    names = [line for line in lines if re.match(r'\w', line)]
    pinned = re.findall(r'^([\w-]+)==', (ROOT / 'requirements.txt').read_text(), re.M)
    assert '-c requirements.txt' in lines and set(names) <= set(pinned)


# ---- a network that was really exported


@pytest.fixture(scope='module')
def milder(make_network):
    """The tiny network with scores that are not all 1 on coarse grains, where
    rounding would decide who is best."""
    network = make_network()
    content = torch.load(network.checkpoint, weights_only=True)
    content['state_dict']['roi_head.bbox_head.fc_cls.weight'] /= 10
    torch.save(content, network.checkpoint)
    return network


@pytest.fixture(scope='module')
def exported(milder, tmp_path_factory):
    path = tmp_path_factory.mktemp('exported') / 'tiny.onnx'
    assert export_onnx.main([str(milder.config), str(milder.checkpoint), str(path)]) == 0
    return str(path)


def test_results_are_those_of_the_checkpoint(exported, milder, photos, noise, tmp_path):
    inferencer = MultitaskInferencer(milder.config, milder.checkpoint, 'cpu')
    inputs = [*photos, noise(48, 64), noise(97, 31)]
    expected = inferencer(inputs, out_dir=tmp_path / 'torch', batch_size=3)
    found = OnnxInferencer(exported)(inputs, out_dir=tmp_path / 'onnx', batch_size=3)
    for one, other in zip(found, expected):
        assert list(one) == list(other)
        for name, value in other.items():
            if isinstance(value, np.ndarray):
                assert one[name].dtype == value.dtype, name
                np.testing.assert_allclose(one[name], value, rtol=1e-3, atol=1e-2)
        for mask, wanted in zip(one['masks'], other['masks']):
            assert mask['size'] == wanted['size']
            assert (rle.decode(mask) != rle.decode(wanted)).sum() <= 2
    written, wanted = (
        {path.name for path in (tmp_path / name).iterdir()} for name in ('onnx', 'torch')
    )
    assert written == wanted and len(written) == 6
    contents = [
        json.loads((tmp_path / name / 'predictions.json').read_text())
        for name in ('onnx', 'torch')
    ]
    assert contents[0]['categories'] == contents[1]['categories']
    assert contents[0]['images'] == contents[1]['images']


def test_evaluation_gives_what_the_checkpoint_gives(exported, milder, tmp_path):
    metrics = []
    for weights in (exported, str(milder.checkpoint)):
        tools_test.main([str(milder.config), weights, '--work-dir', str(tmp_path)])
        metrics.append(json.loads((tmp_path / 'metrics.json').read_text()))
    runs = [each.pop('run') for each in metrics]
    assert metrics[0] == pytest.approx(metrics[1], abs=0.1, nan_ok=True)
    assert runs[0]['exported_from'] == runs[1]['checkpoint']
    assert runs[0]['exported_from_sha256'] == runs[1]['checkpoint_sha256']


# ---- evaluated by tools/test.py


def test_evaluation(tmp_path, scene):
    path = make_file(tmp_path / 'a.onnx', leave_out=('keypoints', 'keypoint_scores'))
    options = as_arguments(
        dict(
            tiny_options(scene),
            **{
                'test_dataloader.dataset.pipeline.1.scale': (128, 96),
                'test_evaluator.tasks': "['bbox','segm']",
            },
        )
    )
    arguments = [str(SAMPLE_CONFIG), path, '--work-dir', str(tmp_path)]
    assert tools_test.main([*arguments, *options]) == 0
    results = json.loads((tmp_path / 'metrics.json').read_text())
    assert results['bbox_AP'] >= 0 and results['segm_AP'] >= 0
    run = results['run']
    digest = hashlib.sha256(open(path, 'rb').read()).hexdigest()
    assert run['checkpoint_sha256'] == digest
    assert (run['trained_with'], run['exported_from']) == ('drawn_config', 'drawn.pth')
    assert run['exported_from_sha256'] == '0' * 64


def test_evaluation_refuses_what_it_cannot_do(model, tmp_path, capsys):
    for option in (['--tta'], ['--launcher', 'pytorch']):
        with pytest.raises(SystemExit):
            tools_test.main([str(SAMPLE_CONFIG), model, *option])
        assert f'{option[0]}: an ONNX file' in capsys.readouterr().err
    (tmp_path / 'a.onnx').write_bytes(b'nothing')
    with pytest.raises(SystemExit, match='a.onnx: expected an ONNX file'):
        tools_test.main(
            [str(SAMPLE_CONFIG), str(tmp_path / 'a.onnx'), '--work-dir', str(tmp_path)]
        )
