"""Inference on images, arrays and folders: predictions, output files and errors."""

import io
import json
import pickle
import shutil

import cv2
import numpy as np
import pytest
import torch
from mmengine.config import Config
from PIL import Image
from pycocotools import mask as rle
from pycocotools.coco import COCO

from multitask_cli import test as tools_test
from multitask_refine.apis import InputError, MultitaskInferencer
from multitask_refine.apis.image_loader import ImageFile
from multitask_refine.engine import UnsafeCheckpointError
from multitask_refine.utils.errors import ConfigError
from multitask_runtime.io.inputs import collect
from tests.conftest import SAMPLE_CONFIG
from tests.test_apis.conftest import FIVE_KEYPOINTS

pytestmark = pytest.mark.slow

ARRAYS = ('bboxes', 'scores', 'labels', 'keypoints', 'keypoint_scores')


def assert_same(result, other, **tolerance):
    for name in ARRAYS:
        np.testing.assert_allclose(result[name], other[name], **tolerance)
    assert result['masks'] == other['masks']


def test_results_match_tools_test(network, photos, tmp_path, monkeypatch):
    """Without what the inferencer makes of the network to be faster, whose
    rounding is another one."""
    monkeypatch.setattr(
        f'{MultitaskInferencer.__module__}.prepare_for_inference', lambda model: None
    )
    inferencer = MultitaskInferencer(
        network.config, network.checkpoint, device='cpu', show_progress=False
    )
    dump = tmp_path / 'predictions.pkl'
    tools_test.main(
        [
            str(network.config),
            str(network.checkpoint),
            '--work-dir',
            str(tmp_path),
            '--out',
            str(dump),
        ]
    )
    with dump.open('rb') as file:
        expected = {each['img_path']: each['pred_instances'] for each in pickle.load(file)}
    results = inferencer(photos)
    assert [result['source'] for result in results] == photos
    for result in results:
        people = expected[result['source']]
        assert len(result['scores']) == 4
        for name in ARRAYS:
            np.testing.assert_allclose(result[name], people[name], rtol=1e-4, atol=1e-4)
        masks = np.stack([rle.decode(mask) for mask in result['masks']])
        assert masks.shape == (4, 48, 64) and masks.any()
        assert (masks == people['masks'].numpy()).all()
        assert (result['height'], result['width']) == (48, 64)
        assert 'frame' not in result and 'track_ids' not in result


def test_results_draw_themselves_and_know_their_speed(inferencer, photos):
    results = inferencer(photos, batch_size=2)
    for path, result in zip(photos, results, strict=True):
        image = cv2.imread(path)
        assert result.path == path and (result.image == image).all()
        assert (result.plot(0.0) == inferencer.visualize(image, result, 0.0)).all()
        assert list(result.speed) == ['preprocess', 'inference', 'postprocess']
        assert min(result.speed.values()) > 0
        assert result.masks.shape == (4, 48, 64) and result.names == {0: 'person'}
    # The images of a batch share its time.
    assert results[0].speed['inference'] == results[1].speed['inference']


def test_array_and_file_give_the_same_result(inferencer, photos):
    (of_file,) = inferencer(photos[0])
    (of_array,) = inferencer(cv2.imread(photos[0]))
    assert_same(of_array, of_file)
    assert of_array['source'] == 'array-000000'
    json.dumps(of_file['masks'])


def test_results_do_not_depend_on_the_batch(inferencer, noise, monkeypatch):
    images = [noise(*size) for size in [(48, 64)] * 4 + [(64, 48)] * 2]
    alone = inferencer(images, batch_size=1)
    sizes = []
    forward = inferencer.forward
    monkeypatch.setattr(
        inferencer, 'forward', lambda data: sizes.append(len(data['inputs'])) or forward(data)
    )
    together = inferencer(images, batch_size=3)
    assert sizes == [3, 1, 2]  # a batch has one size of image
    for one, other in zip(alone, together, strict=True):
        assert_same(one, other, rtol=1e-3, atol=1e-3)
    with pytest.raises(ValueError, match='batch_size: expected 1 or more'):
        inferencer(images, batch_size=0)


