"""Exported models without PyTorch: results, demos and evaluation."""

import hashlib
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from pycocotools import mask as rle

from demo import image_demo
from multitask_cli import test as tools_test
from multitask_refine.apis import MultitaskInferencer
from multitask_refine.deployment.metadata import build_metadata
from multitask_runtime import InputError, OnnxInferencer, VideoReader, VideoWriter
from multitask_runtime.onnx.metadata import to_dataset_meta
from multitask_runtime.onnx.session import openvino_version
from tests.conftest import ROOT, SAMPLE_CONFIG, as_arguments, tiny_options
from tests.test_runtime.onnx_files import (
    BOXES,
    BRANCHES,
    DESCRIPTION,
    EVERY_BACKEND,
    KEYPOINTS,
    make_file,
)
from tools.deployment import export_onnx

pytestmark = pytest.mark.slow


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


@EVERY_BACKEND
def test_results_by_hand(model, image, backend):
    (result,) = OnnxInferencer(model, backend=backend)(image)
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


@pytest.mark.parametrize(
    'version, name', [('2', 'keypoint_shift'), ('1', 'joint_shift')], ids=['now', 'version 1']
)
def test_keypoint_shift_of_the_metadata(tmp_path, image, version, name):
    description = {key: value for key, value in DESCRIPTION.items() if key != 'keypoint_shift'}
    metadata = dict(
        format='multitask_refine',
        format_version=version,
        description=json.dumps({**description, name: 0.0}),
    )
    path = make_file(tmp_path / 'a.onnx', metadata=metadata)
    (result,) = OnnxInferencer(path)(image)
    np.testing.assert_allclose(result['keypoints'], np.array(KEYPOINTS) / 2 + 0.5)


@EVERY_BACKEND
@pytest.mark.parametrize('names', [('masks',), ('keypoints', 'keypoint_scores')])
def test_models_without_a_head(tmp_path, image, names, backend):
    has_keypoints = 'keypoints' not in names
    path = make_file(
        tmp_path / 'a.onnx',
        leave_out=names,
        keypoint_names=['head', 'foot'] if has_keypoints else [],
    )
    inferencer = OnnxInferencer(path, backend=backend)
    (result,) = inferencer(image, out_dir=tmp_path / 'out')
    assert not set(names) & set(result)
    assert (inferencer.visualize(image, result) != image).any()
    category = json.loads((tmp_path / 'out/predictions.json').read_text())['categories'][0]
    assert ('keypoints' in category) == has_keypoints


@EVERY_BACKEND
def test_batches_of_any_sizes(model, backend, monkeypatch):
    # The scores are the blue and the green share of each image.
    images = [
        np.full((side, 64, 3), (51 * i, 255 - 51 * i, 0), np.uint8)
        for i, side in enumerate((48, 32, 64, 48, 16))
    ]
    inferencer = OnnxInferencer(model, backend=backend, threads=2)
    counts, run = [], inferencer._model._session.run
    monkeypatch.setattr(
        inferencer._model._session, 'run', lambda given: counts.append(len(given)) or run(given)
    )
    results = inferencer(images, batch_size=2)
    assert counts == [2, 2, 1]
    for i, result in enumerate(results):
        np.testing.assert_allclose(result['scores'], [i / 5, 1 - i / 5], atol=1e-5)
        assert result['height'] == len(images[i])
    # Another image, whose outputs replace the first ones, does not change them.
    kept = results[0]['scores'].copy()
    inferencer(images[4])
    np.testing.assert_array_equal(results[0]['scores'], kept)


@EVERY_BACKEND
def test_models_with_branches(tmp_path, image, backend):
    """They take the format version of the others: earlier readers ignore further outputs."""
    path = make_file(tmp_path / 'branches.onnx', branches=BRANCHES)
    result = OnnxInferencer(path, show_progress=False, backend=backend)(image)[0]
    assert result.keypoints_visible.tolist() == [[2, 1], [0, 2]]
    instances = json.loads(result.to_json())['instances']
    assert [each['keypoints_visible'] for each in instances] == [[2, 1], [0, 2]]
    assert [each['mask_score'] for each in instances] == [0.75, 0.5]
    assert [each['pose_score'] for each in instances] == [0.25, 0.125]


def test_drawn_colors_are_those_of_the_metadata(model, image):
    inferencer = OnnxInferencer(model)
    drawn = inferencer.visualize(image, inferencer(image)[0])
    # RGB colors of the description in a BGR image.
    assert drawn[9, 19].tolist() == [0, 255, 0]
    assert drawn[29, 21].tolist() == [0, 0, 255]
    assert abs(drawn[19, 20].astype(int) - [255, 0, 0]).max() < 60
    assert (drawn[20:40, 54:] == image[20:40, 54:]).all()


def test_metadata_of_a_model_without_keypoints(make_network):
    network = make_network(**{'model.roi_head.keypoint_head': None})
    inferencer = MultitaskInferencer(network.config, network.checkpoint, 'cpu')
    said = json.loads(
        build_metadata(inferencer.cfg, network.checkpoint, inferencer.model, 19)['description']
    )
    assert to_dataset_meta(said) == inferencer.dataset_meta == dict(classes=('person',))


def test_drawing_thresholds_of_the_metadata(model, tmp_path):
    said = OnnxInferencer(make_file(tmp_path / 'a.onnx', kpt_thr=0.6, mask_alpha=0.1))
    assert (said.kpt_thr, said.mask_alpha) == (0.6, 0.1)
    unsaid = OnnxInferencer(model)
    assert (unsaid.kpt_thr, unsaid.mask_alpha) == (0.2, 0.4)


