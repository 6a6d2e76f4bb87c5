"""Results: dict and attributes, images, drawings, and exports read by other libraries."""

import copy
import gc
import json
import pickle
import sys
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from pycocotools import mask as rle
from pycocotools.coco import COCO

from multitask_runtime import (
    FormatError,
    ImageNotKeptError,
    InputError,
    NoWindowError,
    OnnxInferencer,
    Result,
    VideoReader,
    VideoWriter,
)
from multitask_runtime.drawing import draw_result
from multitask_runtime.io.frames import Frame
from multitask_runtime.io.inputs import Source
from multitask_runtime.result import to_result

META = dict(
    classes=('person',),
    num_keypoints=2,
    keypoint_id2name={0: 'head', 1: 'foot'},
    keypoint_colors=[[0, 255, 0], [255, 0, 0]],
    skeleton_links=[[0, 1]],
    skeleton_link_colors=[[0, 0, 255]],
    sigmas=[0.05, 0.08],
)
BOXES = [[10, 5, 30.5, 40], [34, 8, 44, 28]]
# The first mask is a rectangle, the second one a frame with a hole.
MASKS = np.zeros((2, 48, 64), bool)
MASKS[0, 5:40, 10:30] = True
MASKS[1, 8:28, 34:44] = True
MASKS[1, 12:20, 37:41] = False
KEYPOINTS = [[[20.5, 10.5], [22.5, 30.5]], [[40.5, 12.5], [41.5, 27.5]]]
KEYPOINT_SCORES = [[0.9, 0.8], [0.7, 0.1]]


def make_result(image=None, source=None, leave_out=(), index=None):
    """Two people in an image of 64 x 48 pixels."""
    if image is None:
        image = np.full((48, 64, 3), (204, 102, 0), np.uint8)
    instances = dict(
        bboxes=np.array(BOXES, np.float32),
        scores=np.array([0.8, 0.4], np.float32),
        labels=np.array([0, 0]),
        masks=MASKS,
        keypoints=np.array(KEYPOINTS, np.float32),
        keypoint_scores=np.array(KEYPOINT_SCORES, np.float32),
    )
    frame = Frame(source or Source('array', image, 'array-000000'), image, index)
    kept = {name: value for name, value in instances.items() if name not in leave_out}
    return to_result(frame, kept, dataset_meta=META)


@pytest.fixture
def result():
    return make_result()


@pytest.fixture
def without_heads():
    return make_result(leave_out=('masks', 'keypoints', 'keypoint_scores'))


def test_result_is_a_dict_with_attributes(result):
    assert isinstance(result, dict)
    assert list(result)[:3] == ['source', 'height', 'width'] and 'bboxes' in result
    assert result.get('track_ids') is None and result['bboxes'] is result.boxes
    assert result.boxes.tolist() == BOXES and result.labels.tolist() == [0, 0]
    assert result.scores is result['scores'] and result.keypoints is result['keypoints']
    np.testing.assert_allclose(result.keypoint_scores, KEYPOINT_SCORES)
    assert result.masks.dtype == bool and (result.masks == MASKS).all()
    assert result.names == {0: 'person'} and result.keypoint_names == ['head', 'foot']
    assert result.orig_shape == (48, 64) and result.num_instances == 2
    assert result.path is None and result.track_ids is None
    assert repr(result) == (
        'Result(array-000000, 64 x 48 pixels, 2 instances: bboxes, scores, labels, masks, '
        'keypoints, keypoint_scores)'
    )


@pytest.fixture
def with_visibility():
    result = make_result()
    result['keypoints_visible'] = np.array([[2, 1], [0, 2]])
    result['pose_scores'] = np.array([0.5, 0.25])
    return result


def test_predicted_visibility_in_exports(with_visibility):
    """The second person's head is absent, its foot has a score of 0.1."""
    assert with_visibility.keypoints_visible.tolist() == [[2, 1], [0, 2]]
    assert with_visibility[1].keypoints_visible.tolist() == [[0, 2]]
    instances = json.loads(with_visibility.to_json())['instances']
    assert [each['keypoints_visible'] for each in instances] == [[2, 1], [0, 2]]
    annotations = with_visibility.to_coco()['annotations']
    assert [each['keypoints_visible'] for each in annotations] == [[2, 1], [0, 2]]
    assert [each['pose_score'] for each in annotations] == [0.5, 0.25]
    assert annotations[0]['keypoints'][2::3] == pytest.approx([0.9, 0.8])
    pose = [line.split()[7::3] for line in with_visibility.to_yolo('pose').splitlines()]
    assert pose == [['2', '1'], ['0', '0']]
    assert 'occluded="1"' in with_visibility.to_cvat()
    assert 'occluded="1"' not in make_result().to_cvat()


