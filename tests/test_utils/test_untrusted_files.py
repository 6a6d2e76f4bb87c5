"""Untrusted files at every place where the project reads files.

The files contain a payload that creates a marker file when it is unpickled.
"""

import functools
import http.server
import json
import os
import pickle
import struct
import subprocess
import sys
import threading
import zipfile
import zlib

import mmengine
import numpy as np
import pytest
import torch
from mmdet.structures.mask import BitmapMasks
from mmengine.config import Config
from mmengine.runner import CheckpointLoader

from demo import image_demo, video_demo
from multitask_cli import test, train
from multitask_refine.analysis.ablation.seeds import load_groups
from multitask_refine.apis import InputError, MultitaskInferencer
from multitask_refine.apis.image_loader import ImageFile
from multitask_refine.converters import detectron2 as detectron2_to_multitask
from multitask_refine.converters import mmdet as mmdet_to_multitask
from multitask_refine.converters import torchvision as torchvision_to_multitask
from multitask_refine.datasets import CocoMultitaskDataset
from multitask_refine.engine import (
    DamagedCheckpointError,
    UnsafeCheckpointError,
    load_checkpoint_file,
)
from multitask_refine.evaluation import file_sha256
from tests.conftest import ROOT, SAMPLE_CONFIG, as_arguments, tiny_options
from tools import reproduce_tables as benchmark
from tools.analysis_tools import report, show_offsets

pytestmark = pytest.mark.slow

CONFIG = str(SAMPLE_CONFIG)
REFUSED = (UnsafeCheckpointError, DamagedCheckpointError, SystemExit)
SAYS = 'refused, because|not a whole|expected'


class Payload:
    """Runs a command when it is unpickled."""

    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return os.system, (f'touch {self.mark}',)


def _as_zip(content, path):
    torch.save(content, path)


def _as_legacy(content, path):
    torch.save(content, path, _use_new_zipfile_serialization=False)


def _as_pickle(content, path, protocol=2):
    path.write_bytes(pickle.dumps(content, protocol))


WAYS = dict(
    zip=_as_zip,
    legacy=_as_legacy,
    pickle=_as_pickle,
    pickle4=functools.partial(_as_pickle, protocol=4),
)


@pytest.fixture
def mark(tmp_path):
    """Marker file that no payload may create."""
    yield tmp_path / 'mark'
    assert not (tmp_path / 'mark').exists()


@pytest.fixture(params=WAYS)
def bad(request, tmp_path, mark):
    """Return a function that writes a file with the payload among weights."""

    def write(name='bad.pth'):
        weights = {'a.weight': torch.ones(2), 'b.weight': Payload(mark)}
        WAYS[request.param](dict(state_dict=weights, meta={}), tmp_path / name)
        return str(tmp_path / name)

    return write


def test_payload_works_with_plain_pickle(tmp_path):
    _as_pickle(Payload(tmp_path / 'made'), tmp_path / 'x')
    pickle.loads((tmp_path / 'x').read_bytes())
    assert (tmp_path / 'made').exists()


def _train(path, scene, *arguments):
    return train.main(
        [CONFIG, '--work-dir', str(path.parent), *arguments, *as_arguments(tiny_options(scene))]
    )


@pytest.mark.exhaustive
def test_checkpoints_of_training(bad, scene, tmp_path):
    """--resume FILE, --resume by last_checkpoint, load_from and init_cfg of a module."""
    path = bad()
    work = ['--work-dir', str(tmp_path / 'work')]
    options = as_arguments(tiny_options(scene))
    (tmp_path / 'work').mkdir()
    (tmp_path / 'work/last_checkpoint').write_text(path)
    backbone = 'model.backbone.init_cfg'
    for arguments in (
        ['--resume', path, *options],
        [*options, f'load_from={path}'],
        [*options, f'{backbone}.type=Pretrained', f'{backbone}.checkpoint={path}'],
    ):
        with pytest.raises(SystemExit, match=SAYS):
            train.main([CONFIG, *work, *arguments])
    if zipfile.is_zipfile(path):  # the others are skipped
        with pytest.raises(SystemExit, match=SAYS):
            train.main([CONFIG, *work, '--resume', *options])


def test_checkpoints_of_tools_and_demos(bad, scene, tmp_path):
    path, image = bad(), str(scene / 'val2017/000000000001.png')
    out = ['--out-dir', str(tmp_path / 'out')]
    options = as_arguments(tiny_options(scene))
    for tool, arguments in (
        (test, [CONFIG, path, '--work-dir', str(tmp_path), *options]),
        (image_demo, [image, CONFIG, path, *out]),
        (video_demo, [image, CONFIG, path, *out]),
        (show_offsets, [image, CONFIG, path, *out]),
    ):
        with pytest.raises(SystemExit, match=SAYS):
            tool.main(arguments)
    with pytest.raises(REFUSED, match=SAYS):
        MultitaskInferencer(CONFIG, path)


