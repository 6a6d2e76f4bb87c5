"""Videos and cameras: frame by frame, in bounded memory."""

import json
import threading
import time
import weakref

import cv2
import numpy as np
import pytest

from multitask_refine.apis import InputError, VideoReader, VideoWriter
from multitask_runtime import OnnxInferencer

RATE, FRAMES, WIDTH, HEIGHT = 12.5, 7, 64, 48


def _scene(index):
    """A bright block that moves to the right over a dark ground."""
    image = np.full((HEIGHT, WIDTH, 3), 40, np.uint8)
    image[10:40, 5 * index : 5 * index + 16] = (30, 160, 220)
    return image


@pytest.fixture
def video(tmp_path):
    path = tmp_path / 'films' / 'block.mp4'
    writer = VideoWriter(path, RATE)
    for index in range(FRAMES):
        writer.write(_scene(index))
    writer.close()
    return path


def test_written_video_has_rate_size_and_frames(video):
    reader = VideoReader(str(video))
    frames = list(reader)
    assert (reader.rate, reader.count, len(frames)) == (RATE, FRAMES, FRAMES)
    for index, frame in enumerate(frames):
        assert frame.shape == (HEIGHT, WIDTH, 3)
        assert abs(frame.astype(int) - _scene(index)).mean() < 10


@pytest.mark.parametrize('odd', [(47, 64), (48, 63), (47, 63)])
def test_odd_sizes_grow_by_one_pixel(odd, noise, tmp_path):
    writer = VideoWriter(tmp_path / 'odd.mp4', 10)
    writer.write(noise(*odd))
    writer.close()
    (frame,) = VideoReader(str(tmp_path / 'odd.mp4'))
    assert frame.shape == (48, 64, 3)


def test_unwritable_video(tmp_path):
    (tmp_path / 'taken.mp4').mkdir()
    writer = VideoWriter(tmp_path / 'taken.mp4', 10)
    with pytest.raises(
        OSError,
        match='taken.mp4: OpenCV cannot write a video '
        r'here \(64 x 48 pixels, 10 frames',
    ):
        writer.write(_scene(0))


def test_visualized_video_resembles_its_source(inferencer, video, tmp_path, capsys):
    results = inferencer(video, out_dir=tmp_path / 'out', score_thr=0.0, batch_size=3)
    assert [result['frame'] for result in results] == list(range(FRAMES))
    assert {result['source'] for result in results} == {str(video)}
    reader = VideoReader(str(tmp_path / 'out/block.mp4'))
    frames = list(reader)
    assert (reader.rate, len(frames)) == (RATE, FRAMES)
    assert frames[0].shape == (HEIGHT, WIDTH, 3)
    images = list(VideoReader(str(video)))
    for image, result, frame in zip(images, results, frames, strict=True):
        drawn = inferencer.visualize(image, result, score_thr=0.0)
        loss = abs(drawn.astype(int) - frame).mean()  # by the compression
        assert loss < abs(image.astype(int) - frame).mean() / 2
    said = capsys.readouterr().err
    assert '7/7 ' in said and 'inputs done: 1 of 1' in said


def test_frame_and_image_give_the_same_result(inferencer, video):
    results = inferencer(video)
    image = list(VideoReader(str(video)))[3]
    (expected,) = inferencer(image)
    for name in ('bboxes', 'scores', 'keypoints'):
        np.testing.assert_array_equal(results[3][name], expected[name])
    assert results[3]['masks'] == expected['masks']


def test_predictions_have_the_frame_index(inferencer, video, tmp_path):
    inferencer(video, out_dir=tmp_path / 'out', track=True)
    content = json.loads((tmp_path / 'out/predictions.json').read_text())
    assert [(image['id'], image['file_name'], image['frame']) for image in content['images']] == [
        (i, 'block.mp4', i) for i in range(FRAMES)
    ]
    ids = {entry['image_id'] for entry in content['annotations']}
    assert ids == set(range(FRAMES))
    assert all(isinstance(entry['track_id'], int) for entry in content['annotations'])


def test_videos_of_the_same_name_and_images_in_one_call(inferencer, video, photos, tmp_path):
    other = tmp_path / 'more' / 'block.avi'
    other.parent.mkdir()
    other.write_bytes(video.read_bytes())
    results = inferencer([video, photos[0], other], out_dir=tmp_path / 'out', batch_size=4)
    assert len(results) == 2 * FRAMES + 1
    written = sorted((tmp_path / 'out').rglob('block*'))
    assert [path.name for path in written] == ['block.mp4', 'block.avi.mp4']
    for path in written:
        assert len(list(VideoReader(str(path)))) == FRAMES


