"""Models by name: small networks in the publishers' layouts, from a server on this machine."""

import io
import json
import pickle
import re
import shutil
from pathlib import Path

import cv2
import mmdet
import modelindex
import numpy as np
import pytest
import torch
from mmdet.registry import MODELS
from mmengine.config import Config

from multitask_cli.main import main
from multitask_refine.apis import MultitaskInferencer
from multitask_refine.converters import ConversionError
from multitask_refine.pretrained import DownloadError, cache_folder, prepare_model
from multitask_refine.testing.synthetic_weights import draw_weights
from multitask_refine.utils.errors import ConfigError
from multitask_runtime import model_index
from multitask_runtime.model_index import ModelEntry, UnknownModelError, find_model, load_index
from multitask_runtime.utils.files import file_digest
from tests.conftest import CONFIGS, ROOT
from tests.test_converters.test_conversion import FPN, WIDTH, _detectron2, _mmdet, _torchvision

pytestmark = pytest.mark.slow

KEYPOINT, MASK = 'keypoint-rcnn_r50_fpn_3x', 'mask-rcnn_r50_fpn_3x'
BOTH = 'keypoint+mask-rcnn_r50_fpn_3x'
TORCHVISION, MMDET = 'keypoint-rcnn_r50_fpn_torchvision', 'mask-rcnn_r50_fpn_1x_mmdet'
BASE = 'multitask-rcnn_r26-w24_fpn-ms_regular_sample'


def small_config(path: Path, entry: ModelEntry) -> None:
    """Write the config of a model with few channels, and small images."""
    roi_head = Config.fromfile(ROOT / entry.config).model.roi_head
    width = dict(in_channels=FPN)
    heads = dict(
        bbox_roi_extractor=dict(out_channels=FPN),
        instance_roi_extractor=dict(out_channels=FPN),
        bbox_head=dict(width, fc_out_channels=FPN),
    )
    if roi_head.mask_head:
        heads['mask_head'] = dict(width, conv_out_channels=FPN)
    if roi_head.keypoint_head:
        heads['keypoint_head'] = dict(width, conv_channels=FPN)
    model = dict(
        backbone=dict(base_channels=WIDTH),
        neck=dict(in_channels=[4 * WIDTH * 2**i for i in range(4)], out_channels=FPN),
        rpn_head=dict(width, feat_channels=FPN),
        roi_head=heads,
        test_cfg=dict(rpn=dict(max_per_img=50), rcnn=dict(score_thr=0.0, max_per_img=5)),
    )
    path.write_text(
        f'_base_ = {str(ROOT / entry.config)!r}\nmodel = {model!r}\n'
        'for _step in _base_.test_dataloader.dataset.pipeline:\n'
        "    if 'scale' in _step:\n        _step.scale = (128, 96)\n"
    )


def _draw(weights: dict, seed: int) -> dict:
    """Weights of the same names and shapes, like those of a trained network."""
    layers = {
        name: tuple(value.shape)
        for name, value in weights.items()
        if re.search(r'\.(weight|bias|running_mean|running_var)$', name)
    }
    others = {name: value for name, value in weights.items() if name not in layers}
    return {**draw_weights(layers, seed), **others}


def _as_pth(weights: dict) -> bytes:
    content = io.BytesIO()
    torch.save({name: torch.from_numpy(value) for name, value in weights.items()}, content)
    return content.getvalue()


FILES = {
    KEYPOINT: lambda: pickle.dumps(
        dict(model=_draw(_detectron2(keypoints=True), 1), __author__='x'), protocol=2
    ),
    MASK: lambda: pickle.dumps(dict(model=_draw(_detectron2(classes=80, mask=True), 2))),
    TORCHVISION: lambda: _as_pth(_draw(_torchvision(keypoints=True, new=False), 3)),
    MMDET: lambda: _as_pth(_draw(_mmdet(), 4)),
}


@pytest.fixture
def zoo(publisher, tmp_path, monkeypatch):
    """The index with small networks on the publisher's server; an empty cache."""
    monkeypatch.setenv('MULTITASK_CACHE', str(tmp_path / 'cache'))
    index = {}
    for name, entry in load_index().items():
        changes = {}
        if name in (*FILES, BOTH):
            changes['config'] = str(tmp_path / f'{name}.py')
            small_config(tmp_path / f'{name}.py', entry)
        if name in FILES:
            content = FILES[name]()
            # The publisher's path and name; the digits at its end are those of this content.
            path = tmp_path / 'published'
            path.write_bytes(content)
            algorithm, _, digits = entry.checksum.partition(':')
            found = file_digest(path, algorithm)[: len(digits)]
            address = '/' + entry.url.split('/', 3)[3].replace(digits, found)
            publisher.files[address] = content
            changes.update(url=publisher.url + address, checksum=f'{algorithm}:{found}')
        index[name] = entry.model_copy(update=changes)
    monkeypatch.setattr(model_index, 'load_index', lambda: index)
    return publisher


