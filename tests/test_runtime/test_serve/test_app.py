"""Endpoints of the server: responses, refusals, files that it must not trust."""

import base64
import itertools
import json
import subprocess
import sys
import tempfile
import threading

import cv2
import numpy as np
import pytest
from fastapi.testclient import TestClient
from pycocotools import mask as mask_utils

from multitask_refine.utils.errors import ConfigError
from multitask_runtime import InputError
from multitask_runtime.io.video import VideoReader
from multitask_runtime.schemas import ImagePredictions, Prediction, ServerInfo
from multitask_runtime.serve import Limits, ServedModel, create_app
from tests.test_runtime.onnx_files import BOXES, KEYPOINTS
from tests.test_runtime.test_serve.conftest import IMAGE, LIMITS, encode, png_of, post, refusal


def test_predictions_by_hand(client, served):
    response = post(client, files=[('a.png', encode())], visualize=True)
    assert response.status_code == 200
    content = response.json()
    ImagePredictions.model_validate(content)
    assert content['model'] == 'hand-made'
    (image,) = content['images']
    assert (image['source'], image['height'], image['width']) == ('a.png', 48, 64)
    assert image['names'] == {'0': 'person'} and image['keypoint_names'] == ['head', 'foot']
    instances = image['instances']
    np.testing.assert_allclose([each['score'] for each in instances], [0.8, 0.4], rtol=1e-6)
    np.testing.assert_allclose([each['bbox'] for each in instances], np.array(BOXES) / 2)
    points = np.array([each['keypoints'] for each in instances])  # (2, 2, 3)
    np.testing.assert_allclose(points[..., :2], np.array(KEYPOINTS) / 2)
    np.testing.assert_allclose(points[..., 2], [[0.9, 0.8], [0.7, 0.1]], rtol=1e-6)
    # The left half of the first box, x from 10 to 20 and y from 5 to 40, within half a pixel.
    mask = mask_utils.decode(instances[0]['mask'])
    assert mask.shape == (48, 64) and mask[6:39, 11:19].all() and not mask[:, 21:].any()
    assert 'track_id' not in instances[0] and 'frame' not in image
    # The picture is what the inferencer draws, but for JPEG's losses.
    head, picture = image['visualization'].split(',')
    assert head == 'data:image/jpeg;base64'
    picture = cv2.imdecode(np.frombuffer(base64.b64decode(picture), np.uint8), cv2.IMREAD_COLOR)
    (result,) = served.inferencer(IMAGE)
    expected = served.inferencer.visualize(IMAGE, result).astype(int)
    assert abs(picture - expected).mean() < abs(IMAGE - expected).mean() / 2


def test_batch_in_its_order_and_thresholds(client):
    dark = encode((IMAGE * 0.5).astype(np.uint8))
    files = [('bright.png', encode()), ('dark.png', dark)]
    images = post(client, files=files, score_thr=0.35).json()['images']
    assert [image['source'] for image in images] == ['bright.png', 'dark.png']
    assert [len(image['instances']) for image in images] == [2, 1]
    assert all('visualization' not in image for image in images)


def test_batches_of_the_model_do_not_change_predictions(served, client):
    files = [(f'{i}.png', encode((IMAGE * (1 - 0.1 * i)).astype(np.uint8))) for i in range(3)]
    with TestClient(create_app([served], LIMITS, batch_size=2)) as other:
        answers = [post(each, files=files).json()['images'] for each in (client, other)]
    for image in itertools.chain(*answers):
        assert set(image.pop('speed')) == {'preprocess', 'inference', 'postprocess'}
    assert answers[0] == answers[1]


def test_model_is_chosen_by_name(served):
    class Silent:
        dataset_meta = served.inferencer.dataset_meta
        read_image = served.inferencer.read_image

        def __call__(self, images, **_):
            (result,) = served.inferencer(images[0])
            result['scores'] = np.zeros(2)
            return [result]

    models = [served, ServedModel('silent', Silent())]
    with TestClient(create_app(models)) as client:
        info = ServerInfo.model_validate(client.get('/v1/models').json())
        assert [model.name for model in info.models] == ['hand-made', 'silent']
        file = ('a.png', encode())
        assert len(post(client, files=[file]).json()['images'][0]['instances']) == 2
        answer = post(client, files=[file], model='silent').json()
        assert answer['model'] == 'silent' and not answer['images'][0]['instances']
        assert refusal(post(client, files=[file], model='other')) == (
            422,
            "model: expected one of hand-made, silent, found 'other'.",
        )
    with pytest.raises(ValueError, match='each with its own name'):
        create_app([served, served])


HEIC = b'\0\0\0\x18ftypheic\0\0\0\0mif1heic'
PLAYLIST = b'#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nfile:///etc/passwd\n#EXT-X-ENDLIST\n'


