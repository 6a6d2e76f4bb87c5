"""Train a model from a config."""

import argparse
import importlib.util

import torch
from mmengine.config import Config
from mmengine.device import get_device
from mmengine.runner import Runner

from multitask_refine.engine.hooks.resume_hook import find_latest_checkpoint
from multitask_refine.utils.config import add_common_options, load_config, require_settings
from multitask_refine.utils.errors import ConfigError, explained_errors


def parse_args(argv: list[str] | None) -> argparse.Namespace:
    """Parse the command line of ``tools/train.py``."""
    parser = argparse.ArgumentParser(description=__doc__)
    add_common_options(parser)
    parser.add_argument(
        '--resume',
        nargs='?',
        const='auto',
        help='resume from this checkpoint, or from the newest one of the work dir',
    )
    parser.add_argument('--amp', action='store_true', help='train in mixed precision')
    parser.add_argument(
        '--auto-scale-lr', action='store_true', help='scale the learning rate with the batch size'
    )
    parser.add_argument('--seed', type=int, help='seed of all random numbers')
    parser.add_argument(
        '--tensorboard',
        action='store_true',
        help='also write TensorBoard event files, into the work dir',
    )
    return parser.parse_args(argv)


def apply_options(cfg: Config, args: argparse.Namespace) -> None:
    """Turn the training options into settings of the config.

    Args:
        cfg (Config): The config; modified.
        args (argparse.Namespace): From :func:`parse_args`.

    Raises:
        ConfigError: If an option does not fit the config or the installation.
    """
    if args.seed is not None:
        cfg.randomness = dict(cfg.get('randomness') or {}, seed=args.seed)
    if args.amp:
        cfg.optim_wrapper.type = 'AmpOptimWrapper'
        cfg.optim_wrapper.loss_scale = 'dynamic'
    if args.auto_scale_lr:
        if 'base_batch_size' not in (cfg.get('auto_scale_lr') or {}):
            raise ConfigError(
                f'{args.config}: --auto-scale-lr needs '
                'auto_scale_lr = dict(base_batch_size=...) in the config: the '
                'batch size that its learning rate was chosen for'
            )
        cfg.auto_scale_lr.enable = True
    if args.resume:
        # Here and not in ResumeHook, which does not run load_from if it finds nothing.
        found = find_latest_checkpoint(cfg.work_dir) if args.resume == 'auto' else args.resume
        cfg.resume = found is not None
        cfg.load_from = found or cfg.get('load_from')
    if args.tensorboard:
        if not importlib.util.find_spec('tensorboard'):
            raise ConfigError(
                '--tensorboard needs the package tensorboard, which is not '
                'installed here: run make setup, or install it with pip'
            )
        visualizer = dict(cfg.get('visualizer') or dict(type='MultitaskVisualizer'))
        visualizer['vis_backends'] = [
            *(visualizer.get('vis_backends') or ()),
            dict(type='TensorboardVisBackend'),
        ]
        cfg.visualizer = visualizer


@explained_errors()
def main(argv: list[str] | None = None) -> int:
    """Run ``tools/train.py``.

    Args:
        argv (list[str], optional): Arguments. Defaults to those of the process.

    Returns:
        int: The exit status.
    """
    args = parse_args(argv)
    cfg = load_config(args)
    require_settings(cfg, 'model', 'train_dataloader', 'train_cfg', 'optim_wrapper')
    apply_options(cfg, args)
    if cfg.optim_wrapper.get('type') == 'AmpOptimWrapper' and get_device() == 'cpu':
        raise ConfigError(
            '--amp (optim_wrapper.type=AmpOptimWrapper): expected a GPU, but '
            f'torch {torch.__version__} finds none here. Train without it.'
        )
    Runner.from_cfg(cfg).train()
    return 0
