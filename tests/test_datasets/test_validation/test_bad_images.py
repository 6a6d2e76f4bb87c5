"""Unreadable images in the loading transform, the data set, the hook and a training."""

import io
import re
import shutil
from types import SimpleNamespace

import numpy as np
import pytest
from mmdet.registry import TRANSFORMS
from mmengine.logging import MessageHub
from PIL import Image
from torch.utils.data import DataLoader

from multitask_refine.datasets import CocoMultitaskDataset, ImageError
from multitask_refine.engine import BadImagesHook, TooManyBadImagesError
from multitask_refine.engine.hooks import bad_images_hook as bad_images
from multitask_refine.engine.runner.reproducible_loop import seed_everything
from multitask_refine.utils.safe_checkpoint import load_checkpoint_file
from tests.trainings import Training, wait

pytestmark = pytest.mark.slow

BAD = '000000000002.png'


# ---- the loader


def _load(path, backend='cv2', **info):
    step = dict(type='CheckedLoadImageFromFile', imdecode_backend=backend)
    return TRANSFORMS.build(step).transform(dict(info, img_path=str(path)))


def _code(format, mode='RGB', **options):
    noise = np.random.default_rng(0).integers(0, 256, (48, 64, 3), np.uint8)
    file = io.BytesIO()
    Image.fromarray(noise).convert(mode).save(file, format, **options)
    return file.getvalue()


@pytest.mark.parametrize('backend', ['cv2', 'pillow'])
@pytest.mark.parametrize(
    'data',
    [
        _code('JPEG'),
        _code('JPEG', progressive=True),
        _code('JPEG', 'CMYK'),
        _code('PNG'),
        _code('PNG', 'L'),
        _code('PNG', 'RGBA'),
        _code('BMP'),
        _code('WEBP'),
    ],
)
def test_valid_images_are_loaded_as_by_mmcv(data, backend, tmp_path):
    path = tmp_path / 'a'
    path.write_bytes(data)
    for to_float32 in (False, True):
        options = dict(imdecode_backend=backend, to_float32=to_float32)
        ours, theirs = (
            TRANSFORMS.build(dict(options, type=kind)).transform(
                dict(img_path=str(path), height=48, width=64)
            )
            for kind in ('CheckedLoadImageFromFile', 'LoadImageFromFile')
        )
        assert ours.keys() == theirs.keys()
        assert ours['img'].dtype == theirs['img'].dtype
        assert np.array_equal(ours.pop('img'), theirs.pop('img'))
        assert ours == theirs


@pytest.mark.parametrize('backend', ['cv2', 'pillow'])
@pytest.mark.parametrize(
    'data, reason',
    [
        (None, 'cannot be read .No such file'),
        (b'', 'an empty file'),
        (b'<html>', 'cannot be decoded|expected an image'),
        (_code('JPEG')[:-100], 'of a JPEG without its end'),
        (_code('PNG')[:-100], 'of a PNG without its end'),
    ],
)
def test_invalid_images_raise(data, reason, backend, tmp_path):
    path = tmp_path / 'a.jpg'
    if data is not None:
        path.write_bytes(data)
    with pytest.raises(ImageError, match=reason) as error:
        _load(path, backend)
    assert error.value.path == str(path)
    assert str(error.value) == f'{path}: {error.value.reason}'


def test_other_size_than_annotated_raises(tmp_path):
    path = tmp_path / 'a.png'
    path.write_bytes(_code('PNG'))
    assert _load(path)['img_shape'] == (48, 64)
    with pytest.raises(ImageError, match='expected 48 x 64 .*found 64 x 48'):
        _load(path, height=64, width=48)


# ---- the data set


@pytest.fixture
def folder(scene, tmp_path):
    """A copy of the scene that may be damaged."""
    return shutil.copytree(scene, tmp_path / 'data')


def _damage(folder, name=BAD):
    path = folder / 'train2017' / name
    path.write_bytes(path.read_bytes()[:-20])
    return str(path)