# Folders and output files


@pytest.fixture
def folder(photos, tmp_path):
    """Folder with two images of one name, a broken one, and another file."""
    folder = tmp_path / 'photos'
    (folder / 'holiday').mkdir(parents=True)
    (folder / '.hidden').mkdir()
    image = cv2.imread(photos[0])
    for name in ('a.png', 'holiday/a.png', '.hidden/a.png'):
        cv2.imwrite(str(folder / name), image)
    (folder / 'broken.jpg').write_bytes(b'no image')
    (folder / 'notes.txt').write_text('no image either')
    return folder


def test_folder_with_a_broken_file(inferencer, folder, tmp_path, capsys):
    out = tmp_path / 'out'
    results = inferencer(folder, out_dir=out, score_thr=0.0)
    assert [result['source'] for result in results] == [
        str(folder / name) for name in ('a.png', 'holiday/a.png')
    ]
    written = {str(path.relative_to(out)) for path in out.rglob('*.*')}
    assert written == {'a.png', 'holiday/a.png', 'predictions.json'}
    said = capsys.readouterr().err
    assert 'inputs done: 2 of 3' in said and 'skipped: 1' in said
    assert f'{folder}/broken.jpg: expected an image' in said
    predictions = COCO(str(out / 'predictions.json'))
    assert [image['file_name'] for image in predictions.imgs.values()] == [
        'a.png',
        'holiday/a.png',
    ]


def test_former_results_within_the_folder_are_ignored(inferencer, folder):
    for _ in range(2):
        assert len(inferencer(folder, out_dir=folder / 'out')) == 2


def test_output_image_is_the_drawn_result(inferencer, photos, tmp_path):
    image = cv2.imread(photos[0])
    (result,) = inferencer(photos[0], out_dir=tmp_path, score_thr=0.0)
    written = cv2.imread(str(tmp_path / '000000000001.png'))
    drawn = inferencer.visualize(image, result, score_thr=0.0)
    assert (written == drawn).all() and (written != image).any()
    assert (inferencer.visualize(image, result, score_thr=1.0) == image).all()


def test_keypoints_below_the_threshold_are_not_drawn(inferencer, photos):
    image = cv2.imread(photos[0])
    (result,) = inferencer(image)
    usual = inferencer.visualize(image, result, 0.0)
    all_keypoints = inferencer.visualize(image, result, 0.0, kpt_thr=0.0)
    none = inferencer.visualize(image, result, 0.0, kpt_thr=1.1)
    assert (all_keypoints != none).any()
    # A threshold holds for its call only.
    assert (inferencer.visualize(image, result, 0.0) == usual).all()


def test_predictions_are_in_coco_format(inferencer, photos, tmp_path):
    (result,) = inferencer(photos[0], out_dir=tmp_path)
    content = json.loads((tmp_path / 'predictions.json').read_text())
    (category,) = content['categories']
    assert (category['id'], category['name']) == (1, 'person')
    assert category['keypoints'][0] == 'nose'
    assert [16, 14] in category['skeleton']  # COCO's own, counted from 1
    (image,) = content['images']
    assert (image['file_name'], image['width'], image['height']) == ('000000000001.png', 64, 48)
    assert len(content['annotations']) == len(result['scores']) == 4
    for i, entry in enumerate(content['annotations']):
        left, top, right, bottom = result['bboxes'][i]
        np.testing.assert_allclose(
            entry['bbox'], [left, top, right - left, bottom - top], atol=1e-3
        )
        assert entry['score'] == result['scores'][i]
        assert entry['segmentation'] == result['masks'][i]
        points = np.reshape(entry['keypoints'], (17, 3))
        np.testing.assert_allclose(points[:, :2], result['keypoints'][i] - 0.5, atol=1e-3)
        np.testing.assert_allclose(points[:, 2], result['keypoint_scores'][i], atol=1e-3)
        assert (entry['image_id'], entry['category_id']) == (image['id'], 1)
    ids = [entry['id'] for entry in content['annotations']]
    assert ids == [1, 2, 3, 4]


