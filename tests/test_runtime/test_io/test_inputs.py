"""Images, folders and videos as users have them."""

import glob
import io
import json
import os
import wave

import cv2
import numpy as np
import pytest
from PIL import Image

from demo import image_demo
from multitask_refine.apis.image_loader import ImageFile
from multitask_runtime import InputError, OnnxInferencer, VideoReader, VideoWriter
from multitask_runtime.io.inputs import collect
from multitask_runtime.io.outputs import OutputFolder
from multitask_runtime.io.resize import is_narrow, limit_aspect
from tests.test_runtime.test_onnx_inferencer import make_file


@pytest.fixture(scope='module')
def model(tmp_path_factory):
    """A network that finds the same two instances in every image."""
    return make_file(tmp_path_factory.mktemp('onnx') / 'model.onnx')


def save(path, height=48, width=64, value=120):
    """Write a grey image, in a format that the name says or as PNG."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = np.full((height, width, 3), value, np.uint8)
    suffix = path.suffix if path.suffix in ('.jpg', '.png') else '.png'
    path.write_bytes(cv2.imencode(suffix, image)[1])
    return str(path)


def names(inputs, **options):
    return [source.name for source in collect(inputs, **options).sources]


# ---- folders


def test_what_a_folder_leaves_out_is_counted(model, tmp_path, capsys):
    folder = tmp_path / 'photos'
    for name in ('a.JPG', 'b.jfif', 'c.Avif', 'd.gif'):
        save(folder / name)
    for name in (
        '1.heic',
        '2.HEIC',
        '3.heif',
        'film.mp4',
        'notes.txt',
        'README',
        '.hidden.jpg',
        '.thumbnails/a.jpg',
        '._a.jpg',
    ):
        save(folder / name)
    sources, (told,) = collect(folder)
    assert [source.name for source in sources] == ['a.JPG', 'b.jfif', 'c.Avif', 'd.gif']
    assert told == (
        f'ignored in {folder}: 2 .heic files, 1 .heif files, 1 .mp4 files, '
        '1 .txt files, 1 files without a suffix, 3 hidden files or folders. '
        'HEIC cannot be read here: convert it to JPEG, e.g. by '
        'heif-convert. Videos are given by their own path.'
    )
    assert len(OnnxInferencer(model)(folder)) == 4
    assert told in capsys.readouterr().err
    # Also where there is but one image, which has no progress.
    one = tmp_path / 'one'
    save(one / 'a.png')
    save(one / 'b.heic')
    OnnxInferencer(model, show_progress=False)(one)
    assert f'ignored in {one}: 1 .heic files' in capsys.readouterr().err


def test_linked_folders_are_gone_through_once(tmp_path):
    folder, elsewhere = tmp_path / 'photos', tmp_path / 'elsewhere'
    save(folder / 'a.png')
    save(folder / 'real/b.png')
    save(elsewhere / 'c.png')
    (folder / 'again').symlink_to(folder / 'real')
    (folder / 'linked').symlink_to(elsewhere)
    (folder / 'linked_too').symlink_to(elsewhere)
    (elsewhere / 'circle').symlink_to(elsewhere)
    (folder / 'real/circle').symlink_to(folder)
    (folder / 'up').symlink_to(tmp_path)
    (folder / 'linked.png').symlink_to(elsewhere / 'c.png')
    (folder / 'lost.png').symlink_to(tmp_path / 'nothing')
    expected = ['a.png', 'linked/c.png', 'linked.png', 'lost.png', 'real/b.png']
    assert names(folder) == expected
    told = '2 links to a folder that holds this one'
    assert told in collect(folder).ignored[0]
    # What "lost.png" is a link to does not exist, so a pattern has it not.
    expected.remove('lost.png')
    for pattern in ('**/*.png', '**', '*/../**/*.png'):
        assert set(expected) <= {
            os.path.normpath(os.path.relpath(source.value, folder))
            for source in collect(f'{folder}/{pattern}').sources
        }, pattern


def test_patterns_match_as_those_of_glob(tmp_path, monkeypatch):
    for name in ('a.png', 'x/b.png', 'x/y/c.png', 'x/.hidden/d.png', 'x/y/e.jpg'):
        save(tmp_path / name)
    monkeypatch.chdir(tmp_path)
    for pattern in (
        '*.png',
        '**/*.png',
        'x/**/*.png',
        '**/y/*',
        '**',
        'x/**',
        '**/x/**/*.png',
        '*/**/c.png',
        '[ax]*/*.png',
    ):
        expected = {
            os.path.normpath(path)
            for path in glob.glob(pattern, recursive=True)
            if os.path.isfile(path)
        }
        found = {os.path.normpath(source.value) for source in collect(pattern).sources}
        assert found == expected, pattern
    assert collect('x/*').ignored == ['ignored in x/*: 1 folders or others that are not files']


def test_unreadable_folders_and_earlier_results_are_counted(tmp_path, monkeypatch):
    save(tmp_path / 'a.png')
    save(tmp_path / 'closed/b.png')
    save(tmp_path / 'out/a.png')
    real = os.scandir

    def scandir(path):
        if str(path).endswith('closed'):
            raise PermissionError(13, 'Permission denied', path)
        return real(path)

    monkeypatch.setattr(os, 'scandir', scandir)
    sources, (told,) = collect(tmp_path, leave_out=tmp_path / 'out')
    assert [source.name for source in sources] == ['a.png']
    assert '1 folders of earlier results, 1 unreadable folders' in told


def test_an_empty_folder_among_others_does_not_end_them(model, tmp_path):
    (tmp_path / 'empty').mkdir()
    inferencer = OnnxInferencer(model)
    image = save(tmp_path / 'a.png')
    results = inferencer([tmp_path / 'empty', image, 'no/*.png', '-'])
    assert [result['source'] for result in results] == [image]
    assert [reason.split(': ')[0] for reason in inferencer.skipped] == [
        str(tmp_path / 'empty'),
        'no/*.png',
        '-',
    ]
    with pytest.raises(InputError, match='in this folder, found nothing'):
        inferencer(tmp_path / 'empty')


# ---- one bad image among others


@pytest.mark.parametrize('size', [(2, 900), (900, 2), (1, 3000), (1, 1)])
def test_narrow_images(inferencer, noise, size, tmp_path, capsys):
    """As the stretched image, with its coordinates shrunk again."""
    image = noise(*size)
    path = tmp_path / 'narrow.png'
    cv2.imwrite(str(path), image)
    others = [save(tmp_path / f'{name}.png') for name in 'az']
    result = inferencer([others[0], str(path), others[1]], out_dir=tmp_path / 'out')[1]
    said = capsys.readouterr().err
    assert 'inputs done: 3 of 3' in said
    stretched = limit_aspect(image)
    assert (
        (f'narrow.png: {size[1]} x {size[0]} pixels' in said)
        == (size != (1, 1))
        == (stretched.shape != image.shape)
    )
    (expected,) = inferencer(stretched)
    shrink = np.divide(size[::-1], stretched.shape[1::-1])
    np.testing.assert_allclose(
        result['bboxes'], expected['bboxes'] * np.tile(shrink, 2), atol=1e-3
    )
    np.testing.assert_allclose(result['keypoints'], expected['keypoints'] * shrink, atol=1e-3)
    assert all(tuple(mask['size']) == size for mask in result['masks'])
    assert cv2.imread(str(tmp_path / 'out/narrow.png')).shape[:2] == size


def test_narrow_images_of_an_exported_network(model):
    # 900 x 2 is stretched to 900 x 18, and resized to 128 x 2.56, that is 3.
    (result,) = OnnxInferencer(model)(np.zeros((2, 900, 3), np.uint8))
    np.testing.assert_allclose(
        result['bboxes'][0], [20 * 900 / 128, 10 * 2 / 3, 60 * 900 / 128, 80 * 2 / 3], rtol=1e-6
    )
    assert (result['height'], result['width']) == (2, 900)


def test_what_is_narrow():
    assert not is_narrow(np.zeros((2, 100, 3)))
    assert is_narrow(np.zeros((101, 2, 3)))
    assert limit_aspect(np.zeros((101, 2, 3))).shape == (101, 3, 3)


class Faulty:
    """Lets images of one grey go wrong in the middle of a network."""

    def __init__(self, function, error, is_bad):
        self.function, self.error, self.is_bad = function, error, is_bad

    def __call__(self, pixels, *args):
        if self.is_bad(pixels):
            raise self.error
        return self.function(pixels, *args)


@pytest.fixture(params=['pytorch', 'onnx'])
def make_faulty(request, model, inferencer, monkeypatch):

    def make(error, grey):
        if request.param == 'onnx':
            found = OnnxInferencer(model)
            monkeypatch.setattr(
                found, '_model', Faulty(found._model, error, lambda image: image.max() == grey)
            )
        else:
            found = inferencer
            monkeypatch.setattr(
                found,
                'forward',
                Faulty(
                    found.forward,
                    error,
                    lambda data: any(image.max() == grey for image in data['inputs']),
                ),
            )
        return found

    return make


@pytest.mark.parametrize(
    'error', [cv2.error('too narrow\nand more'), RuntimeError('too narrow'), MemoryError()]
)
def test_an_error_of_one_image_is_named(make_faulty, error, tmp_path, capsys):
    paths = [save(tmp_path / f'{grey}.png', value=grey) for grey in (10, 200, 30, 40)]
    found = make_faulty(error, 200)
    results = found(paths, batch_size=3, out_dir=tmp_path / 'out')
    assert [result['source'] for result in results] == [paths[0], *paths[2:]]
    reason = f'{paths[1]}: {type(error).__name__}: '
    assert [text.startswith(reason) for text in found.skipped] == [True]
    said = capsys.readouterr().err
    assert 'inputs done: 3 of 4 (3 images' in said and reason in said
    written = {path.name for path in (tmp_path / 'out').iterdir()}
    assert written == {'10.png', '30.png', '40.png', 'predictions.json'}


def test_an_error_of_every_image_is_no_fault_of_an_image(make_faulty, tmp_path):
    paths = [save(tmp_path / f'{i}.png', value=10) for i in range(15)]
    with pytest.raises(KeyError, match='a bug'):
        make_faulty(KeyError('a bug'), 10)(paths[:3])
    # Nobody waits for all of them to fail, or for ever of a camera.
    found = make_faulty(KeyError('a bug'), 10)
    with pytest.raises(KeyError, match='a bug'):
        found(paths)
    assert len(found.skipped) == 9
    # What an image may be the cause of is a sentence.
    with pytest.raises(InputError, match='0.png: error: too narrow'):
        make_faulty(cv2.error('too narrow'), 10)(paths[0])


def test_frames_that_go_wrong_keep_their_place(model, tmp_path, monkeypatch):
    writer = VideoWriter(tmp_path / 'film.mp4', 10)
    for value in (0, 0, 250, 250, 0):
        writer.write(np.full((48, 64, 3), value, np.uint8))
    writer.close()
    found = OnnxInferencer(model)
    monkeypatch.setattr(
        found, '_model', Faulty(found._model, ValueError('bright'), lambda image: image.max() > 99)
    )
    results = found(tmp_path / 'film.mp4', out_dir=tmp_path / 'out')
    assert [result['frame'] for result in results] == [0, 1, 4]
    assert found.skipped == [f'{tmp_path / "film.mp4"}, frame 2: ValueError: bright']
    assert len(list(VideoReader(str(tmp_path / 'out/film.mp4')))) == 5


def test_status_says_that_an_input_was_skipped(model, tmp_path):
    save(tmp_path / 'photos/a.png')
    arguments = [str(tmp_path / 'photos'), model, '--out-dir', str(tmp_path / 'out')]
    assert image_demo.main(arguments) == 0
    (tmp_path / 'photos/b.png').write_bytes(b'no image')
    assert image_demo.main(arguments) == 1
    assert (tmp_path / 'out/a.png').is_file()


# ---- names


NAMES = [
    'a b.png',
    '100%.png',
    '%03d.png',
    'a[1]*?.png',
    'ünï – 写真.png',
    'it\'s "q".png',
    'a:b.png',
    '-x.png',
    'UPPER.PNG',
    'a\nb.png',
    os.fsdecode(b'latin-\xe9.png'),
]


@pytest.mark.parametrize('name', NAMES)
def test_names_of_images(model, tmp_path, name, monkeypatch):
    monkeypatch.chdir(tmp_path)
    save(tmp_path / 'photos' / name)
    for inputs in (f'photos/{name}', 'photos', 'photos/*'):
        (result,) = OnnxInferencer(model)(inputs, out_dir='out')
        assert result['source'] == f'photos/{name}'
        assert cv2.imdecode(
            np.fromfile(os.fsencode(f'out/{name}'), np.uint8), cv2.IMREAD_COLOR
        ).shape == (48, 64, 3)
        content = json.loads((tmp_path / 'out/predictions.json').read_text())
        assert content['images'][0]['file_name'] == name


@pytest.mark.parametrize('name', [name.lower().replace('.png', '.mp4') for name in NAMES[:-1]])
def test_names_of_videos(model, tmp_path, name, monkeypatch):
    monkeypatch.chdir(tmp_path)
    writer = VideoWriter(name, 10)
    for _ in range(3):
        writer.write(np.zeros((48, 64, 3), np.uint8))
    writer.close()
    assert os.listdir() == [name]
    assert len(OnnxInferencer(model)(name, out_dir='out')) == 3
    assert len(list(VideoReader(f'out/{name}'))) == 3


def test_a_video_whose_name_opencv_cannot_take(tmp_path):
    path = os.path.join(os.fsencode(tmp_path), b'latin-\xe9.mp4')
    with open(path, 'wb') as file:
        file.write(b'no matter')
    with pytest.raises(InputError, match='only videos with names in UTF-8'):
        VideoReader(os.fsdecode(path))


def test_no_result_overwrites_another(model, tmp_path):
    folder = tmp_path / 'photos'
    paths = [
        save(folder / name)
        for name in ('a.gif', 'a.gif.png', 'a.jpg', 'a.png', 'predictions.json.png')
    ]
    paths += [paths[3], np.zeros((48, 64, 3), np.uint8)]
    OnnxInferencer(model)(paths, out_dir=tmp_path / 'out')
    assert {path.name for path in (tmp_path / 'out').iterdir()} == {
        'a.gif.png',
        'a.gif-2.png',
        'a.gif.png',
        'a.jpg',
        'a.png',
        'a-2.png',
        'array-000006.png',
        'predictions.json',
        'predictions.json.png',
    }


def test_an_image_that_its_format_cannot_hold(tmp_path):
    (source,), _ = collect(save(tmp_path / 'a.webp'))
    frame = type('Frame', (), dict(source=source, index=None))
    with OutputFolder(tmp_path / 'out', [source], dict(classes='p')) as out:
        with pytest.raises(InputError, match='cannot write 16400 x 1 pixels as .webp'):
            out.write(frame, np.zeros((1, 16400, 3), np.uint8), {})


# ---- kinds of files


@pytest.mark.parametrize('backend', ['cv2', 'pillow'])
@pytest.mark.parametrize(
    'name, options',
    [
        ('a.jfif', dict(format='JPEG', quality=95)),
        ('a.avif', dict(format='AVIF', quality=95)),
        ('a.gif', dict(format='GIF')),
        ('a.jp2', dict(format='JPEG2000')),
        ('a.mpo', dict(format='MPO', quality=95)),
        ('a.pnm', dict(format='PPM')),
        ('a.webp', dict(format='WEBP', quality=95)),
        ('cmyk.jpg', dict(format='JPEG', quality=95)),
        ('palette.png', dict(format='PNG')),
    ],
)
def test_formats(tmp_path, backend, name, options):
    upright = np.zeros((40, 60, 3), np.uint8)
    upright[:, :30] = (250, 40, 20)  # red
    image = Image.fromarray(upright)
    if name == 'palette.png':
        image = image.quantize(4)
    if name == 'cmyk.jpg':
        image = image.convert('CMYK')
    image.save(tmp_path / name, **options)
    (source,), _ = collect(tmp_path)
    step = dict(type='LoadImageFromFile', imdecode_backend=backend)
    read = ImageFile(step)(source.value)
    assert read.shape == (40, 60, 3)
    assert abs(read[:, :28].astype(int) - (20, 40, 250)).max() < 25
    assert read[:, 32:].max() < 25


@pytest.mark.parametrize('backend', ['cv2', 'pillow'])
@pytest.mark.parametrize(
    'exif', [b'Exif\0\0no exif', b'Exif\0\0MM\0*\0\0\0\x08\xff\xff', b'Exif\0\0']
)
def test_damaged_exif_keeps_no_image_away(tmp_path, backend, exif):
    Image.new('RGB', (60, 40), 'white').save(tmp_path / 'a.jpg', exif=exif)
    step = dict(type='LoadImageFromFile', imdecode_backend=backend)
    read = ImageFile(step)(str(tmp_path / 'a.jpg'))
    assert read.shape == (40, 60, 3) and read.min() > 250


def test_of_several_images_the_first_is_taken(model, tmp_path, capsys):
    first, second = (Image.new('RGB', (64, 48), color) for color in ('white', 'black'))
    for name in ('a.gif', 'b.tif', 'c.webp'):
        first.save(tmp_path / name, save_all=True, append_images=[second])
    results = OnnxInferencer(model)(tmp_path)
    assert all(result['scores'].min() > 0.95 for result in results)
    said = capsys.readouterr().err
    for result in results:
        assert (f'{result["source"]}: has 2 images, of which the first is used') in said


def test_floats_are_refused(tmp_path):
    Image.new('F', (60, 40)).save(tmp_path / 'a.tif')
    step = dict(type='LoadImageFromFile', imdecode_backend='pillow')
    with pytest.raises(InputError, match='found one of 32-bit floats'):
        ImageFile(step)(str(tmp_path / 'a.tif'))


def _sound():
    file = io.BytesIO()
    with wave.open(file, 'wb') as writer:
        writer.setparams((1, 2, 8000, 0, 'NONE', ''))
        writer.writeframes(bytes(16000))
    return file.getvalue()


def _no_frames(tmp_path):
    writer = cv2.VideoWriter(
        str(tmp_path / 'empty.mp4'), cv2.VideoWriter_fourcc(*'mp4v'), 10, (64, 48)
    )
    writer.release()
    return (tmp_path / 'empty.mp4').read_bytes()


@pytest.mark.parametrize('kind', ['text', 'sound', 'no frames', 'empty'])
def test_videos_without_frames(model, tmp_path, kind):
    content = dict(text=b'no video ' * 99, sound=_sound(), empty=b'')
    path = tmp_path / 'film.mp4'
    path.write_bytes(content[kind] if kind in content else _no_frames(tmp_path))
    with pytest.raises(
        InputError,
        match=r'film.mp4: expected a video, found '
        r'\d+ bytes of which OpenCV reads no frame',
    ):
        OnnxInferencer(model)(path)


def test_frames_that_change_their_size(tmp_path):
    writer = VideoWriter(tmp_path / 'a.mp4', 10)
    for size in ((48, 64), (96, 128), (47, 63)):
        writer.write(np.full((*size, 3), 200, np.uint8))
    writer.close()
    frames = list(VideoReader(str(tmp_path / 'a.mp4')))
    assert [frame.shape for frame in frames] == [(48, 64, 3)] * 3
    assert all(abs(frame.astype(int) - 200).max() < 9 for frame in frames)


@pytest.mark.parametrize(
    'wrong, match',
    [
        ('-', '-: expected an image or video file, found no file. Standard inp'),
        (-1, 'expected 0 or more as the index of a camera, found -1'),
        (2**31, 'as the index of a camera, found 2147483648'),
        ('/dev/null', '/dev/null: expected an image or video file, found no fi'),
    ],
)
def test_what_is_no_file(wrong, match):
    with pytest.raises(InputError, match=match):
        collect(wrong)


def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / 'a.png')
    save(tmp_path / 'b.png')
    with pytest.raises(InputError, match='a.png: expected an image or video'):
        collect(tmp_path / 'a.png')
    sources, (told,) = collect(tmp_path)
    assert [source.name for source in sources] == ['b.png']
    assert '1 pipes or devices' in told