@pytest.mark.parametrize(
    'name, content, status, sentence',
    [
        ('a.png', b'', 422, 'a.png: expected an image, found an empty file'),
        ('a.png', encode()[:-20], 422, 'bytes that are not a complete one'),
        ('a.jpg', encode(suffix='.jpg')[:200], 422, 'a.jpg: expected an image, found'),
        ('a.png', encode()[:20], 422, 'found a damaged one'),
        ('a.txt', b'words ' * 9, 415, 'found 54 bytes of another kind'),
        ('a.png', b'PK\x03\x04' + bytes(99), 415, 'found 103 bytes of another kind'),
        ('a.svg', b'<svg xmlns="http://www.w3.org/2000/svg"/>', 415, 'bytes of another kind'),
        ('a.eps', b'%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n', 415, 'another kind'),
        ('a.heic', HEIC, 415, 'found HEIC. Convert it to JPEG'),
        ('a.m3u8', PLAYLIST, 415, 'bytes of another kind'),
        ('a.png', png_of(8000, 8000), 413, 'at most 1000000 pixels'),
        ('a.png', png_of(60000, 60000), 413, 'at most 1000000 pixels'),
        # 8000 x 1 pixels are few; the model would see 8000 x 160.
        ('a.png', png_of(8000, 1), 413, 'found 8000 x 1'),
    ],
)
def test_refused_images(client, name, content, status, sentence):
    found, detail = refusal(post(client, files=[('ok.png', encode()), (name, content)]))
    assert found == status and detail.startswith(f'{name}: ') and sentence in detail
    assert len(detail) < 250 and '/' not in detail and 'upload-' not in detail


def test_video_frames_are_tracked_and_timed(client, film):
    response = post(client, '/v1/predict-video', [('film.mp4', film)], frame_step=3)
    assert response.headers['content-type'].startswith('application/x-ndjson')
    *frames, end = map(json.loads, response.text.splitlines())
    assert end == dict(model='hand-made', frames=2)
    assert [frame['frame'] for frame in frames] == [0, 3]
    assert [frame['time'] for frame in frames] == pytest.approx([0, 0.3])
    for frame in frames:
        Prediction.model_validate(frame)
        assert frame['source'] == 'film.mp4'
        assert [each['track_id'] for each in frame['instances']] == [1, 2]


def test_refused_videos(client, film, tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, 'tempdir', str(tmp_path))
    for content, status, sentence in (
        (PLAYLIST, 415, 'expected a video (MP4 or MOV, WebM or Matroska, AVI)'),
        (encode(), 415, 'expected a video'),
        (HEIC, 415, 'found HEIC'),
        (film[:40], 422, 'of which OpenCV reads no frame'),
        (b'\x1aE\xdf\xa3' + bytes(99), 422, 'of which OpenCV reads no frame'),
    ):
        found, detail = refusal(post(client, '/v1/predict-video', [('v', content)]))
        assert found == status and sentence in detail and str(tmp_path) not in detail
    assert not list(tmp_path.iterdir())


def test_long_video_is_refused_or_ends_with_a_sentence(served, film, monkeypatch):
    limits = LIMITS.model_copy(update=dict(max_frames=2))
    with TestClient(create_app([served], limits)) as client:
        files = [('film.mp4', film)]
        status, detail = refusal(post(client, '/v1/predict-video', files))
        assert status == 413 and 'at most 2 frames' in detail
        assert post(client, '/v1/predict-video', files, frame_step=2).text.count('\n') == 3
        # A file that does not say how long it is.
        monkeypatch.setattr(VideoReader, 'count', property(lambda _: None, lambda *_: None), False)
        *frames, end = post(client, '/v1/predict-video', files).text.splitlines()
        assert len(frames) == 2 and 'at most 2 frames' in json.loads(end)['detail']


def test_large_frames_of_a_video(served, film):
    limits = LIMITS.model_copy(update=dict(max_pixels=64 * 48 - 1))
    with TestClient(create_app([served], limits)) as client:
        status, detail = refusal(post(client, '/v1/predict-video', [('film.mp4', film)]))
    assert status == 413 and 'found 64 x 48' in detail


def test_names_of_uploads_are_never_paths(client, tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, 'tempdir', str(tmp_path))
    for name, shown in (
        ('../../etc/passwd', 'passwd'),
        ('..\\..\\boot.ini', 'boot.ini'),
        ('/etc/x<script>.png', 'x<script>.png'),
        ('a\u202egnp.exe', 'a?gnp.exe'),
        ('n' * 500, 'n' * 100),
        ('..', '..'),
    ):
        (image,) = post(client, files=[(name, encode())]).json()['images']
        assert image['source'] == shown
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    'fields, sentence',
    [
        (dict(score_thr='high'), 'score_thr: expected a valid number'),
        (dict(score_thr=2), 'score_thr: expected less than or equal to 1'),
        (dict(visualize='perhaps'), 'visualize: expected a valid boolean'),
    ],
)
def test_refused_fields(client, fields, sentence):
    status, detail = refusal(post(client, files=[('a.png', encode())], **fields))
    assert status == 422 and detail.startswith(sentence) and detail.endswith('.')


