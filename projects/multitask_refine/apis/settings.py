"""What the inferencer takes from config and checkpoint."""
from pathlib import Path
from typing import List, Optional, Tuple, Union

import torch
from mmdet.registry import DATASETS
from mmengine.config import Config
from torch import nn

_JOINT_SHIFT = 0.5  # the default of MultitaskCocoMetric


def load_config(config: Union[str, Path, Config]) -> Config:
    """Read a config file, or take a config as it is.

    Raises:
        FileNotFoundError: If there is no such file.
    """
    if isinstance(config, Config):
        return config
    if not Path(config).is_file():
        raise FileNotFoundError(
            f'{config}: there is no such config file; the project\'s own are '
            'in configs/multitask_refine/')
    return Config.fromfile(config)


def choose_device(name: str) -> str:
    """Turn 'auto' into a device, and refuse CUDA where there is none.

    Raises:
        ValueError: If the device is not there.
    """
    has_cuda = torch.cuda.is_available()
    if name == 'auto':
        return 'cuda' if has_cuda else 'cpu'
    if name.startswith('cuda') and not has_cuda:
        raise ValueError(
            f'device: {name} was asked for, but torch {torch.__version__} '
            "finds no CUDA device here. Expected 'cpu' or 'auto'")
    return name


def split_pipeline(cfg: Config) -> Tuple[dict, List[dict]]:
    """Take the test pipeline apart.

    Args:
        cfg (Config): Has ``test_dataloader.dataset.pipeline``.

    Returns:
        tuple[dict, list[dict]]: The step that loads the image, and the
        others but for those that load annotations.

    Raises:
        ValueError: If no step loads an image.
    """
    steps = cfg.test_dataloader.dataset.pipeline
    if not steps or not steps[0]['type'].endswith('LoadImageFromFile'):
        raise ValueError(
            'test_dataloader.dataset.pipeline: expected LoadImageFromFile as '
            f'the first step, found {[step["type"] for step in steps]}')
    rest = [
        step for step in steps[1:] if not step['type'].endswith('Annotations')
    ]
    return steps[0], rest


def find_dataset_meta(cfg: Config, checkpoint: dict) -> dict:
    """Find the names of classes and joints, the skeleton and its colours.

    Args:
        cfg (Config): Its test dataset knows them.
        checkpoint (dict): One saved in training knows them, too, of the data
            that it was trained on; this is taken first.

    Returns:
        dict: In mmpose's terms, e.g. ``skeleton_links`` and ``sigmas``.
    """
    saved = checkpoint.get('meta', {}).get('dataset_meta') or {}
    if 'classes' in saved and 'skeleton_links' in saved:
        return dict(saved)
    dataset = cfg.test_dataloader.dataset
    return DATASETS.get(dataset.type)._load_metainfo(dataset.get('metainfo'))


def find_keypoint_head(model: nn.Module) -> Optional[nn.Module]:
    """The keypoint head of a network, if it has one."""
    return getattr(getattr(model, 'roi_head', None), 'keypoint_head', None)


def check_joints(model: nn.Module, meta: dict) -> None:
    """Refuse a meta file of other joints than the network's.

    Raises:
        ValueError: If their numbers differ.
    """
    head = find_keypoint_head(model)
    named = meta.get('num_keypoints', 0)
    if head is not None and head.num_keypoints != named:
        raise ValueError(
            f'the network has {head.num_keypoints} joints, the dataset\'s '
            f'meta names {named}. Set metainfo.from_file of '
            'test_dataloader.dataset to the meta file of the joints that it '
            'was trained with.')


def find_joint_shift(cfg: Config) -> float:
    """How much more the network's joints count than COCO's files, in pixels,
    as the config's ``MultitaskCocoMetric`` says."""
    evaluators = cfg.get('test_evaluator') or []
    if isinstance(evaluators, dict):
        evaluators = [evaluators]
    shifts = [each.get('joint_shift', _JOINT_SHIFT) for each in evaluators]
    return shifts[0] if shifts else _JOINT_SHIFT
