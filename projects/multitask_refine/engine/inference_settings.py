"""Settings that the inferencer takes from config and checkpoint."""

import torch
from mmdet.registry import DATASETS
from mmengine.config import Config
from torch import nn

from multitask_refine.engine.consistency import check_consistency
from multitask_refine.utils.config import list_evaluators
from multitask_refine.utils.errors import ConfigError

_KEYPOINT_SHIFT = 0.5  # the default of MultitaskCocoMetric


def choose_device(name: str) -> str:
    """Resolve 'auto', and refuse CUDA where it is not available.

    Args:
        name (str): 'auto', 'cpu', 'cuda', 'cuda:1' and so on.

    Returns:
        str: The device.

    Raises:
        ConfigError: If there is no device of this name, or it is not available.
    """
    has_cuda = torch.cuda.is_available()
    if name == 'auto':
        return 'cuda' if has_cuda else 'cpu'
    try:
        kind = torch.device(name).type
    except RuntimeError:
        raise ConfigError(
            f"device: expected 'cpu', 'cuda', 'cuda:NUMBER' or 'auto', found {name!r}"
        ) from None
    if kind == 'cuda' and not has_cuda:
        raise ConfigError(
            f'device: expected cpu or auto, because torch {torch.__version__} '
            f'finds no CUDA device here, found {name}.'
        )
    return name


def split_pipeline(cfg: Config) -> tuple[dict, list[dict]]:
    """Separate the loading of images from the rest of the test pipeline.

    Args:
        cfg (Config): Has ``test_dataloader.dataset.pipeline``.

    Returns:
        tuple[dict, list[dict]]: The transform that loads the image, and the others except those
        that load annotations.

    Raises:
        ConfigError: If no transform loads an image.
    """
    pipeline = cfg.test_dataloader.dataset.pipeline
    if not pipeline or not pipeline[0]['type'].endswith('LoadImageFromFile'):
        raise ConfigError(
            'test_dataloader.dataset.pipeline: expected LoadImageFromFile as '
            f'the first transform, found {[each["type"] for each in pipeline]}'
        )
    return pipeline[0], [each for each in pipeline[1:] if not each['type'].endswith('Annotations')]


def find_dataset_meta(cfg: Config, checkpoint: dict, model: nn.Module) -> dict:
    """Find classes, keypoints, skeleton and colors.

    Args:
        cfg (Config): Its test dataset defines them.
        checkpoint (dict): A checkpoint of a training stores those of its data, which take
            precedence.
        model (nn.Module): The model, whose heads must match.

    Returns:
        dict: In MMPose's terms, e.g. ``skeleton_links`` and ``sigmas``.

    Raises:
        ConfigError: If they contradict the heads, or a checkpoint with only some of them
            contradicts the config.
    """
    saved = checkpoint.get('meta', {}).get('dataset_meta') or {}
    if 'classes' in saved and 'skeleton_links' in saved:
        check_consistency(model, {'the checkpoint': saved})
        return dict(saved)
    dataset = cfg.test_dataloader.dataset
    meta = DATASETS.get(dataset.type)._load_metainfo(dataset.get('metainfo'))
    check_consistency(model, {'test_dataloader.dataset': meta}, saved=saved)
    return meta


def find_keypoint_shift(cfg: Config) -> float:
    """Return the shift from COCO's keypoint coordinates to the model's, in image pixels.

    Args:
        cfg (Config): Its ``MultitaskCocoMetric`` may set it.
    """
    evaluators = list_evaluators(cfg)
    evaluator = evaluators[0] if evaluators else {}
    # joint_shift: in configs of earlier versions, also those inside checkpoints
    return evaluator.get('keypoint_shift', evaluator.get('joint_shift', _KEYPOINT_SHIFT))