@pytest.mark.parametrize(
    'path, name, known',
    [
        ('/v1/predict', 'scorethr', 'files, kpt_thr, model, score_thr, visualize'),
        (
            '/v1/predict-video',
            'framestep',
            'file, frame_step, kpt_thr, model, score_thr, visualize',
        ),
        ('/v1/offsets', 'score_thr', 'file, instance, keypoint, model'),
    ],
)
def test_unknown_fields_are_refused(client, path, name, known):
    response = post(client, path, [('a.png', encode())], **{name: '0.5'})
    sentence = f"{name}: expected one of the fields {known}, found '{name}'."
    assert refusal(response) == (422, sentence)


def test_misspelled_field_of_a_file_is_named(client):
    response = client.post('/v1/predict', files=[('image', ('a.png', encode()))])
    status, detail = refusal(response)
    assert status == 422 and detail.startswith('image: expected one of the fields files, ')


def test_empty_fields_count_as_left_out(client):
    empty = dict(kpt_thr='', score_thr='', model='')
    assert post(client, files=[('a.png', encode())], **empty).status_code == 200


def test_requests_that_are_no_forms(client):
    assert refusal(client.post('/v1/predict')) == (422, 'files: expected a value, found nothing.')
    status, detail = refusal(client.post('/v1/predict', json=dict(files='a')))
    assert status == 422 and detail.startswith('files: expected')
    status, detail = refusal(client.post('/v1/predict', files=dict(files=(None, 'a.png'))))
    assert (status, detail) == (
        422,
        "files[0]: expected a file, as by curl -F files=@PATH, found 'a.png'.",
    )
    broken = {'Content-Type': 'multipart/form-data'}
    status, detail = refusal(client.post('/v1/predict', content=b'x', headers=broken))
    assert status == 400 and 'boundary' in detail
    assert client.get('/v1/predict').status_code == 405


def test_too_many_or_too_large_uploads(client):
    file = ('a.png', encode())
    status, detail = refusal(post(client, files=[file] * 4))
    assert status == 413 and 'at most 3 images in a request, found 4' in detail
    status, detail = refusal(post(client, files=[('a.png', bytes(2 << 20))]))
    assert status == 413 and 'at most 1 MiB' in detail

    def endless():  # without Content-Length
        yield b'--x\r\nContent-Disposition: form-data; name="files"; filename="a"\r\n\r\n'
        for _ in range(1000):
            yield bytes(1 << 16)

    form = {'Content-Type': 'multipart/form-data; boundary=x'}
    status, detail = refusal(client.post('/v1/predict', content=endless(), headers=form))
    assert status == 413 and 'at most 1 MiB' in detail
    packed = {**form, 'Content-Encoding': 'gzip'}
    assert client.post('/v1/predict', content=b'\x1f\x8b\x08', headers=packed).status_code == 400


def test_offsets(served, client):
    file = ('a.png', encode())
    assert refusal(post(client, '/v1/offsets', [file])) == (
        422,
        'hand-made: an exported file does not give its offsets. Serve the config and the '
        'checkpoint that it was exported from.',
    )
    called = []

    def draw(image, instance, keypoint):
        called.append((image.shape, instance, keypoint))
        if instance > 1:
            raise ConfigError('instance: expected 1 to 1')
        return b'a PNG'

    model = ServedModel('refined', served.inferencer, draw)
    with TestClient(create_app([model])) as other:
        assert other.get('/v1/models').json()['models'][0]['offsets'] is None
        response = post(other, '/v1/offsets', [file], keypoint='foot')
        assert (response.content, response.headers['content-type']) == (b'a PNG', 'image/png')
        status, detail = refusal(post(other, '/v1/offsets', [file], instance=2))
        assert (status, detail) == (422, 'instance: expected 1 to 1')
    assert called == [((48, 64, 3), 1, 'foot'), ((48, 64, 3), 2, None)]


class Inferencer:
    """Stand-in that waits for an event and then raises, or gives the results of another."""

    def __init__(self, other, error=None):
        self.dataset_meta, self.read_image = other.dataset_meta, other.read_image
        self.other, self.error = other, error
        self.started, self.go_on = threading.Semaphore(0), threading.Event()

    def __call__(self, images, **options):
        self.started.release()
        assert self.go_on.wait(30)
        if self.error:
            raise self.error
        return self.other(images, **options)