def test_a_predicted_occluded_keypoint_is_a_ring_and_an_absent_one_hidden(with_visibility):
    """The keypoints of the first person have a radius of two pixels."""
    with_visibility.dataset_meta = dict(META, skeleton_links=[], skeleton_link_colors=[])
    image = np.full((48, 64, 3), 100, np.uint8)
    drawn = with_visibility.plot(image=image, mask_alpha=0.0)
    assert drawn[10, 20].tolist() == [0, 255, 0]
    assert drawn[30, 22].tolist() == [100] * 3 and drawn[30, 24].tolist() != [100] * 3
    # The absent one is hidden as with a low score.
    with_visibility['keypoints_visible'][1, 0] = 2
    assert (with_visibility.plot(image=image, mask_alpha=0.0) != drawn).any()
    with_visibility['keypoint_scores'][1, 0] = 0.1
    assert (with_visibility.plot(image=image, mask_alpha=0.0) == drawn).all()


def test_missing_heads_are_none(without_heads):
    assert without_heads.masks is None and without_heads.keypoints is None
    assert without_heads.keypoint_scores is None and 'masks' not in without_heads


@pytest.mark.parametrize(
    'key', [np.array([False, True]), [1], 1, slice(1, None), np.array([1]), -1]
)
def test_select_instances(result, key):
    result['track_ids'] = np.array([7, 9])
    one = result[key]
    assert type(one) is Result and one.num_instances == 1 and one.speed is result.speed
    assert one.boxes.tolist() == BOXES[1:] and one.track_ids.tolist() == [9]
    assert (one.masks == MASKS[1:]).all() and one.keypoints.tolist() == KEYPOINTS[1:]
    assert one.image is result.image and one['source'] == result['source']
    assert result.num_instances == 2
    assert result[result.scores > 0.9].masks.shape == (0, 48, 64)


def test_pickle_and_copy_keep_everything(result, tmp_path):
    path = str(tmp_path / 'a.png')
    cv2.imwrite(path, result.image)
    of_file = make_result(result.image, Source('image', path, 'a.png'))
    for each in (result, of_file):
        for again in (pickle.loads(pickle.dumps(each)), copy.deepcopy(each)):
            assert type(again) is Result and list(again) == list(each)
            assert (again.plot() == each.plot()).all() and again.path == each.path


def test_speed(model):
    inferencer = OnnxInferencer(model)
    (result,) = inferencer(np.zeros((48, 64, 3), np.uint8))
    assert list(result.speed) == ['preprocess', 'inference', 'postprocess']
    assert all(0 < each < 60e3 for each in result.speed.values())


# Images


def test_image_of_a_file_is_read_again(tmp_path):
    path = str(tmp_path / 'a.png')
    image = np.random.default_rng(0).integers(0, 256, (48, 64, 3), np.uint8)
    cv2.imwrite(path, image)
    result = make_result(image, Source('image', path, 'a.png'))
    assert result.image is image  # while it is in memory
    expected = image.copy()
    del image
    gc.collect()
    assert (result.image == expected).all() and result.path == path
    cv2.imwrite(path, expected[:40])
    with pytest.raises(InputError, match='64 x 48 pixels, found 64 x 40. The file has changed'):
        result.plot()
    (tmp_path / 'a.png').unlink()
    with pytest.raises(InputError, match='a.png: No such file'):
        result.plot()
    assert result._repr_png_() is None


def test_frame_of_a_video_is_read_again(tmp_path):
    path = str(tmp_path / 'film.mp4')
    writer = VideoWriter(path, 10)
    for gray in (0, 80, 160):
        writer.write(np.full((48, 64, 3), gray, np.uint8))
    writer.close()
    frames = list(VideoReader(path))
    result = make_result(frames[1].copy(), Source('video', path, 'film.mp4'), index=1)
    gc.collect()
    assert (result.image == frames[1]).all() and abs(int(result.image.mean()) - 80) < 9
    assert result.file_name == 'film_000001.png' and result['frame'] == 1
    result['frame'] = 5
    with pytest.raises(InputError, match='expected a frame 5, found fewer'):
        result.plot()