@pytest.mark.parametrize('name', ['keypoint_shift', 'joint_shift'])  # joint_shift: formerly
def test_keypoints_of_a_model_in_pixel_indices(make_inferencer, inferencer, photos, name):
    shifted = make_inferencer(**{f'test_evaluator.{name}': 0.0})
    np.testing.assert_allclose(
        shifted(photos[0])[0]['keypoints'], inferencer(photos[0])[0]['keypoints'] + 0.5, rtol=1e-6
    )


def test_image_without_detections(make_inferencer, photos, tmp_path):
    blind = make_inferencer(**{'model.test_cfg.rcnn.score_thr': 1.1})
    (result,) = blind(photos[0], out_dir=tmp_path)
    shapes = {name: result[name].shape for name in ARRAYS}
    assert shapes == dict(
        bboxes=(0, 4), scores=(0,), labels=(0,), keypoints=(0, 17, 2), keypoint_scores=(0, 17)
    )
    assert result['masks'] == []
    written = cv2.imread(str(tmp_path / '000000000001.png'))
    assert (written == cv2.imread(photos[0])).all()
    assert COCO(str(tmp_path / 'predictions.json')).anns == {}


def test_inputs_are_never_overwritten(inferencer, folder, tmp_path):
    before = (folder / 'a.png').read_bytes()
    with pytest.raises(InputError, match='overwrite no input'):
        inferencer(folder, out_dir=folder)
    # Here it is the drawing of one input that would replace another.
    with pytest.raises(InputError, match='holiday/a.png is one'):
        inferencer(
            [str(folder / 'a.png'), str(folder / 'holiday/a.png')], out_dir=folder / 'holiday'
        )
    link = tmp_path / 'link'
    link.symlink_to(folder)
    with pytest.raises(InputError, match='overwrite no input'):
        inferencer(str(folder / 'a.png'), out_dir=link)
    with pytest.raises(InputError, match='overwrite no input'):
        inferencer(str(link / 'a.png'), out_dir=folder)
    assert (folder / 'a.png').read_bytes() == before
    assert not (folder / 'predictions.json').exists()


def test_interrupted_run_leaves_complete_files(inferencer, photos, tmp_path):
    results = inferencer.stream(photos, out_dir=tmp_path)
    next(results)
    results.close()
    content = json.loads((tmp_path / 'predictions.json').read_text())
    assert len(content['images']) == 1


def test_output_names_have_a_writable_extension(inferencer, photos, tmp_path):
    strange = tmp_path / 'photo.img'
    shutil.copy(photos[0], strange)
    image = cv2.imread(photos[0])
    inferencer([strange, image], out_dir=tmp_path / 'out')
    assert {path.name for path in (tmp_path / 'out').iterdir()} == {
        'photo.img.png',
        'array-000001.png',
        'predictions.json',
    }


# Accepted and refused inputs


def test_output_names_are_unique(folder):
    paths = [str(folder / name) for name in ('a.png', 'holiday/a.png')]
    for inputs in (paths, str(folder / '**/a.png'), [str(folder)]):
        names = {source.name for source in collect(inputs).sources}
        assert names >= {'a.png', 'holiday/a.png'}, inputs
    assert [source.name for source in collect(paths[1]).sources] == ['a.png']


def test_existing_name_with_brackets_is_not_a_pattern(tmp_path):
    path = tmp_path / 'a[1].png'
    path.write_bytes(b'')
    assert [source.value for source in collect(path).sources] == [str(path)]