def test_checkpoints_of_the_benchmark(bad, tmp_path):
    args = benchmark.parse_args(['3.rb', '--checkpoint', bad(), '--root', str(tmp_path)])
    (job,) = benchmark.list_jobs(args)
    with pytest.raises(ValueError, match='refused, because|not a whole'):  # main lists it
        benchmark.run_test(job, args)


@pytest.mark.parametrize('suffix', ['.pkl', '.pth', '.pt', '.json'])
def test_files_of_converters(bad, suffix, tmp_path):
    for tool in (detectron2_to_multitask, mmdet_to_multitask, torchvision_to_multitask):
        with pytest.raises(SystemExit, match=SAYS):
            tool.main([CONFIG, bad(f'bad{suffix}'), str(tmp_path / 'out')])
    assert not (tmp_path / 'out').exists()


@pytest.mark.parametrize('suffix', ['.pkl', '.pickle'])
def test_pickles_of_mmengine(bad, suffix, scene):
    """``mmengine.load``, and mmdet's proposal files, which it reads."""
    path = bad(f'bad{suffix}')
    with pytest.raises(REFUSED, match=SAYS):
        mmengine.load(path)
    with pytest.raises(REFUSED, match=SAYS):
        CocoMultitaskDataset(
            ann_file=str(scene / 'annotations/person_keypoints_val2017.json'),
            data_prefix=dict(img=str(scene / 'val2017')),
            proposal_file=path,
        )


@pytest.mark.parametrize('name', ['a.json', 'a.pkl'])
def test_predictions_and_results(bad, name, tmp_path):
    path = bad(name)
    with pytest.raises(SystemExit, match='expected JSON'):
        report.main([path])
    if name.endswith('.json'):
        with pytest.raises(ValueError, match='a.json: expected'):
            load_groups(tmp_path)


def test_yaml_holds_plain_values(tmp_path, mark):
    path = tmp_path / 'bad.yml'
    path.write_text(f'a: !!python/object/apply:os.system ["touch {mark}"]')
    for load in (mmengine.load, Config.fromfile):
        with pytest.raises(UnsafeCheckpointError, match='os.system.*plain'):
            load(str(path))
    path.write_text('a: {b: [1, 2.5, x]}')
    assert mmengine.load(str(path)) == dict(a=dict(b=[1, 2.5, 'x']))


@pytest.fixture
def website(tmp_path, monkeypatch):
    """Serve the test's folder, which is the download cache, too."""
    monkeypatch.setenv('TORCH_HOME', str(tmp_path / 'cache'))
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(tmp_path))
    with http.server.ThreadingHTTPServer(('127.0.0.1', 0), handler) as server:
        threading.Thread(target=server.serve_forever).start()
        yield f'http://127.0.0.1:{server.server_port}'
        server.shutdown()


def test_downloads(bad, website):
    bad()
    for _ in range(2):  # the second time from the cache
        with pytest.raises(REFUSED, match=f'{website}/bad.pth: .*(refused|not a whole)'):
            CheckpointLoader.load_checkpoint(f'{website}/bad.pth', 'cpu')