def test_image_of_a_stream_is_not_kept():
    source = Source('stream', 'http://host/film.mjpg', 'host-film.mjpg')
    result = make_result(np.zeros((48, 64, 3), np.uint8), source, index=3)
    gc.collect()
    with pytest.raises(ImageNotKeptError, match=r'film.mjpg: the image .* plot\(image=...\)'):
        result.plot()
    assert result.plot(image=np.zeros((48, 64, 3), np.uint8)).any()
    kept = make_result(np.zeros((48, 64, 3), np.uint8), Source('camera', 0, 'camera-0'), index=3)
    gc.collect()
    assert kept.plot().any()


# Drawings


def test_plot_is_what_the_inferencer_draws(model, result):
    inferencer = OnnxInferencer(model)
    (found,) = inferencer(result.image)
    assert (found.plot() == inferencer.visualize(result.image, found)).all()
    assert (result.plot(0.0) == draw_result(result.image, result, META, 0.0, 0.2, 0.4)).all()
    assert (result.plot() != result.plot(0.5)).any()
    assert (result.plot(kpt_thr=0.95) != result.plot()).any()
    assert (result.plot(mask_alpha=0.0) != result.plot()).any()
    assert (result.plot(1.0) == result.image).all()
    other = np.zeros_like(result.image)
    assert (result.plot(1.0, image=other) == 0).all()
    with pytest.raises(InputError, match=r'expected the shape \(48, 64, 3\).*found \(64, 48, 3\)'):
        result.plot(image=other.transpose(1, 0, 2))


def test_thresholds_are_those_of_the_inferencer(model, tmp_path):
    inferencer = OnnxInferencer(model)
    inferencer.kpt_thr, inferencer.mask_alpha = 0.95, 0.1
    (found,) = inferencer(np.full((48, 64, 3), 200, np.uint8))
    assert (found.kpt_thr, found.mask_alpha) == (0.95, 0.1)
    assert ' 0 0 0' in found.to_yolo()


def test_save_replaces_no_file(result, tmp_path):
    path = result.save(tmp_path / 'new/drawn.png')
    assert (cv2.imread(str(path)) == result.plot()).all()
    before = path.read_bytes()
    with pytest.raises(FileExistsError, match='drawn.png: expected the name of a new file'):
        result.save(path, score_thr=0.5)
    assert path.read_bytes() == before
    result.save(path, exist_ok=True, score_thr=0.5)
    assert path.read_bytes() != before
    own = make_result(result.image, Source('image', str(path), 'drawn.png'))
    with pytest.raises(FileExistsError, match='another file than the image itself'):
        own.save(path, exist_ok=True)
    for name in ('a.xyz', 'a'):
        with pytest.raises(InputError, match=f'{name}: OpenCV cannot write 64 x 48 pixels as'):
            result.save(tmp_path / name)


def test_crop_by_hand(result):
    image = result.image
    first, second = result.crop()
    assert (first == image[5:40, 10:31]).all() and (second == image[8:28, 34:44]).all()
    _, larger = result.crop(margin=0.5)  # half of 10 and 20 pixels on each side
    assert larger.shape == (28 + 10, 20, 3)  # ends at the upper border of the image
    result['bboxes'][0] = [-9, -9, -1, -1]
    assert result.crop()[0].shape == (0, 0, 3)
    second[:] = 0
    assert image.all(axis=(0, 1))[0]


def test_notebook_shows_the_drawing(result, monkeypatch):
    png = np.frombuffer(result._repr_png_(), np.uint8)
    assert (cv2.imdecode(png, cv2.IMREAD_COLOR) == result.plot()).all()
    shown = []
    ipython = SimpleNamespace(
        get_ipython=lambda: True, display=SimpleNamespace(display=shown.append, Image=bytes)
    )
    monkeypatch.setitem(sys.modules, 'IPython', ipython)
    result.show(score_thr=0.5)
    decoded = cv2.imdecode(np.frombuffer(shown[0], np.uint8), cv2.IMREAD_COLOR)
    assert (decoded == result.plot(0.5)).all() and (decoded != result.plot()).any()


def test_show_without_a_screen(result, monkeypatch):
    monkeypatch.delenv('DISPLAY', raising=False)
    monkeypatch.delenv('WAYLAND_DISPLAY', raising=False)
    with pytest.raises(NoWindowError, match='this machine has no screen'):
        result.show()


# Exports