def _dataset(folder, between=(), **kwargs):
    return CocoMultitaskDataset(
        ann_file='annotations/person_keypoints_train2017.json',
        data_root=str(folder),
        data_prefix=dict(img='train2017/'),
        pipeline=[
            dict(type='CheckedLoadImageFromFile'),
            dict(type='LoadMultitaskAnnotations'),
            *between,
            dict(type='PackMultitaskInputs'),
        ],
        **kwargs,
    )


def _visit(dataset, index, number):
    seed_everything(5, number)
    return dataset[index]['data_samples']


def test_replacement_is_reproducible(folder):
    dataset = _dataset(folder)
    path = _damage(folder)
    drawn = [_visit(dataset, 1, number) for number in range(20)]
    for sample in drawn:
        assert {path for path, _ in sample.replaced_images} == {path}
        assert 'without its end' in sample.replaced_images[0][1]
    ids = [sample.img_id for sample in drawn]
    assert set(ids) == {1, 3}
    assert ids == [_visit(dataset, 1, number).img_id for number in range(20)]
    assert 'replaced_images' not in _visit(dataset, 0, 0)


@pytest.mark.parametrize(
    'start', [None, 'fork', pytest.param('spawn', marks=pytest.mark.exhaustive)]
)
def test_workers_return_replaced_images(start, folder):
    dataset = _dataset(folder, serialize_data=True)
    path = _damage(folder)
    loader = DataLoader(
        dataset,
        batch_size=3,
        collate_fn=list,
        num_workers=0 if start is None else 1,
        multiprocessing_context=start,
    )
    (batch,) = loader
    replaced = [item['data_samples'].get('replaced_images', []) for item in batch]
    assert [bool(each) for each in replaced] == [False, True, False]
    assert replaced[1][0][0] == path


def test_too_many_replacements_raise(folder):
    dataset = _dataset(folder, max_refetch=7)
    for name in ('000000000001.png', BAD, '000000000003.png'):
        _damage(folder, name)
    with pytest.raises(ImageError, match='last of 8 images in a row'):
        dataset[0]


def test_worker_raises_image_error(folder):
    dataset = _dataset(folder, test_mode=True)
    path = _damage(folder)
    loader = DataLoader(dataset, num_workers=1, collate_fn=list)
    with pytest.raises(ImageError, match=re.escape(path)):
        list(loader)


def test_test_mode_raises(folder):
    dataset = _dataset(folder, test_mode=True)
    path = _damage(folder)
    with pytest.raises(ImageError, match=re.escape(path)):
        dataset[1]


def test_other_errors_pass(folder):
    wrong = [dict(type='RandomCrop', crop_size=(4, 4))]
    dataset = _dataset(folder, wrong)
    dataset.pipeline.transforms[2].transform = lambda results: 1 / 0
    with pytest.raises(ZeroDivisionError):
        dataset[0]


# ---- the hook


class _Run:
    """As much of a runner as the hook sees."""

    def __init__(self, hub, **options):
        self.hook = BadImagesHook(**options)
        self.message_hub, self.iter, self.said = hub, 0, []
        self.logger = SimpleNamespace(warning=self.said.append)

    def step(self, *replaced):
        """One step of ten images."""
        samples = [{} for _ in range(10)]
        samples[0] = dict(replaced_images=[(path, 'cut') for path in replaced])
        self.hook.after_train_iter(self, 0, dict(data_samples=samples))
        self.iter += 1


@pytest.fixture
def run():
    return lambda hub=None, **options: _Run(hub or MessageHub('bad_images_test'), **options)


def test_too_many_bad_images_raise(run):
    """3 of 30 + 3; the fourth is too much of 43 for a share of 9 in 100."""
    made = run(max_share=0.09, at_least=3, interval=1)
    for name in 'abc':
        made.step(name)
    with pytest.raises(TooManyBadImagesError, match='4 of 44 images.*9.1 %'):
        made.step('a')
    made = run(max_share=0.1, at_least=3, interval=1)
    for name in 'abcd':
        made.step(name)


