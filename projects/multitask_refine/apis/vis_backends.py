"""Experiment trackers of a training: backends of MMEngine's visualizer by short names."""

import importlib.util
from collections.abc import Sequence

from mmengine.config import Config

from multitask_refine.utils.errors import ConfigError

_TYPES = dict(
    tensorboard='TensorboardVisBackend',
    wandb='OfflineWandbVisBackend',
    mlflow='LocalMLflowVisBackend',
    aim='LocalAimVisBackend',
)
# What the backends import when a run begins: those above, and MMEngine's own in a config.
_PACKAGES = {
    **{backend: package for package, backend in _TYPES.items()},
    'WandbVisBackend': 'wandb',
    'MLflowVisBackend': 'mlflow',
    'AimVisBackend': 'aim',
    'ClearMLVisBackend': 'clearml',
    'NeptuneVisBackend': 'neptune',
    'DVCLiveVisBackend': 'dvclive',
}


def add_vis_backends(cfg: Config, names: Sequence[str]) -> None:
    """Add backends to the visualizer of a config, after those that it has.

    Args:
        cfg (Config): The config of a training.
        names (Sequence[str]): 'tensorboard', 'wandb', 'mlflow' or 'aim'. Backends that the
            config has are not added again.
    """
    backends = _list_vis_backends(cfg)
    present = {backend.get('type') for backend in backends}
    added = [_TYPES[name] for name in dict.fromkeys(names) if _TYPES[name] not in present]
    visualizer = cfg.get('visualizer') or dict(type='MultitaskVisualizer')
    cfg.visualizer = dict(
        visualizer, vis_backends=[*backends, *(dict(type=backend) for backend in added)]
    )


def require_vis_backends(cfg: Config) -> None:
    """Refuse backends whose package is not installed.

    Args:
        cfg (Config): The config of a training or test.

    Raises:
        ConfigError: For the first of them.
    """
    for backend in _list_vis_backends(cfg):
        package = _PACKAGES.get(backend.get('type'))
        if package and not importlib.util.find_spec(package):
            raise ConfigError(
                f'visualizer.vis_backends: {backend["type"]} needs the package {package}, which '
                f'is not installed here. Install it by pip install {package}, or go on '
                'without this backend.'
            )


def _list_vis_backends(cfg: Config) -> list[dict]:
    backends = (cfg.get('visualizer') or {}).get('vis_backends') or []
    return [backends] if isinstance(backends, dict) else list(backends)
