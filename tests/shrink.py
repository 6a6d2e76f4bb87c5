"""Any config as a training of seconds: few channels, small drawn images."""

import copy
import gc
import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest import mock

import torch
from mmdet.models.roi_heads.shared_heads import res_layer
from mmengine.config import Config, ConfigDict
from mmengine.config import config as mmengine_config

from multitask_refine.engine import list_evaluators

SCALE = (96, 64)  # width and height of the images that the network sees
# Tiny backbones that are no ResNets with a 24th of the channels.
NARROW = dict(
    ConvNeXt=dict(depths=[1, 1, 1, 1], channels=[4, 8, 16, 32]),
    SwinTransformer=dict(embed_dims=4, depths=[1, 1, 1, 1], num_heads=[1, 1, 2, 2]),
)


@contextmanager
def cheap_parts() -> Iterator[None]:
    """Leave out what takes longer than two steps of a narrow network:
    formatting configs as Python, waiting for another thread, collecting
    garbage for each data set. mmdet's stage for C4 has no setting of its
    width."""
    stage, threads = res_layer._ResLayer, torch.get_num_threads()
    torch.set_num_threads(1)
    with (
        mock.patch.object(mmengine_config, 'FormatCode', lambda text, style_config: (text, True)),
        mock.patch.object(gc, 'collect', lambda *args: 0),
        mock.patch.object(
            res_layer,
            '_ResLayer',
            lambda block, width_in, width, *args, **kwargs: stage(
                block, width_in // 32, width // 32, *args, **kwargs
            ),
        ),
    ):
        yield
    torch.set_num_threads(threads)


def shrink(cfg: Config, data_root: Path) -> Config:
    """Make a config cheap to run; what it is made of stays.

    Channels become those of a backbone whose stem has 2, images become small,
    and RoIs few. Nothing is downloaded: weights are drawn. Batches have two
    images, loaded in the same process.

    Args:
        cfg (Config): Of any folder of ``configs/``.
        data_root (Path): A COCO folder in which :func:`link_files` puts what
            the config names.

    Returns:
        Config: Two iterations with a checkpoint and a validation after each.
    """
    cfg = copy.deepcopy(cfg)
    shrink_network(cfg.model)
    cfg.load_from = None  # weights of the wide network
    for part in _dicts(cfg._cfg_dict):
        if 'scale' in part:
            part.scale = SCALE
        if 'scales' in part and ('keep_ratio' in part or 'max_size' in part):
            part.scales = [SCALE]
    for split in ('train', 'val', 'test'):
        loader = cfg[f'{split}_dataloader']
        loader.update(batch_size=2, num_workers=0, persistent_workers=False)
        datasets = loader.dataset.get('datasets', [loader.dataset])
        for dataset in datasets:
            link_files(dataset, data_root)
        if split != 'train':
            for metric, dataset in zip(list_evaluators(cfg, split), datasets):
                metric.ann_file = str(data_root / dataset.ann_file)
    cfg.load_from = None
    cfg.train_cfg.update(max_iters=2, val_interval=1)
    cfg.default_hooks.logger.interval = 1
    cfg.default_hooks.checkpoint.interval = 1
    return cfg


def shrink_network(model: ConfigDict) -> None:
    """Make the config of a network cheap to build and run, in place."""
    backbone = model.backbone
    if backbone.type in NARROW:
        factor = 24
        backbone.update(NARROW[backbone.type])
    else:
        factor = backbone.get('base_channels', 64) // 2
        backbone.update(base_channels=2, stem_channels=2)
    if model.roi_head.get('keypoint_head'):
        # Those that a config leaves out.
        defaults = dict(in_channels=256, num_convs=8, conv_channels=512)
        for key, value in defaults.items():
            model.roi_head.keypoint_head.setdefault(key, value)
    for part in _dicts(model):
        part.pop('init_cfg', None)
        for key, value in part.items():
            if key.endswith('channels') and part is not backbone:
                part[key] = (
                    [each // factor for each in value]
                    if isinstance(value, list)
                    else value // factor
                )
    for phase in (model.train_cfg, model.test_cfg):
        for name in {'rpn', 'rpn_proposal'} & phase.keys():
            if 'nms_pre' in phase[name]:
                phase[name].update(nms_pre=50, max_per_img=10)
    model.train_cfg.rcnn.sampler.num = 16
    model.test_cfg.rcnn.max_per_img = 5
    for name in ('mask_head', 'keypoint_head'):
        head = model.roi_head.get(name) or {}
        if head.get('num_convs'):
            head.num_convs = 1


def _dicts(tree: object) -> Iterator[ConfigDict]:
    if isinstance(tree, dict):
        yield tree
    if isinstance(tree, (dict, list, tuple)):
        for each in tree.values() if isinstance(tree, dict) else tree:
            yield from _dicts(each)


def link_files(dataset: ConfigDict, data_root: Path) -> None:
    """Give a data set of COCO the drawn images under the names it asks for.

    Args:
        dataset (ConfigDict): Config of the data set; ``data_root`` is set, and
            ``indices`` into a larger set are dropped.
        data_root (Path): What the fixture ``scene`` makes, writable.
    """
    dataset.data_root = f'{data_root}/'
    dataset.pop('indices', None)
    images = data_root / dataset.data_prefix.img
    if not images.exists():
        shutil.copytree(data_root / 'val2017', images)
    ann_file = data_root / dataset.ann_file
    if not ann_file.exists():
        content = json.loads((data_root / 'annotations/person_keypoints_val2017.json').read_text())
        if 'image_info' in ann_file.name:
            del content['annotations']
        if dataset.get('keypoints_from') == 'crowdpose.py':
            for ann in content['annotations']:  # 14 keypoints, no masks
                ann.update(keypoints=ann['keypoints'][:42], segmentation=[])
                ann['num_keypoints'] = sum(map(bool, ann['keypoints'][2::3]))
        ann_file.write_text(json.dumps(content))