def image():
    return np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8)


@pytest.mark.parametrize('name', FILES)
def test_first_use_downloads_and_converts(name, zoo, capsys):
    (result,) = MultitaskInferencer(name, device='cpu')(image())
    assert len(result['scores']) == 5 and np.isfinite(result['bboxes']).all()
    assert ('masks' in result) == ('mask' in name)
    assert ('keypoints' in result) == ('keypoint' in name)
    assert len(zoo.requests) == 1
    said = capsys.readouterr()
    assert f'{name}: {zoo.url}/' in said.out and '(license: ' in said.out
    assert '100%' in said.err
    # The second use takes the converted file.
    (again,) = MultitaskInferencer(name, device='cpu', show_progress=False)(image())
    np.testing.assert_array_equal(again['bboxes'], result['bboxes'])
    assert len(zoo.requests) == 1
    assert '(license: ' not in capsys.readouterr().out


@pytest.mark.exhaustive
def test_two_networks_as_one(zoo, tmp_path):
    """Boxes and keypoints are the first network's, masks the second's on these boxes."""
    combined = MultitaskInferencer(BOTH, device='cpu')
    (result,) = combined(image())
    (alone,) = MultitaskInferencer(KEYPOINT, device='cpu')(image())
    for field in ('bboxes', 'scores', 'keypoints', 'keypoint_scores'):
        np.testing.assert_allclose(result[field], alone[field], rtol=1e-4, atol=1e-3)
    assert len(zoo.requests) == 2
    # The second network's mask head on boxes that it is given.
    second = MultitaskInferencer(MASK, device='cpu')
    data = combined.collate_fn([combined._preprocess(image())])
    batch = second.model.data_preprocessor(data)
    factor = np.tile(batch['data_samples'][0].scale_factor, 2)
    boxes = torch.from_numpy(result['bboxes'] * factor).float()
    with torch.no_grad():
        x = second.model.extract_feat(batch['inputs'])
        head = second.model.roi_head
        expected = head.mask_head(head.extract_instance_feats(x, [boxes]))
        x = combined.model.extract_feat(batch['inputs'])
        own = combined.model.extract_mask_feat(batch['inputs'], x)
        head = combined.model.roi_head
        found = head.mask_head(head.extract_instance_feats(own, [boxes]))
        shared = head.mask_head(head.extract_instance_feats(x, [boxes]))
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
    assert (shared - expected).abs().max() > 0.1  # of the other backbone
    assert len(result['masks']) == 5


@pytest.mark.exhaustive
def test_combined_network_is_exported(zoo, tmp_path, capsys):
    """The exporter compares the outputs with PyTorch before it writes the file."""
    pytest.importorskip('onnxruntime')
    out = tmp_path / 'both.onnx'
    assert main(['export', BOTH, str(out)]) == 0
    assert f'Written: {out}' in capsys.readouterr().out


def test_combined_network_is_for_inference_only(zoo):
    config, _ = prepare_model(BOTH)
    model = dict(Config.fromfile(config).model)
    with pytest.raises(ConfigError, match='expected a network to train, found two'):
        MODELS.build(model).loss(None, [])
    with pytest.raises(ConfigError, match='expected one network, found a CombinedRCNN'):
        MODELS.build(dict(type='MultitaskTTAModel', module=model))


def test_file_put_there_by_hand(zoo, tmp_path):
    entry = model_index.load_index()[KEYPOINT]
    (content,) = (body for path, body in zoo.files.items() if path in entry.url)
    path = tmp_path / 'cache' / KEYPOINT / Path(entry.url).name
    path.parent.mkdir(parents=True)
    path.write_bytes(content[:-1])
    with pytest.raises(DownloadError, match=f'{path}: expected MD5 ') as error:
        prepare_model(KEYPOINT)
    assert path.read_bytes() == content[:-1]  # what the user put there stays
    assert 'bytes' in str(error.value)
    path.write_bytes(content)
    prepare_model(KEYPOINT)
    assert not zoo.requests


def test_unsafe_and_foreign_files_are_refused(zoo, monkeypatch):
    index = dict(model_index.load_index())

    def publish(content):
        entry = index[KEYPOINT]
        path = '/' + entry.url.split('/', 3)[3]
        zoo.files[path] = content
        scratch = Path(index[KEYPOINT].config).with_name('scratch')
        scratch.write_bytes(content)
        index[KEYPOINT] = entry.model_copy(
            update=dict(checksum=f'md5:{file_digest(scratch, "md5")[:6]}')
        )

    monkeypatch.setattr(model_index, 'load_index', lambda: index)
    publish(pickle.dumps(dict(model=dict(a=io.StringIO))))
    with pytest.raises(ConversionError, match='refused'):
        prepare_model(KEYPOINT)
    shutil.rmtree(cache_folder())
    publish(pickle.dumps(dict(model=_draw(_detectron2(mask=True), 5))))
    with pytest.raises(ConversionError, match='expected all weights of .*keypoint_head'):
        prepare_model(KEYPOINT)