def test_json_by_hand(result):
    result['track_ids'] = np.array([3, -1])
    result['keypoints'][1, 1] = np.nan  # a keypoint that the category does not have
    content = json.loads(result.to_json())
    assert content['source'] == 'array-000000' and (content['height'], content['width']) == (
        48,
        64,
    )
    assert content['names'] == {'0': 'person'} and content['keypoint_names'] == ['head', 'foot']
    first, second = content['instances']
    assert first['bbox'] == BOXES[0] and first['name'] == 'person' and first['label'] == 0
    assert first['score'] == pytest.approx(0.8) and first['track_id'] == 3
    np.testing.assert_allclose(first['keypoints'], [[20.5, 10.5, 0.9], [22.5, 30.5, 0.8]])
    assert second['keypoints'][1] is None and second['track_id'] == -1
    assert (rle.decode(second['mask']) == MASKS[1]).all()


def test_data_frame_by_hand(result):
    result['track_ids'] = np.array([3, -1])
    frame = result.to_df()
    assert list(frame.columns) == [
        *('source', 'label', 'name', 'score', 'x1', 'y1', 'x2', 'y2', 'mask_area', 'track_id'),
        *('head_x', 'head_y', 'head_score', 'foot_x', 'foot_y', 'foot_score'),
    ]
    assert frame.mask_area.tolist() == [700, 168] and frame.track_id.tolist() == [3, -1]
    assert frame[['x1', 'y1', 'x2', 'y2']].to_numpy().tolist() == BOXES
    assert frame.foot_y.tolist() == [30.5, 27.5]
    assert len(result[[]].to_df()) == 0


def test_pycocotools_reads_the_coco_export(result, tmp_path):
    path = tmp_path / 'a.json'
    path.write_text(json.dumps(result.to_coco(image_id=5)))
    coco = COCO(str(path))
    assert coco.imgs[5]['file_name'] == 'array-000000.png' and len(coco.anns) == 2
    assert (coco.annToMask(coco.anns[2]) == MASKS[1]).all()
    assert coco.anns[1]['bbox'] == [10, 5, 20.5, 35]
    np.testing.assert_allclose(coco.anns[1]['keypoints'], [20, 10, 0.9, 22, 30, 0.8])
    assert coco.cats[1]['keypoints'] == ['head', 'foot'] and coco.cats[1]['skeleton'] == [[1, 2]]
    assert len(coco.loadRes(result.to_coco(5)['annotations']).anns) == 2


def test_yolo_by_hand(result):
    lines = result.to_yolo().splitlines()
    # Box (10, 5, 30.5, 40) of 64 x 48 pixels; keypoints (20, 10) and (22, 30) as COCO counts.
    assert [float(text) for text in lines[0].split()] == pytest.approx(
        [0, 20.25 / 64, 22.5 / 48, 20.5 / 64, 35 / 48, 20 / 64, 10 / 48, 2, 22 / 64, 30 / 48, 2],
        abs=1e-8,
    )
    assert lines[1].split()[-3:] == ['0', '0', '0']  # a score of 0.1
    assert result.to_yolo(kpt_thr=0.05).split()[-1] == '2'
    (first, second) = result.to_yolo('segment', save_conf=True).splitlines()
    corners = np.reshape([float(text) for text in first.split()[1:-1]], (-1, 2)) * [64, 48]
    assert {tuple(each) for each in corners.round(5)} == {(10, 5), (30, 5), (30, 40), (10, 40)}
    assert float(first.split()[-1]) == pytest.approx(0.8)
    assert len(second.split()) == 2 + 8  # the hole is filled
    assert len(result.to_yolo('detect').splitlines()[0].split()) == 5
    assert result[[]].to_yolo() == ''


def test_supervision_reads_the_yolo_export(result, tmp_path):
    sv = pytest.importorskip('supervision')
    for folder in ('images', 'labels'):
        (tmp_path / folder).mkdir()
    cv2.imwrite(str(tmp_path / 'images/a.png'), result.image)
    (tmp_path / 'labels/a.txt').write_text(result.to_yolo('segment'))
    (tmp_path / 'data.yaml').write_text('names: [person]\n')
    data = sv.DetectionDataset.from_yolo(
        *(str(tmp_path / name) for name in ('images', 'labels', 'data.yaml')), force_masks=True
    )
    ((_, _, found),) = list(data)
    np.testing.assert_allclose(found.xyxy, [[10, 5, 30, 40], BOXES[1]], atol=1e-3)
    # supervision draws the border pixels of a polygon, too.
    assert (found.mask[0] >= MASKS[0]).all() and found.mask[0].sum() <= 36 * 21


