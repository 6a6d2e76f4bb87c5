"""What the command line tools have in common: options and config."""

import os
from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import List, Optional, Union

from mmengine.config import Config, DictAction

from multitask_refine.utils.errors import ConfigError, ExplainedError

# Those that MMEngine itself knows how to leave out.
_MMENGINE_HOOKS = (
    'runtime_info',
    'timer',
    'sampler_seed',
    'logger',
    'param_scheduler',
    'checkpoint',
)
_DICTS = (
    'model',
    'train_dataloader',
    'val_dataloader',
    'test_dataloader',
    'train_cfg',
    'val_cfg',
    'test_cfg',
    'optim_wrapper',
    'default_hooks',
    'env_cfg',
    'randomness',
    'visualizer',
    'log_processor',
    'auto_scale_lr',
    'tta_model',
)
_TOGETHER = (
    ('train_dataloader', 'train_cfg', 'optim_wrapper'),
    ('val_dataloader', 'val_cfg', 'val_evaluator'),
    ('test_dataloader', 'test_cfg', 'test_evaluator'),
)
_DICTS_OR_LISTS = ('val_evaluator', 'test_evaluator', 'param_scheduler', 'custom_hooks')


class SettingsAction(DictAction):
    """MMEngine's ``DictAction``, whose parser fails without a sentence."""

    def __call__(
        self,
        parser: ArgumentParser,
        namespace: Namespace,
        values: list,
        option_string: Optional[str] = None,
    ) -> None:
        try:
            super().__call__(parser, namespace, values, option_string)
        except (AssertionError, RecursionError, ValueError):
            parser.error(
                f'{option_string}: expected NAME=VALUE with numbers, texts, '
                'and lists or tuples of them, such as '
                'model.backbone.depth=101 or key="[a,b]", found '
                f'{" ".join(values)}. Put other values into a config that '
                'inherits this one by _base_.'
            )


def add_common_options(parser: ArgumentParser) -> None:
    """Add the options that OpenMMLab's tools share."""
    parser.add_argument('config', help='config file')
    parser.add_argument(
        '--work-dir', help='folder of logs and results (default: work_dirs/CONFIG_NAME)'
    )
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=SettingsAction,
        help='settings that override the config, e.g. model.backbone.depth=101 or key="[a,b]"',
    )
    parser.add_argument(
        '--launcher',
        choices=['none', 'pytorch', 'slurm', 'mpi'],
        default='none',
        help='how the processes of a distributed run are started',
    )
    # torchrun sets LOCAL_RANK; older launchers pass either spelling.
    parser.add_argument('--local_rank', '--local-rank', type=int, default=0)


def load_config(args: Namespace) -> Config:
    """Read the config file and apply the common options.

    Args:
        args (Namespace): Has what :func:`add_common_options` adds.

    Returns:
        Config: With ``work_dir`` and ``launcher`` set, ready for
        ``Runner.from_cfg``. For a network without a mask head the pipelines
        load no masks.

    Raises:
        FileNotFoundError, ConfigError: As :func:`read_config`.
    """
    cfg = read_config(args.config, args.cfg_options)
    for names in _TOGETHER:
        missing = [name for name in names if cfg.get(name) is None]
        if missing and len(missing) < len(names):
            raise ConfigError(
                f'{args.config}: {", ".join(names)}: expected all of them, '
                f'or None for all, found None for {", ".join(missing)}.'
            )
    os.environ.setdefault('LOCAL_RANK', str(args.local_rank))
    if not ((cfg.get('model') or {}).get('roi_head') or {}).get('mask_head'):
        for split in ('train', 'val', 'test'):
            _skip_masks(cfg.get(f'{split}_dataloader'))
    cfg.launcher = args.launcher
    cfg.work_dir = (
        args.work_dir or cfg.get('work_dir') or str(Path('work_dirs') / Path(args.config).stem)
    )
    return cfg