@pytest.mark.parametrize(
    'wrong, match',
    [
        ('nothing.jpg', 'nothing.jpg: expected an image, a video, a folder'),
        ('nothing/*.jpg', 'expected a path or a glob pattern of files, found no'),
        ([], 'expected at least one, found an empty list'),
        (np.zeros((4, 5), np.uint8), r'uint8; found shape \(4, 5\), type uint8'),
        ([np.zeros((4, 5, 4), np.uint8)], r'inputs\[0\].*found shape \(4, 5, 4\)'),
        (np.zeros((4, 5, 3), np.float32), 'found shape .*type float32'),
        (np.zeros((0, 5, 3), np.uint8), r'found shape \(0, 5, 3\)'),
        ({}, 'expected a path, an array.*found dict'),
        (True, 'found bool'),
    ],
)
def test_wrong_inputs_are_explained(inferencer, wrong, match):
    is_path = isinstance(wrong, str) and '*' not in wrong
    error = FileNotFoundError if is_path else InputError
    with pytest.raises(error, match=match):
        # Said at once, not at the first result.
        inferencer.stream(wrong)


def test_folder_without_images(inferencer, tmp_path):
    (tmp_path / 'notes.txt').write_text('no image')
    with pytest.raises(InputError, match=r'in this folder, found 1 \.txt files'):
        inferencer(tmp_path)


def test_no_readable_input(inferencer, tmp_path):
    broken = tmp_path / 'broken.jpg'
    broken.write_bytes(b'no image')
    with pytest.raises(InputError, match='broken.jpg: expected an image'):
        inferencer(broken)
    with pytest.raises(InputError, match='none of the 2 inputs(.|\n)*No such'):
        inferencer([broken, 'nothing.jpg'])


def test_tracking_needs_a_video(inferencer, photos):
    with pytest.raises(ValueError, match='track: expected a video'):
        inferencer(photos, track=True)


# Image formats


def _gradient(dtype, channels):
    image = np.tile(np.arange(40, dtype=np.uint8)[:, None], (1, 60)) * 6
    image = np.stack([image] * channels, -1).squeeze()
    return image if dtype == np.uint8 else image.astype(np.uint16) * 257


@pytest.mark.parametrize('backend', ['cv2', 'pillow'])
@pytest.mark.parametrize('dtype', [np.uint8, np.uint16])
@pytest.mark.parametrize('channels', [1, 3, 4])
def test_gray_transparent_and_16_bit_images(backend, dtype, channels, tmp_path):
    path = str(tmp_path / 'a.png')
    image = _gradient(dtype, channels)
    if channels == 4:
        image[..., 3] = np.iinfo(dtype).max
    cv2.imwrite(path, image)
    step = dict(type='LoadImageFromFile', imdecode_backend=backend)
    read = ImageFile(step)(path)
    assert read.dtype == np.uint8
    assert (read == _gradient(np.uint8, 3)).all()


@pytest.mark.parametrize('backend', ['cv2', 'pillow'])
def test_exif_orientation_is_applied(backend, tmp_path):
    upright = np.zeros((60, 40, 3), np.uint8)
    upright[:20] = 255  # the sky
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned clockwise
    path = str(tmp_path / 'a.jpg')
    Image.fromarray(np.rot90(upright).copy()).save(path, exif=exif)
    step = dict(type='LoadImageFromFile', imdecode_backend=backend)
    read = ImageFile(step)(path)
    assert read.shape == (60, 40, 3)
    assert read[:18].min() > 200 and read[22:].max() < 50


# Models


@pytest.mark.parametrize('missing', ['mask', 'keypoint'])
def test_models_without_a_head(make_inferencer, missing, photos, tmp_path):
    inferencer = make_inferencer(**{f'model.roi_head.{missing}_head': None})
    (result,) = inferencer(photos[0], out_dir=tmp_path, score_thr=0.0)
    (entry, *_) = json.loads((tmp_path / 'predictions.json').read_text())['annotations']
    assert ('masks' in result) == ('segmentation' in entry) == (missing != 'mask')
    assert (
        ('keypoints' in result)
        == ('keypoint_scores' in result)
        == ('keypoints' in entry)
        == (missing != 'keypoint')
    )
    written = cv2.imread(str(tmp_path / '000000000001.png'))
    assert (written != cv2.imread(photos[0])).any()