@pytest.mark.parametrize('error, status', [(RuntimeError('secret'), 500), (InputError('no'), 422)])
def test_failures_of_the_model(served, error, status):
    inferencer = Inferencer(served.inferencer, error)
    inferencer.go_on.set()
    app = create_app([ServedModel('failing', inferencer)])
    with TestClient(app, raise_server_exceptions=False) as client:
        found, detail = refusal(post(client, files=[('a.png', encode())]))
        assert found == status and 'secret' not in detail
        inferencer.error = None  # the server goes on
        assert post(client, files=[('a.png', encode())]).status_code == 200


def _post_in_threads(client, number):
    responses = []
    threads = [
        threading.Thread(target=lambda: responses.append(post(client, files=[('a', encode())])))
        for _ in range(number)
    ]
    for thread in threads:
        thread.start()
    return threads, responses


@pytest.mark.parametrize(
    'limits, status', [(dict(max_requests=2), 503), (dict(max_requests_per_client=2), 429)]
)
def test_requests_beyond_the_limits_are_told_when_to_come_back(served, limits, status):
    inferencer = Inferencer(served.inferencer)
    with TestClient(create_app([ServedModel('slow', inferencer)], Limits(**limits))) as client:
        threads, responses = _post_in_threads(client, 2)
        assert inferencer.started.acquire(timeout=30)
        while True:  # until both are inside
            refused = post(client, files=[('a.png', b'')])
            if refused.status_code == status:
                break
            assert refused.status_code == 422
        assert int(refused.headers['Retry-After']) >= 1
        assert refusal(refused)[1].endswith(f'Try again in {refused.headers["Retry-After"]} s.')
        assert client.get('/healthz').json() == dict(status='ok')
        inferencer.go_on.set()
        for thread in threads:
            thread.join()
        assert [response.status_code for response in responses] == [200, 200]
        assert post(client, files=[('a.png', encode())]).status_code == 200


def test_request_past_its_deadline(served):
    inferencer = Inferencer(served.inferencer)
    limits = Limits(timeout=0.5)
    with TestClient(create_app([ServedModel('slow', inferencer)], limits)) as client:
        response = post(client, files=[('a.png', encode())])
        status, detail = refusal(response)
        assert status == 503 and 'within 0.5 s' in detail and 'Retry-After' in response.headers
        inferencer.go_on.set()
        assert post(client, files=[('a.png', encode())]).status_code == 200


def test_pages_of_other_sites_are_refused(client):
    files = [('a.png', encode())]
    for site, status in (('cross-site', 403), ('same-site', 403), ('same-origin', 200)):
        found = post(client, files=files, headers={'Sec-Fetch-Site': site})
        assert found.status_code == status
        assert 'access-control-allow-origin' not in found.headers


def test_openapi_describes_the_endpoints(client):
    schema = client.get('/openapi.json').json()
    assert set(schema['paths']) == {
        '/healthz', '/v1/models', '/v1/predict', '/v1/predict-video', '/v1/offsets',
    }  # fmt: skip
    responses = schema['paths']['/v1/predict']['post']['responses']
    assert {'200', '400', '408', '413', '415', '422', '429', '503'} == set(responses)
    reference = responses['200']['content']['application/json']['schema']['$ref']
    assert reference.endswith('/ImagePredictions')
    for status in ('413', '422'):
        reference = responses[status]['content']['application/json']['schema']['$ref']
        assert reference.endswith('/ErrorMessage')
    body = schema['paths']['/v1/predict']['post']['requestBody']['content']
    form = schema['components']['schemas'][body['multipart/form-data']['schema']['$ref'][21:]]
    assert form['required'] == ['files'] and form['additionalProperties'] is False
    video = schema['paths']['/v1/predict-video']['post']['responses']['200']['content']
    assert list(video) == ['application/x-ndjson']
    instance = schema['components']['schemas']['Instance']['properties']
    assert {'label', 'score', 'bbox', 'mask', 'keypoints', 'track_id'} <= set(instance)


@pytest.mark.slow
@pytest.mark.parametrize('package', ['fastapi', 'uvicorn', 'python_multipart', 'PIL'])
def test_missing_packages_are_named(package):
    code = f'import sys; sys.modules[{package!r}] = None; import multitask_runtime.serve'
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True)
    assert 'MissingPackageError' in done.stderr.splitlines()[-1]
    assert (
        f"{package} cannot be imported. Install them: pip install 'multitask-refine[serve]'"
        in (done.stderr)
    )


@pytest.mark.slow
def test_no_pytorch_is_imported():
    code = 'import multitask_runtime.serve, sys; sys.exit("torch" in sys.modules)'
    assert subprocess.run([sys.executable, '-c', code]).returncode == 0
