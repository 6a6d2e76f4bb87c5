"""Train a model from a config."""

from collections.abc import Sequence
from typing import Any

import torch
from mmengine.config import Config
from mmengine.device import get_device
from mmengine.runner import Runner

from multitask_refine.engine.hooks.resume_hook import find_latest_checkpoint
from multitask_refine.utils.config import load_config, require_settings
from multitask_refine.utils.errors import ConfigError

from .vis_backends import add_vis_backends, require_vis_backends


def train_model(config: str, **options: Any) -> None:
    """Train the model of a config.

    Args:
        config (str): The config file.
        options: As of :func:`configure_training`.

    Raises:
        FileNotFoundError: If the config does not exist.
        ConfigError: If the config cannot be trained, or an option does not fit it.
    """
    cfg = configure_training(config, **options)
    if cfg.optim_wrapper.get('type') == 'AmpOptimWrapper' and get_device() == 'cpu':
        raise ConfigError(
            '--amp (optim_wrapper.type=AmpOptimWrapper): expected a GPU, but '
            f'torch {torch.__version__} finds none here. Train without it, or in '
            'bfloat16: --cfg-options optim_wrapper.type=Bfloat16OptimWrapper'
        )
    Runner.from_cfg(cfg).train()


def configure_training(
    config: str,
    *,
    resume: str | None = None,
    amp: bool = False,
    auto_scale_lr: bool = False,
    seed: int | None = None,
    vis_backends: Sequence[str] = (),
    **options: Any,
) -> Config:
    """Read a config and turn the training options into its settings.

    Args:
        config (str): The config file.
        resume (str, optional): Checkpoint to resume from; 'auto' is the newest one of the work
            dir.
        amp (bool): Train in mixed precision. Defaults to False.
        auto_scale_lr (bool): Scale the learning rate with the batch size. Defaults to False.
        seed (int, optional): Seed of all random numbers.
        vis_backends (Sequence[str]): As of ``add_vis_backends``.
        options: As of ``load_config``.

    Returns:
        Config: Ready for ``Runner.from_cfg``.

    Raises:
        FileNotFoundError: If the config does not exist.
        ConfigError: If an option does not fit the config or the installation.
    """
    cfg = load_config(config, **options)
    require_settings(cfg, 'model', 'train_dataloader', 'train_cfg', 'optim_wrapper')
    if seed is not None:
        cfg.randomness = dict(cfg.get('randomness') or {}, seed=seed)
    if amp:
        cfg.optim_wrapper.type = 'AmpOptimWrapper'
        cfg.optim_wrapper.loss_scale = 'dynamic'
    if auto_scale_lr:
        if 'base_batch_size' not in (cfg.get('auto_scale_lr') or {}):
            raise ConfigError(
                f'{config}: --auto-scale-lr needs '
                'auto_scale_lr = dict(base_batch_size=...) in the config: the '
                'batch size that its learning rate was chosen for'
            )
        cfg.auto_scale_lr.enable = True
    if resume:
        # Here and not in ResumeHook, which does not run load_from if it finds nothing.
        found = find_latest_checkpoint(cfg.work_dir) if resume == 'auto' else resume
        cfg.resume = found is not None
        cfg.load_from = found or cfg.get('load_from')
    if vis_backends:
        add_vis_backends(cfg, vis_backends)
    require_vis_backends(cfg)
    return cfg