def test_each_image_is_logged_once_and_counted(run):
    made = run(max_share=1, interval=2)
    for names in ('a', '', 'aab', 'b', 'c'):
        made.step(*names)
    named = [line[:9] for line in made.said]
    assert named == ['rank 0: a', 'rank 0: b']
    made.hook.after_train(made)
    assert made.said[2].startswith('rank 0: c: cut')
    assert '6 of 56 images drawn' in made.said[3]
    made = run()
    made.step()
    made.hook.after_train(made)
    assert made.said == []


def test_totals_are_resumed(run):
    made = run(max_share=0.15, at_least=1, interval=1)
    made.step('a')
    hub = MessageHub('resumed')
    hub.load_state_dict(made.message_hub.state_dict())
    resumed = run(hub, max_share=0.15, at_least=1, interval=1)
    resumed.step('b')  # 2 of 22
    with pytest.raises(TooManyBadImagesError, match='7 of 37'):
        resumed.step(*'cdefg')


def test_number_of_logged_images_is_limited(run, monkeypatch):
    monkeypatch.setattr(bad_images, '_MAX_NAMED', 5)
    monkeypatch.setattr(bad_images, '_MAX_NAMED_PER_INTERVAL', 3)
    made = run(max_share=1, interval=1)
    for start in range(0, 40, 4):
        made.step(*map(str, range(start, start + 4)))
        assert len(made.hook._reasons) == 0
    assert len(made.said) == 6
    assert 'Further replaced images' in made.said[-1]
    assert made.message_hub.get_info('bad_images')[0] == 40


def test_invalid_share_raises():
    with pytest.raises(ValueError, match='from 0 to 1, found 5'):
        BadImagesHook(max_share=5)


# ---- trainings


def _training(folder, work_dir, ranks=1, steps=10, **hook):
    options = {f'default_hooks.bad_images.{name}': value for name, value in hook.items()}
    return Training(
        folder,
        work_dir,
        ranks=ranks,
        **{
            'train_dataloader.num_workers': 2,
            'train_dataloader.persistent_workers': True,
            'train_cfg.max_iters': steps,
            'train_cfg.val_interval': steps,
            'default_hooks.checkpoint.interval': steps,
            **options,
        },
    )


def _end(training):
    for process in training.processes:
        process.join(300)
    return ([process.exitcode for process in training.processes], training.log.read_text())


@pytest.mark.exhaustive
def test_image_damaged_during_training_is_replaced(folder, tmp_path):
    training = _training(folder, tmp_path / 'run', steps=30, max_share=1)
    wait(lambda: '[ 1/30]' in training.log.read_text(), training)
    path = _damage(folder)
    codes, log = _end(training)
    assert codes == [0], log[-3000:]
    bad, drawn = map(int, re.search(r'(\d+) of (\d+) images drawn', log).groups())
    assert bad > 0 and drawn == 2 * 30 + bad
    assert log.count(f'rank 0: {path}: expected a complete image') == 1
    state = load_checkpoint_file(tmp_path / 'run/iter_30.pth')
    assert state['meta']['iter'] == 30


@pytest.mark.parametrize('ranks', [1, 2])
def test_too_many_bad_images_stop_all_ranks(ranks, folder, tmp_path):
    path = _damage(folder)
    codes, log = _end(
        _training(folder, tmp_path / 'run', ranks, steps=100, at_least=2, interval=5)
    )
    assert codes == [1] * ranks
    sentences = re.findall(
        r'(\d+) of (\d+) images drawn could not be used '
        r'\([\d.]+ %, expected at most 1 %\)',
        log,
    )
    assert len(sentences) == ranks and len(set(sentences)) == 1
    bad, drawn = map(int, sentences[0])
    step = (drawn - bad) / (2 * ranks)
    assert bad > 2 and step % 5 == 0 and step < 100
    assert path in log and 'Traceback' not in log