BLOCK = """
import sys
from pathlib import Path

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
    """Run a demo in a process that cannot import torch and the like."""
    (tmp_path / 'site').mkdir()
    (tmp_path / 'site/sitecustomize.py').write_text(BLOCK)

    def run(*command):
        done = subprocess.run(
            [sys.executable, *map(str, command)],
            cwd=tmp_path,
            text=True,
            env=dict(os.environ, PYTHONPATH=f'{tmp_path}/site{os.pathsep}{ROOT}/projects'),
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
    assert said == 'Instances: 4 with a score above 0.3; images: 2\nResults: out\n'
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


def test_verbs_without_torch(run_without_torch, model, image, video, tmp_path):
    cv2.imwrite(str(tmp_path / 'a.png'), image)
    cli = ('-m', 'multitask_cli')
    said = run_without_torch(*cli, 'predict', model, 'a.png', 'a.png', '--score-thr', '1')
    assert said == 'Instances: 0 with a score above 1; images: 2\nResults: outputs\n'
    run_without_torch(*cli, 'track', model, video, '--out-dir', 'tracked')
    content = json.loads((tmp_path / 'tracked/predictions.json').read_text())
    assert [entry['track_id'] for entry in content['annotations']] == [1, 2] * 3
    assert re.search('^onnxruntime: +1', run_without_torch(*cli, 'info'), re.M)
    assert 'mask-rcnn_r50_fpn_3x ' in run_without_torch(*cli, 'models')


def test_images_that_cannot_be_processed(model):
    inferencer = OnnxInferencer(model)
    with pytest.raises(InputError, match=r'found shape \(0, 5, 3\)'):
        inferencer(np.zeros((0, 5, 3), np.uint8))


def test_demo_errors(model, tmp_path, capsys):
    with pytest.raises(SystemExit, match='nothing.onnx: there is no such ONN'):
        image_demo.main(['a.png', 'nothing.onnx'])
    with pytest.raises(SystemExit) as usage:
        image_demo.main(['a.png', 'config.py'])
    assert usage.value.code == 2
    assert 'config.py: expected a config and a' in capsys.readouterr().err
    (tmp_path / 'a.png').write_bytes(b'')
    with pytest.raises(SystemExit, match='a.png: expected an image, found 0'):
        image_demo.main([str(tmp_path / 'a.png'), model, '--out-dir', ''])


def test_requirements_are_pinned_in_one_place():
    lines = (ROOT / 'requirements-onnx.txt').read_text().splitlines()
    names = [line for line in lines if re.match(r'\w', line)]
    pinned = re.findall(r'^([\w-]+)==', (ROOT / 'requirements.txt').read_text(), re.M)
    assert '-c requirements.txt' in lines and set(names) <= set(pinned)


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


@EVERY_BACKEND
def test_results_match_the_checkpoint(exported, milder, photos, noise, tmp_path, backend):
    inferencer = MultitaskInferencer(milder.config, milder.checkpoint, 'cpu')
    inputs = [*photos, noise(48, 64), noise(97, 31)]
    expected = inferencer(inputs, out_dir=tmp_path / 'torch', batch_size=3)
    found = OnnxInferencer(exported, backend=backend)(
        inputs, out_dir=tmp_path / 'onnx', batch_size=3
    )
    for one, other in zip(found, expected, strict=True):
        assert list(one) == list(other)
        for name, value in other.items():
            if isinstance(value, np.ndarray):
                assert one[name].dtype == value.dtype, name
                np.testing.assert_allclose(one[name], value, rtol=1e-3, atol=1e-2)
        for mask, wanted in zip(one['masks'], other['masks'], strict=True):
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


@pytest.mark.exhaustive
def test_evaluation_matches_the_checkpoint(exported, milder, tmp_path):
    backends = ['onnxruntime'] + ['openvino'] * bool(openvino_version())
    runs = [(str(milder.checkpoint),), *((exported, '--backend', each) for each in backends)]
    metrics = []
    for weights, *options in runs:
        tools_test.main([str(milder.config), weights, '--work-dir', str(tmp_path), *options])
        metrics.append(json.loads((tmp_path / 'metrics.json').read_text()))
    expected, *found = metrics
    source = expected.pop('run')
    assert 'runtime' not in source
    for each, backend in zip(found, backends, strict=True):
        run = each.pop('run')
        assert each == pytest.approx(expected, abs=0.1, nan_ok=True)
        assert run['runtime'].lower().startswith(backend)
        assert run['exported_from'] == source['checkpoint']
        assert run['exported_from_sha256'] == source['checkpoint_sha256']


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
    digest = hashlib.sha256(Path(path).read_bytes()).hexdigest()
    assert run['checkpoint_sha256'] == digest
    assert (run['trained_with'], run['exported_from']) == ('drawn_config', 'drawn.pth')
    assert run['exported_from_sha256'] == '0' * 64


def test_unsupported_evaluation_options(model, tmp_path, capsys):
    for option in (['--tta'], ['--launcher', 'pytorch']):
        with pytest.raises(SystemExit):
            tools_test.main([str(SAMPLE_CONFIG), model, *option])
        assert f'{option[0]}: an exported file' in capsys.readouterr().err
    (tmp_path / 'a.onnx').write_bytes(b'nothing')
    with pytest.raises(SystemExit, match='a.onnx: expected an ONNX file'):
        tools_test.main(
            [str(SAMPLE_CONFIG), str(tmp_path / 'a.onnx'), '--work-dir', str(tmp_path)]
        )