def test_conversion_follows_the_config(zoo):
    state = torch.random.get_rng_state()
    _, before = prepare_model(KEYPOINT)
    assert torch.equal(torch.random.get_rng_state(), state)
    config = Path(model_index.load_index()[KEYPOINT].config)
    config.write_text(config.read_text() + "model['test_cfg']['rcnn']['max_per_img'] = 3\n")
    _, after = prepare_model(KEYPOINT)
    assert before != after and len(zoo.requests) == 1


def test_base_is_in_the_repository(monkeypatch):
    config, checkpoint = prepare_model(BASE)
    assert Path(config).is_file()
    assert Path(checkpoint).parent == ROOT / 'checkpoints'


def test_names_that_do_not_exist():
    with pytest.raises(UnknownModelError, match=f'Did you mean {KEYPOINT}'):
        MultitaskInferencer('keypoint-rcnn_r50_3x')
    with pytest.raises(UnknownModelError, match='multitask models'):
        find_model('x')
    with pytest.raises(ConfigError, match='config.py: expected a config and its checkpoint'):
        MultitaskInferencer('config.py')


def test_checkout_without_configs(monkeypatch):
    missing = find_model(KEYPOINT).model_copy(update=dict(config='configs/none.py'))
    monkeypatch.setattr(model_index, 'load_index', lambda: {KEYPOINT: missing})
    with pytest.raises(ConfigError, match='none.py: expected the config of .* from a checkout'):
        prepare_model(KEYPOINT)


# The index


def test_entries_are_complete():
    for name, entry in load_index().items():
        assert (ROOT / entry.config).is_file(), name
        if entry.combines:
            assert not entry.url
            first, second = (load_index()[part] for part in entry.combines)
            assert 'keypoint AP' in first.results and 'mask AP' in second.results
        elif entry.url:
            assert entry.url.startswith('https://')
            algorithm, _, digits = entry.checksum.partition(':')
            assert re.search(rf'[-_]{digits}\.(pth|pkl)$', entry.url), name
            assert entry.results and entry.dataset
            heads = Config.fromfile(ROOT / entry.config).model.roi_head
            assert ('mask AP' in entry.results) == bool(heads.get('mask_head'))
            assert ('keypoint AP' in entry.results) == bool(heads.get('keypoint_head'))


def test_mmdetections_facts_are_those_of_its_package():
    file = Path(mmdet.__file__).parent / '.mim/configs/mask_rcnn/metafile.yml'
    published = {model.weights: model for model in modelindex.load(str(file)).models}
    count = 0
    for entry in load_index().values():
        if entry.framework == 'mmdet':
            model = published[entry.url]
            found = {}
            for result in model.results:
                found.update(result.metrics)
            assert entry.results == found
            count += 1
    assert count == 3


# Command line


def test_models_verb(zoo, capsys, tmp_path):
    assert main(['models']) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == list(load_index())
    assert re.search(rf'^{KEYPOINT} +detectron2 +box AP 55.4, keypoint AP 65.5$', lines[1])
    assert main(['models', KEYPOINT, '--download']) == 0
    said = capsys.readouterr().out
    assert 'license:    CC BY-SA 3.0' in said
    (path,) = re.findall(r'^checkpoint: +(.+)$', said, re.M)
    assert Path(path).is_file()
    with pytest.raises(SystemExit, match=f'Did you mean {MASK}'):
        main(['models', 'mask-rcnn_r50_fpn_3'])
    with pytest.raises(SystemExit):
        main(['models', '--download'])


def test_verbs_take_names(zoo, tmp_path, capsys):
    cv2.imwrite(str(tmp_path / 'a.png'), image())
    argv = ['predict', KEYPOINT, str(tmp_path / 'a.png'), '--device', 'cpu']
    assert main([*argv, '--out-dir', str(tmp_path / 'out')]) == 0
    content = json.loads((tmp_path / 'out/predictions.json').read_text())
    assert len(content['annotations']) == 5
    for verb in ('predict', 'track', 'test'):
        with pytest.raises(SystemExit, match=f'Did you mean {KEYPOINT}'):
            main([verb, 'keypoint-rcnn_r50_fpn_3', 'a.png'][: 2 if verb == 'test' else 3])


def test_configs_of_the_index_are_in_the_folder_of_converted_checkpoints():
    used = {ROOT / entry.config for entry in load_index().values() if entry.url}
    assert used <= set((CONFIGS / 'converted').glob('*.py'))