def test_other_number_of_keypoints(make_inferencer, photos, tmp_path):
    meta_file = tmp_path / 'five.py'
    meta_file.write_text(FIVE_KEYPOINTS)
    five = {'model.roi_head.keypoint_head.num_keypoints': 5}
    dataset = {
        'test_dataloader.dataset.metainfo': dict(from_file=str(meta_file), classes=('cat',))
    }
    inferencer = make_inferencer(**five, **dataset)
    (result,) = inferencer(photos[0], out_dir=tmp_path, score_thr=0.0)
    assert result['keypoints'].shape == (4, 5, 2)
    (category,) = json.loads((tmp_path / 'predictions.json').read_text())['categories']
    assert category == dict(
        id=1, name='cat', keypoints=[f'keypoint_{i}' for i in range(5)], skeleton=[[1, 5]]
    )
    with pytest.raises(ValueError, match='num_keypoints: expected 17.*found 5'):
        make_inferencer(**five)


def test_metainfo_of_the_checkpoint_takes_precedence(make_inferencer, inferencer):
    meta = dict(inferencer.dataset_meta, classes=('skater',))
    assert make_inferencer(meta).dataset_meta['classes'] == ('skater',)
    # Those of MMDetection's checkpoints know nothing of keypoints.
    without_keypoints = make_inferencer(dict(CLASSES=('person',)))
    assert without_keypoints.dataset_meta['num_keypoints'] == 17


def test_config_object_and_file_are_equivalent(network, inferencer, photos):
    cfg = Config.fromfile(network.config)
    other = MultitaskInferencer(cfg, network.checkpoint)
    assert_same(other(photos[0])[0], inferencer(photos[0])[0])


def test_weights_of_another_model_are_refused(network):
    with pytest.raises(ValueError, match='not the weights of this config'):
        MultitaskInferencer(SAMPLE_CONFIG, network.checkpoint)


def test_missing_and_unsafe_files(network, tmp_path):
    with pytest.raises(FileNotFoundError, match='nothing.py: there is no'):
        MultitaskInferencer('nothing.py', network.checkpoint)
    with pytest.raises(FileNotFoundError, match='no such checkpoint'):
        MultitaskInferencer(network.config, 'nothing.pth')
    unsafe = tmp_path / 'unsafe.pth'
    torch.save(dict(state_dict={}, hook=io.StringIO), unsafe)
    with pytest.raises(UnsafeCheckpointError, match='unsafe.pth: refused'):
        MultitaskInferencer(network.config, unsafe)


def test_pipeline_without_image_loading(make_inferencer):
    with pytest.raises(ValueError, match='expected LoadImageFromFile'):
        make_inferencer(**{'test_dataloader.dataset.pipeline': [dict(type='PackDetInputs')]})


def test_device(network, monkeypatch):
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: False)
    automatic = MultitaskInferencer(network.config, network.checkpoint)
    assert next(automatic.model.parameters()).device.type == 'cpu'
    with pytest.raises(ValueError, match='finds no CUDA device'):
        MultitaskInferencer(network.config, network.checkpoint, 'cuda:0')


# Progress


def test_single_image_has_no_progress(inferencer, photos, capsys):
    inferencer(photos[0])
    assert capsys.readouterr().err == ''
    inferencer(photos)
    assert 'inputs done: 3 of 3' in capsys.readouterr().err


def test_config_without_a_model_is_refused(network, tmp_path):
    config = tmp_path / 'c.py'
    config.write_text('train_cfg = dict()')
    with pytest.raises(ConfigError, match=r'c.py: model: expected a dict, found None'):
        MultitaskInferencer(config, network.checkpoint)


def test_exported_model_is_referred_to_its_inferencer():
    with pytest.raises(ValueError, match='found an exported model.*OnnxInferencer'):
        MultitaskInferencer('model.onnx')