@pytest.mark.parametrize(
    'tool',
    [
        ['test', 'mmdet', CONFIG, '--checkpoint', 'FILE', '--gpus', '0', '--launcher', 'none'],
        ['run', 'mmdet', 'eval_metric', CONFIG, 'FILE'],
    ],
)
@pytest.mark.exhaustive
def test_mim_and_mmdets_tools(tool, scene, tmp_path, mark):
    """In processes that import the project by the config's custom_imports."""
    path = tmp_path / 'bad.pkl'
    _as_pickle([Payload(mark)], path)
    command = [str(path) if word == 'FILE' else word for word in tool]
    done = subprocess.run(
        [sys.executable, '-m', 'mim', *command, *as_arguments(tiny_options(scene))],
        cwd=ROOT,
        env=dict(os.environ, PYTHONPATH=str(ROOT / 'projects')),
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    assert done.returncode and ('refused, because' in done.stdout or 'not a whole' in done.stdout)


def test_dumped_predictions_load(tmp_path, mark):
    """The output of tools/test.py --out, which mmdet's tools read."""
    masks = BitmapMasks(np.ones((2, 3, 4), np.uint8), 3, 4)
    content = [
        dict(
            img_id=1,
            gt_instances=dict(masks=masks),
            ori_shape=(3, 4),
            pred_instances=dict(
                scores=torch.rand(2), empty=torch.zeros(0, 4), truth=torch.ones(2) > 0
            ),
        )
    ]
    mmengine.dump(content, tmp_path / 'out.pkl')
    (loaded,) = mmengine.load(tmp_path / 'out.pkl')
    for name, value in content[0]['pred_instances'].items():
        assert torch.equal(loaded['pred_instances'][name], value)
    assert loaded['ori_shape'] == (3, 4)
    assert (loaded['gt_instances']['masks'].masks == masks.masks).all()


def test_payload_in_the_storage_of_a_tensor(tmp_path, mark):
    """A pickled tensor contains a nested checkpoint."""

    class Tensor:
        def __reduce__(self):
            _as_legacy(Payload(mark), tmp_path / 'inner')
            return (torch.storage._load_from_bytes, ((tmp_path / 'inner').read_bytes(),))

    _as_pickle(Tensor(), tmp_path / 'bad.pkl')
    with pytest.raises(UnsafeCheckpointError, match='more than numbers'):
        mmengine.load(tmp_path / 'bad.pkl')


class Reduced:
    """Pickles as a function call, with a state set on its result."""

    def __init__(self, *reduced):
        self.reduced = reduced

    def __reduce__(self):
        return self.reduced


@pytest.mark.parametrize(
    'state',
    [
        (3, '<', None, ('a',), {'a': (np.dtype('f8'), 10**9)}, 8, 1, 0),
        (3, '<', (np.dtype('f8'), (1000000,)), None, None, 8000000, 1, 0),
        (3, '<', None, None, None, -1, -1, 63),
    ],
    ids=['fields', 'size', 'flags'],
)
def test_forged_dtypes_are_refused(tmp_path, state):
    """numpy alone would read, at a[0]['a'], a gigabyte beyond the array."""
    dtype = Reduced(np.dtype, ('f8', False, True), state)
    array = Reduced(
        np._core.multiarray._reconstruct,
        (np.ndarray, (0,), b'b'),
        (1, (1,), dtype, False, bytes(8)),
    )
    torch.save(dict(a=array), tmp_path / 'bad.pth')
    loaded = load_checkpoint_file(str(tmp_path / 'bad.pth'))['a']
    assert loaded.dtype == np.float64 and loaded.dtype.names is None
    assert loaded.tolist() == [0] and np.dtype('f8').itemsize == 8


@pytest.mark.parametrize(
    'reduced',
    [(np.dtype, ('O', False, True)), (np._core.multiarray._reconstruct, (dict, (0,), b'b'))],
)
def test_objects_in_arrays_are_refused(tmp_path, reduced):
    torch.save(dict(a=Reduced(*reduced)), tmp_path / 'bad.pth')
    with pytest.raises(UnsafeCheckpointError, match='refused'):
        load_checkpoint_file(str(tmp_path / 'bad.pth'))


def test_arrays_stay_plain_after_repeated_saving(tmp_path):
    """As in a training that is resumed repeatedly."""
    content = dict(
        a=np.arange(3.0),
        b=np.asfortranarray(np.ones((2, 3))),
        c=np.float32(2),
        d=np.zeros((0, 3), np.int64),
    )
    for _ in range(3):
        torch.save(content, tmp_path / 'x.pth')
        assert b'numpy_stubs' not in (tmp_path / 'x.pth').read_bytes()
        content = load_checkpoint_file(str(tmp_path / 'x.pth'))
    assert content['a'].tolist() == [0, 1, 2] and content['c'] == 2
    assert content['b'].flags.f_contiguous and content['d'].shape == (0, 3)
    content['a'][0] = 5


# Small files that would expand


def _png(width, height):
    """Return the header of an image of this size, in less than 100 bytes."""

    def chunk(kind, data):
        return (
            struct.pack('>I', len(data)) + kind + data + struct.pack('>I', zlib.crc32(kind + data))
        )

    header = struct.pack('>IIBBBBB', width, height, 8, 0, 0, 0, 0)
    return (
        b'\x89PNG\r\n\x1a\n'
        + chunk(b'IHDR', header)
        + chunk(b'IDAT', zlib.compress(bytes(width + 1)))
        + chunk(b'IEND', b'')
    )


@pytest.mark.parametrize('backend', ['cv2', 'pillow'])
@pytest.mark.parametrize('side', [20000, 60000])
def test_images_of_too_many_pixels(tmp_path, backend, side):
    path = tmp_path / 'bomb.png'
    path.write_bytes(_png(side, side))
    read = ImageFile(dict(type='LoadImageFromFile', imdecode_backend=backend))
    with pytest.raises(
        InputError, match='bomb.png: expected an image of at most 178956970 pixels'
    ):
        read(str(path))


def test_compressed_checkpoint(tmp_path):
    torch.save(dict(a=torch.zeros(10**6)), tmp_path / 'good.pth')
    with (
        zipfile.ZipFile(tmp_path / 'good.pth') as good,
        zipfile.ZipFile(tmp_path / 'bomb.pth', 'w', zipfile.ZIP_DEFLATED) as bomb,
    ):
        for name in good.namelist():
            bomb.writestr(name, good.read(name))
    assert (tmp_path / 'bomb.pth').stat().st_size < 10000
    with pytest.raises(DamagedCheckpointError, match='bomb.pth.*400.* bytes'):
        load_checkpoint_file(str(tmp_path / 'bomb.pth'))


@pytest.mark.parametrize('shape', [(2**40,), (2**62, 2**62)])
def test_checkpoint_with_huge_declared_shapes(tmp_path, shape):
    array = Reduced(np.ndarray, (shape,))
    torch.save(dict(a=array), tmp_path / 'x.pth')
    assert load_checkpoint_file(str(tmp_path / 'x.pth'))['a'].size == 0


def test_json_nested_too_deep(tmp_path, scene):
    deep = tmp_path / 'deep_seed0.json'
    deep.write_text('[' * 100000 + ']' * 100000)
    with pytest.raises(SystemExit, match='deep_seed0.json: expected JSON'):
        report.main([str(deep)])
    with pytest.raises(ValueError, match='deep_seed0.json: expected JSON'):
        load_groups(tmp_path)


def _predictions(tmp_path, scene, **change):
    """Write a predictions file without instances."""
    truth = scene / 'annotations/person_keypoints_val2017.json'
    content = dict(
        format='multitask_refine predictions',
        version=1,
        run=None,
        metrics={},
        tasks=['bbox'],
        image_folder=str(scene / 'val2017'),
        annotations=dict(file=str(truth), sha256=file_sha256(str(truth))),
        categories=dict(ids=[1], names=['person']),
        joints=dict(
            names=[str(i) for i in range(17)],
            sigmas=[0.1] * 17,
            mirror=[0] * 17,
            colors=[[0, 0, 0]] * 17,
            skeleton=[],
            skeleton_colors=[],
        ),
        images=[dict(image_id=i, file_name=f'{i:012d}.png', bbox=[]) for i in (1, 2, 3)],
    )
    content.update(change)
    path = tmp_path / 'predictions.json'
    path.write_text(json.dumps(content))
    return str(path)


def test_annotations_of_the_page_nested_too_deep(tmp_path, scene):
    deep = tmp_path / 'deep.json'
    deep.write_text('[' * 100000 + ']' * 100000)
    path = _predictions(
        tmp_path, scene, annotations=dict(file=str(deep), sha256=file_sha256(str(deep)))
    )
    with pytest.raises(SystemExit, match='deep.json: expected annotations'):
        report.main([path, '--out', str(tmp_path / 'out.html')])


# File names outside of the image folder


@pytest.mark.parametrize(
    'name',
    [
        '../../etc/hostname',
        '/etc/hostname',
        'x/../../secret.png',
        'a\0b',
        '<script>alert(1)</script>',
        '..',
    ],
)
def test_images_of_the_page_stay_in_their_folder(tmp_path, scene, name):
    (tmp_path / 'secret.png').write_bytes((scene / 'val2017/000000000001.png').read_bytes())
    folder = tmp_path / 'images'
    folder.mkdir()
    path = _predictions(
        tmp_path,
        scene,
        image_folder=str(folder),
        images=[dict(image_id=1, file_name=name, bbox=[])],
    )
    out = tmp_path / 'out.html'
    assert report.main([path, '--out', str(out)]) == 0
    text = out.read_text()
    assert '1 of 1 images could not' in text and 'data:image' not in text
    assert '<script>alert' not in text


def test_image_bomb_on_the_page(tmp_path, scene):
    (tmp_path / 'bomb.png').write_bytes(_png(60000, 60000))
    path = _predictions(
        tmp_path,
        scene,
        image_folder=str(tmp_path),
        images=[dict(image_id=1, file_name='bomb.png', bbox=[])],
    )
    out = tmp_path / 'out.html'
    assert report.main([path, '--out', str(out)]) == 0
    assert 'bomb.png (no readable image)' in out.read_text()