# ---- bounded memory


class _Capture:
    """Stands in for ``cv2.VideoCapture``; knows which frames are alive."""

    def __init__(self, count, says=0):
        self.count, self.says = count, says
        self.read_so_far = 0
        self.alive = weakref.WeakSet()
        self.is_open = True

    def isOpened(self):
        return True

    def get(self, name):
        return {cv2.CAP_PROP_FRAME_COUNT: self.says}.get(name, 0)

    def read(self):
        if self.read_so_far == self.count:
            return False, None
        self.read_so_far += 1
        frame = _scene(self.read_so_far % 8).view(_Frame)
        self.alive.add(frame)
        return True, frame

    def release(self):
        self.is_open = False


class _Frame(np.ndarray):
    """An array that can be a member of a set."""

    __hash__ = object.__hash__

    def __eq__(self, other):
        return self is other


@pytest.fixture
def capture(monkeypatch):
    """Replace OpenCV's reader by a stand-in."""

    def use(*args, **kwargs):
        fake = _Capture(*args, **kwargs)
        monkeypatch.setattr(cv2, 'VideoCapture', lambda _: fake)
        return fake

    return use


@pytest.mark.parametrize('batch_size', [1, 3])
def test_few_frames_are_kept_and_read_ahead(inferencer, capture, video, tmp_path, batch_size):
    """Two are read ahead, and a result waits for the next one, maybe the first of a batch."""
    fake = capture(20)
    results = inferencer.stream(video, batch_size=batch_size, out_dir=tmp_path, track=True)
    assert fake.read_so_far == 0
    for number, _ in enumerate(results, 1):
        assert fake.read_so_far <= number + batch_size + 2
        assert len(fake.alive) <= 2 * batch_size + 2
    assert number == 20 and not fake.is_open


def test_camera_runs_until_it_is_stopped(inferencer, capture, tmp_path):
    fake = capture(count=-1)  # never ends
    results = inferencer.stream(0, out_dir=tmp_path)
    first = [next(results) for _ in range(3)]
    results.close()
    assert not fake.is_open
    assert [each['source'] for each in first] == ['camera-0'] * 3
    content = json.loads((tmp_path / 'predictions.json').read_text())
    assert len(content['images']) == 3
    assert (tmp_path / 'camera-0.mp4').stat().st_size > 0


def test_video_shorter_than_its_header_says(inferencer, capture, video, capsys):
    capture(count=4, says=9)
    assert len(inferencer(video)) == 4
    assert 'says it has 9 frames; 4 could be read' in capsys.readouterr().err


# ---- what cannot be read


def test_broken_video_among_others(inferencer, video, tmp_path, capsys):
    broken = tmp_path / 'broken.mp4'
    broken.write_bytes(b'no video')
    assert len(inferencer([broken, video, 'nothing.mp4'])) == FRAMES
    said = capsys.readouterr().err
    assert 'inputs done: 1 of 3' in said and 'skipped: 2' in said
    assert 'broken.mp4: expected a video, found 8 bytes' in said
    assert 'nothing.mp4: there is no such file' in said


def test_broken_video_alone(inferencer, tmp_path):
    broken = tmp_path / 'broken.mp4'
    broken.write_bytes(b'no video')
    with pytest.raises(InputError, match='broken.mp4: expected a video'):
        inferencer(broken)


def test_missing_camera(inferencer, monkeypatch):
    nothing = cv2.VideoCapture()
    monkeypatch.setattr(cv2, 'VideoCapture', lambda _: nothing)
    with pytest.raises(InputError, match='camera 7: expected a camera'):
        inferencer(7)


def test_each_video_has_its_own_tracks(inferencer, video, tmp_path):
    other = tmp_path / 'again.mp4'
    other.write_bytes(video.read_bytes())
    results = inferencer([video, other], track=True, score_thr=0.0)
    first, second = results[:FRAMES], results[FRAMES:]
    for one, again in zip(first, second, strict=True):
        assert one['track_ids'].tolist() == again['track_ids'].tolist()
    assert sorted(first[0]['track_ids']) == [1, 2, 3, 4]


@pytest.fixture
def found(inferencer, photos):
    """An image and its four people."""
    image = cv2.imread(photos[0])
    return image, inferencer(image)[0]


def test_track_ids_are_drawn(inferencer, found):
    image, result = found

    def draw(*ids):
        numbered = dict(result, track_ids=np.array(ids))
        return inferencer.visualize(image, numbered, score_thr=0.0)

    plain = inferencer.visualize(image, result, score_thr=0.0)
    assert (draw(-1, -1, -1, -1) == plain).all()
    assert (draw(1, 2, 3, 4) != plain).any()
    assert (draw(1, 2, 3, 4) != draw(5, 6, 7, 8)).any()