def test_supervision_objects(result):
    sv = pytest.importorskip('supervision')
    result['track_ids'] = np.array([3, -1])
    found = result.to_supervision()
    assert isinstance(found, sv.Detections) and len(found[found.confidence > 0.5]) == 1
    assert found.xyxy.tolist() == BOXES and (found.mask == MASKS).all()
    assert found.class_id.tolist() == [0, 0] and found.tracker_id.tolist() == [3, -1]
    assert found['class_name'].tolist() == ['person', 'person']
    drawn = sv.MaskAnnotator().annotate(result.image.copy(), found)
    assert (drawn != result.image).any()
    points = result.to_supervision('keypoints')
    assert isinstance(points, sv.KeyPoints) and points.xy.tolist() == KEYPOINTS
    np.testing.assert_allclose(points.keypoint_confidence, KEYPOINT_SCORES)
    assert points.visible.tolist() == [[True, True], [True, False]]
    assert len(result[[]].to_supervision()) == 0
    with pytest.raises(FormatError, match="kind: expected 'detections' or 'keypoints'"):
        result.to_supervision('boxes')


def test_fiftyone_labels(result):
    fo = pytest.importorskip('fiftyone', reason='FiftyOne brings a database server')
    result['track_ids'] = np.array([3, -1])
    labels = result.to_fiftyone()
    sample = fo.Sample('a.png', **labels)
    first, second = sample['detections'].detections
    np.testing.assert_allclose(first.bounding_box, [10 / 64, 5 / 48, 20.5 / 64, 35 / 48])
    assert first.label == 'person' and first.index == 3 and second.index is None
    assert (second.mask == MASKS[1, 8:28, 34:44]).all()
    points = sample['keypoints'].keypoints[0]
    np.testing.assert_allclose(points.points, np.array(KEYPOINTS[0]) / [64, 48])
    np.testing.assert_allclose(points.confidence, KEYPOINT_SCORES[0])
    assert 'keypoints' not in make_result(leave_out=('keypoints', 'keypoint_scores')).to_fiftyone()


def test_labelme_by_hand(result):
    content = result.to_labelme()
    assert content['imagePath'] == 'array-000000.png' and content['imageData'] is None
    shapes = [(s['group_id'], s['shape_type'], s['label']) for s in content['shapes']]
    assert shapes == [
        *((1, kind, 'person') for kind in ('rectangle', 'polygon')),
        *((1, 'point', name) for name in ('head', 'foot')),
        # The box is that of the mask, the mask has a hole, and one keypoint a low score.
        *((2, 'mask', 'person'), (2, 'point', 'head')),
    ]
    rectangle, polygon, head = content['shapes'][:3]
    assert rectangle['points'] == [[10, 5], [30.5, 40]] and head['points'] == [[20.5, 10.5]]
    assert sorted(polygon['points']) == [[10, 5], [10, 40], [30, 5], [30, 40]]
    json.dumps(content, allow_nan=False)


def test_exports_without_a_head_say_so(without_heads):
    with pytest.raises(FormatError, match='segment: expected a result with masks, found one wi'):
        without_heads.to_yolo('segment')
    with pytest.raises(FormatError, match='expected a result with keypoints.*no keypoints; use'):
        without_heads.to_yolo('pose')
    with pytest.raises(FormatError, match='sv.KeyPoints: expected a result with keypoints'):
        without_heads.to_supervision('keypoints')
    with pytest.raises(FormatError, match="task: expected one of detect.*found 'poses'"):
        without_heads.to_yolo('poses')
    assert len(without_heads.to_yolo().splitlines()[0].split()) == 5
    assert [s['shape_type'] for s in without_heads.to_labelme()['shapes']] == ['rectangle'] * 2
    assert '<mask' not in without_heads.to_cvat()
    assert len(without_heads.to_label_studio()['predictions'][0]['result']) == 2
    assert without_heads.to_df().shape == (2, 8)


def test_missing_package_is_named(result, monkeypatch):
    for package, method in (('pandas', 'to_df'), ('supervision', 'to_supervision')):
        monkeypatch.setitem(sys.modules, package, None)
        with pytest.raises(FormatError, match=rf'{package} is needed for {method}\(\).*pip inst'):
            getattr(result, method)()
