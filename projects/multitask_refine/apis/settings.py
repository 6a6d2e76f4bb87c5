"""What the inferencer takes from config and checkpoint."""

from pathlib import Path
from typing import List, Optional, Tuple, Union

import torch
from mmdet.registry import DATASETS
from mmengine.config import Config
from torch import nn

from multitask_refine.engine import check_consistency, list_evaluators, read_config
from multitask_refine.utils.errors import ConfigError

_JOINT_SHIFT = 0.5  # the default of MultitaskCocoMetric


def load_config(config: Union[str, Path, Config]) -> Config:
    """Read a config file, or take a config as it is.

    Raises:
        FileNotFoundError, ConfigError: As ``read_config``.
    """
    return config if isinstance(config, Config) else read_config(config)


def choose_device(name: str) -> str:
    """Turn 'auto' into a device, and refuse CUDA where there is none.

    Raises:
        ConfigError: If the device is not there.
    """
    has_cuda = torch.cuda.is_available()
    if name == 'auto':
        return 'cuda' if has_cuda else 'cpu'
    if name.startswith('cuda') and not has_cuda:
        raise ConfigError(
            f'device: {name} was asked for, but torch {torch.__version__} '
            "finds no CUDA device here. Expected 'cpu' or 'auto'"
        )
    return name


def split_pipeline(cfg: Config) -> Tuple[dict, List[dict]]:
    """Take the test pipeline apart.

    Args:
        cfg (Config): Has ``test_dataloader.dataset.pipeline``.

    Returns:
        tuple[dict, list[dict]]: The step that loads the image, and the
        others but for those that load annotations.

    Raises:
        ConfigError: If no step loads an image.
    """
    steps = cfg.test_dataloader.dataset.pipeline
    if not steps or not steps[0]['type'].endswith('LoadImageFromFile'):
        raise ConfigError(
            'test_dataloader.dataset.pipeline: expected LoadImageFromFile as '
            f'the first step, found {[step["type"] for step in steps]}'
        )
    rest = [step for step in steps[1:] if not step['type'].endswith('Annotations')]
    return steps[0], rest


def find_dataset_meta(cfg: Config, checkpoint: dict, model: nn.Module) -> dict:
    """Find the names of classes and keypoints, the skeleton and its colours.

    Args:
        cfg (Config): Its test dataset knows them.
        checkpoint (dict): One saved in training knows them, too, of the data
            that it was trained on; this is taken first.
        model (nn.Module): The network, whose heads must fit.

    Returns:
        dict: In mmpose's terms, e.g. ``skeleton_links`` and ``sigmas``.

    Raises:
        ConfigError: If they contradict the heads, or a checkpoint that only
            knows some of them contradicts the config.
    """
    saved = checkpoint.get('meta', {}).get('dataset_meta') or {}
    if 'classes' in saved and 'skeleton_links' in saved:
        check_consistency(model, {'the checkpoint': saved})
        return dict(saved)
    dataset = cfg.test_dataloader.dataset
    meta = DATASETS.get(dataset.type)._load_metainfo(dataset.get('metainfo'))
    check_consistency(model, {'test_dataloader.dataset': meta}, saved=saved)
    return meta


def find_keypoint_head(model: nn.Module) -> Optional[nn.Module]:
    """The keypoint head of a network, if it has one."""
    return getattr(getattr(model, 'roi_head', None), 'keypoint_head', None)


def find_joint_shift(cfg: Config) -> float:
    """How much more the network's joints count than COCO's files, in pixels,
    as the config's ``MultitaskCocoMetric`` says."""
    shifts = [each.get('joint_shift', _JOINT_SHIFT) for each in list_evaluators(cfg)]
    return shifts[0] if shifts else _JOINT_SHIFT