def read_config(path: Union[str, Path], options: Optional[dict] = None) -> Config:
    """Read a config file and override some of its settings.

    What MMEngine and PyTorch refuse although its meaning is clear is put
    into their terms: ``None`` for a hook that is not one of MMEngine's own
    removes that hook, too, and without loader workers nothing is kept or
    fetched ahead by them.

    Args:
        path (str | Path): The file.
        options (dict, optional): Settings by their dotted names.

    Returns:
        Config: The config.

    Raises:
        FileNotFoundError: If there is no such file.
        ConfigError: If it cannot be read, an option does not fit, or a
            setting is no dict where one is needed.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(
            f"{path}: there is no such config file; the project's own are in configs/"
        )
    # A config is a program: whatever it raises is a fault of its text.
    try:
        cfg = Config.fromfile(path)
    except ExplainedError:
        raise
    except Exception as error:
        raise ConfigError(
            f'{path}: expected a config that MMEngine can read, found '
            f'{_describe(error)}. Correct this file or the one of its _base_ '
            'that the message names.'
        ) from None
    try:
        cfg.merge_from_dict(options or {})
    except Exception as error:
        raise ConfigError(
            f'--cfg-options {" ".join(options)}: expected names and values '
            f'that fit into {path}, found {_describe(error)}. See the config '
            'as it is read: mim run mmdet print_config CONFIG'
        ) from None
    _check_kinds(cfg, path)
    hooks = cfg.get('default_hooks') or {}
    for name in [name for name in hooks if hooks[name] is None]:
        if name not in _MMENGINE_HOOKS:
            del hooks[name]
    for name in ('train_dataloader', 'val_dataloader', 'test_dataloader'):
        loader = cfg.get(name) or {}
        if not loader.get('num_workers', 0):
            loader.pop('persistent_workers', None)
            loader.pop('prefetch_factor', None)
    return cfg


def require_settings(cfg: Config, *names: str) -> None:
    """Refuse a config without what a tool needs.

    Args:
        cfg (Config): The config.
        names (str): Of top-level settings.

    Raises:
        ConfigError: Names the first that is missing, None or empty.
    """
    for name in names:
        if not cfg.get(name):
            raise ConfigError(
                f'{cfg.filename}: {name}: expected a dict, found '
                f'{cfg.get(name)}. Set it, or name a config of '
                'configs/_base_/ that has it in _base_.'
            )


def list_evaluators(cfg: Config, split: str = 'test') -> List[dict]:
    """The metrics' configs of ``<split>_evaluator``, one or a list of them in
    the config, those of the project's own type first."""
    found = cfg.get(f'{split}_evaluator') or []
    if isinstance(found, dict):  # MultiDatasetsEvaluator has several
        found = found.get('metrics', [found])
    found = [found] if isinstance(found, dict) else list(found)
    return sorted(found, key=lambda each: each.get('type') != 'MultitaskCocoMetric')


def _check_kinds(cfg: Config, path: Union[str, Path]) -> None:
    """Refuse a text or a list where a setting is a dict.

    Raises:
        ConfigError: Names the first such setting.
    """
    hooks = cfg.get('default_hooks')
    settings = {name: cfg.get(name) for name in (*_DICTS, *_DICTS_OR_LISTS)}
    if isinstance(hooks, dict):
        settings.update({f'default_hooks.{name}': hook for name, hook in hooks.items()})
    for name in ('train_dataloader', 'val_dataloader', 'test_dataloader'):
        if isinstance(settings[name], dict):
            for part in ('dataset', 'sampler'):
                if part not in settings[name]:
                    raise ConfigError(
                        f'{path}: {name}: expected a {part}=dict(type=...), '
                        f'found only {sorted(settings[name])}. Add it.'
                    )
                settings[f'{name}.{part}'] = settings[name][part]
    for name, value in settings.items():
        entries = (
            value if (name in _DICTS_OR_LISTS and isinstance(value, (list, tuple))) else [value]
        )
        for entry in entries:
            if entry is not None and not isinstance(entry, dict):
                raise ConfigError(
                    f'{path}: {name}: expected a dict'
                    f'{" or a list of them" if name in _DICTS_OR_LISTS else ""}'
                    f', found {str(entry)[:60]!r} ({type(entry).__name__}). '
                    'Write it as dict(...); with --cfg-options name a setting '
                    f'inside it, such as {name}.type=NAME.'
                )


def _describe(error: Exception) -> str:
    return f'{type(error).__name__}: {error}'


def _skip_masks(part: object) -> None:
    """Switch off the loading of masks in all pipelines of a dataloader's
    config, also in those of wrapped datasets."""
    if isinstance(part, dict):
        if part.get('type') == 'LoadMultitaskAnnotations':
            part.setdefault('with_mask', False)
        part = list(part.values())
    if isinstance(part, (list, tuple)):
        for each in part:
            _skip_masks(each)
