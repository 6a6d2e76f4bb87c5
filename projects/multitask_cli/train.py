"""``multitask train``, and ``tools/train.py``."""

from collections.abc import Sequence
from typing import Any

import click

from .command import Command, run, with_pytorch
from .options import parse_cfg_options, run_options


@click.command(
    cls=Command,
    examples=[
        'multitask train CONFIG.py --work-dir work_dirs/run --seed 0',
        'multitask train CONFIG.py --resume',
        'multitask train CONFIG.py --vis-backends tensorboard wandb',
        'multitask train CONFIG.py --cfg-options randomness.seed=1 train_cfg.max_iters=9',
        'bash tools/dist_train.sh CONFIG.py 4',
    ],
)
@click.argument('config')
@click.option(
    '--resume',
    is_flag=False,
    flag_value='auto',
    metavar='[CHECKPOINT]',
    help='Resume from this checkpoint, or from the newest one of the work dir.',
)
@click.option('--amp', is_flag=True, help='Train in mixed precision.')
@click.option('--auto-scale-lr', is_flag=True, help='Scale the learning rate with the batch size.')
@click.option('--seed', type=int, help='Seed of all random numbers.')
@click.option(
    '--vis-backends',
    type=click.Choice(['tensorboard', 'wandb', 'mlflow', 'aim']),
    multiple=True,
    metavar='NAME...',
    help='Also record losses and metrics for these: tensorboard, wandb (offline), mlflow, aim. '
    'Their files are in the work dir.',
)
@click.option('--tensorboard', is_flag=True, help='The same as --vis-backends tensorboard.')
@run_options
@with_pytorch
def command(
    config: str,
    cfg_options: Sequence[str],
    vis_backends: Sequence[str],
    tensorboard: bool,
    **options: Any,
) -> None:
    """Train the model of a CONFIG."""
    from multitask_refine.apis.train import train_model

    train_model(
        config,
        cfg_options=parse_cfg_options(cfg_options),
        vis_backends=[*vis_backends, *(['tensorboard'] if tensorboard else [])],
        **options,
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Run ``tools/train.py`` and return its exit status."""
    return run(command, argv)