def test_colors_follow_the_track_ids(inferencer, found):
    """Not with the order of the scores, which changes between frames."""
    image, result = found
    result = dict(result, track_ids=np.array([1, 2, 3, 4]))
    people = ('bboxes', 'scores', 'masks', 'keypoints', 'keypoint_scores', 'track_ids')
    turned = dict(result, **{name: result[name][::-1] for name in people})
    images = [inferencer.visualize(image, each, score_thr=0.0) for each in (result, turned)]
    assert (images[0] == images[1]).all()


def test_colors_stay_when_a_person_leaves(inferencer):
    image = np.zeros((100, 200, 3), np.uint8)

    def draw(boxes, ids):
        people = dict(
            source='',
            height=100,
            width=200,
            scores=np.ones(len(boxes)),
            bboxes=np.array(boxes, float),
            track_ids=np.array(ids),
        )
        return inferencer.visualize(image, people, score_thr=0.0)[:, 100:]

    there, others = [110, 20, 180, 90], [[5, 5, 30, 90], [40, 5, 90, 90]]
    alone = draw([there], [3])
    assert (alone == draw([*others, there], [1, 2, 3])).all()
    assert (alone[90] != draw([there], [4])[90]).any()  # the box's line


# ---- decoding, drawing and encoding beside the network


def _fail_at(monkeypatch, owner, name, number, error):
    """Let the n-th call of a method fail; return the list of all calls."""
    method, calls = getattr(owner, name), []

    def call(*args, **kwargs):
        calls.append(args)
        if len(calls) == number:
            raise error
        return method(*args, **kwargs)

    monkeypatch.setattr(owner, name, call)
    return calls


def test_frames_before_an_interruption_are_written(model, video, tmp_path, monkeypatch):
    found = OnnxInferencer(model)
    _fail_at(monkeypatch, found, '_resize', 4, KeyboardInterrupt)
    frames = []
    with pytest.raises(KeyboardInterrupt):
        for result in found.stream(video, out_dir=tmp_path / 'out'):
            frames.append(result['frame'])
    assert frames == [0, 1, 2]
    assert len(list(VideoReader(str(tmp_path / 'out/block.mp4')))) == 3
    content = json.loads((tmp_path / 'out/predictions.json').read_text())
    assert [image['frame'] for image in content['images']] == [0, 1, 2]


def test_closing_writes_what_was_yielded_and_ends_the_threads(model, video, tmp_path):
    before = threading.active_count()
    results = OnnxInferencer(model).stream(video, out_dir=tmp_path / 'out')
    assert [next(results)['frame'] for _ in range(2)] == [0, 1]
    results.close()
    assert threading.active_count() == before
    assert len(list(VideoReader(str(tmp_path / 'out/block.mp4')))) == 2


def test_frame_that_cannot_be_drawn_is_reported(model, video, tmp_path, monkeypatch):
    found = OnnxInferencer(model)
    _fail_at(monkeypatch, found, 'visualize', 3, cv2.error('too narrow'))
    results = list(found.stream(video, out_dir=tmp_path / 'out'))
    assert [result['frame'] for result in results] == [0, 1, 3, 4, 5, 6]
    assert found.skipped == [f'{video}, frame 2: error: too narrow']


def test_error_of_the_encoder_is_reported(model, video, tmp_path, monkeypatch):
    found = OnnxInferencer(model)
    _fail_at(monkeypatch, VideoWriter, 'write', 2, MemoryError('no room'))
    results = list(found.stream(video, out_dir=tmp_path / 'out'))
    (reason,) = found.skipped
    assert 'MemoryError: no room' in reason
    assert len(results) == FRAMES - 1


def test_slow_encoder_loses_no_frame(model, video, tmp_path, monkeypatch):
    write = VideoWriter.write

    def slow_write(writer, frame):
        time.sleep(0.02)
        write(writer, frame)

    monkeypatch.setattr(VideoWriter, 'write', slow_write)
    assert len(OnnxInferencer(model)(video, out_dir=tmp_path / 'out')) == FRAMES
    assert len(list(VideoReader(str(tmp_path / 'out/block.mp4')))) == FRAMES


def test_camera_is_not_read_ahead(model, capture, tmp_path):
    """Its frames would be old, and a result would wait for the next frame."""
    fake = capture(count=-1)
    results = OnnxInferencer(model).stream(0, out_dir=tmp_path)
    for number in (1, 2, 3):
        assert next(results)['frame'] == number - 1
        assert fake.read_so_far == number
    results.close()
