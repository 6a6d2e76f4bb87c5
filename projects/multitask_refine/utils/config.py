"""Read configs, and the settings of command lines."""

import os
from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

from mmengine.config import Config, DictAction

from .errors import ConfigError, ExplainedError

_DATALOADERS = ('train_dataloader', 'val_dataloader', 'test_dataloader')
# Settings that are dicts, or a list of dicts.
_DICTS = (
    *_DATALOADERS,
    'model',
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
_DICTS_OR_LISTS = ('val_evaluator', 'test_evaluator', 'param_scheduler', 'custom_hooks')
# Settings of which MMEngine expects all or none.
_TOGETHER = (
    ('train_dataloader', 'train_cfg', 'optim_wrapper'),
    ('val_dataloader', 'val_cfg', 'val_evaluator'),
    ('test_dataloader', 'test_cfg', 'test_evaluator'),
)
# Default hooks that MMEngine itself accepts as None.
_MMENGINE_HOOKS = (
    'runtime_info',
    'timer',
    'sampler_seed',
    'logger',
    'param_scheduler',
    'checkpoint',
)


class SettingsAction(DictAction):
    """MMEngine's ``DictAction`` with an error message for values that it cannot parse."""

    def __call__(
        self,
        parser: ArgumentParser,
        namespace: Namespace,
        values: list,
        option_string: str | None = None,
    ) -> None:
        """Parse NAME=VALUE arguments into a dict."""
        try:
            super().__call__(parser, namespace, values, option_string)
        except (AssertionError, RecursionError, ValueError):
            parser.error(
                f'{option_string}: expected NAME=VALUE with numbers, strings, '
                'and lists or tuples of them, such as '
                'model.backbone.depth=101 or key="[a,b]", found '
                f'{" ".join(values)}. Put other values into a config that '
                'inherits from this one by _base_.'
            )


def parse_settings(pairs: Sequence[str]) -> dict[str, Any]:
    """Parse settings of a command line.

    Args:
        pairs (Sequence[str]): NAME=VALUE arguments.

    Returns:
        dict[str, Any]: The values by their dotted names.

    Raises:
        ConfigError: If a value cannot be parsed.
    """
    parser = _RaisingParser(add_help=False)
    parser.add_argument('--cfg-options', nargs='*', action=SettingsAction, default={})
    return parser.parse_args(['--cfg-options', *pairs]).cfg_options


class _RaisingParser(ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise ConfigError(message)


def load_config(
    config: str,
    cfg_options: dict | None = None,
    work_dir: str | None = None,
    launcher: str = 'none',
    local_rank: int = 0,
) -> Config:
    """Read a config file and apply the options that training and test share.

    Args:
        config (str): The file.
        cfg_options (dict, optional): Settings by their dotted names.
        work_dir (str, optional): Folder of logs and results. Defaults to that of the config,
            else ``work_dirs/CONFIG_NAME``.
        launcher (str): Launcher of the processes of a distributed run: 'none', 'pytorch',
            'slurm' or 'mpi'. Defaults to 'none'.
        local_rank (int): Rank on this machine, where the launcher does not set ``LOCAL_RANK``.
            Defaults to 0.

    Returns:
        Config: With ``work_dir`` and ``launcher``, ready for ``Runner.from_cfg``. The pipelines
        load no masks for a model without a mask head.

    Raises:
        FileNotFoundError: As :func:`read_config`.
        ConfigError: As :func:`read_config`, or if only some of the settings of a loop are None.
    """
    cfg = read_config(config, cfg_options)
    for names in _TOGETHER:
        missing = [name for name in names if cfg.get(name) is None]
        if missing and len(missing) < len(names):
            raise ConfigError(
                f'{config}: {", ".join(names)}: expected all of them, '
                f'or None for all, found None for {", ".join(missing)}.'
            )
    os.environ.setdefault('LOCAL_RANK', str(local_rank))
    if not ((cfg.get('model') or {}).get('roi_head') or {}).get('mask_head'):
        for name in _DATALOADERS:
            _disable_masks(cfg.get(name))
    cfg.launcher = launcher
    cfg.work_dir = work_dir or cfg.get('work_dir') or str(Path('work_dirs') / Path(config).stem)
    return cfg


def read_config(path: str | Path, options: dict | None = None) -> Config:
    """Read a config file and override some of its settings.

    Some settings that MMEngine and PyTorch refuse although their meaning is clear are
    translated: ``None`` removes any default hook, and without loader workers
    ``persistent_workers`` and ``prefetch_factor`` are dropped.

    Args:
        path (str | Path): The file.
        options (dict, optional): Settings by their dotted names.

    Returns:
        Config: The config.

    Raises:
        FileNotFoundError: If the file does not exist.
        ConfigError: If it cannot be read, an option does not fit, or a setting that must be a
            dict is none.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(
            f"{path}: there is no such config file; the project's own are in configs/"
        )
    try:
        cfg = Config.fromfile(path)
    except ExplainedError:
        raise
    except Exception as error:  # a config is a program, which can raise anything
        if 'projects.multitask_refine' in Path(path).read_text(errors='replace'):
            raise ConfigError(
                f"{path}: custom_imports: expected the package 'multitask_refine', found its "
                "former name 'projects.multitask_refine'. Replace it; CHANGELOG.md lists under "
                'Migration what else has another name.'
            ) from None
        raise ConfigError(
            f'{path}: expected a config that MMEngine can read, found '
            f'{type(error).__name__}: {error}. Correct this file or the one of its '
            '_base_ that the message names.'
        ) from None
    try:
        cfg.merge_from_dict(options or {})
    except Exception as error:
        raise ConfigError(
            f'--cfg-options {" ".join(options)}: expected names and values '
            f'that fit into {path}, found {type(error).__name__}: {error}. To see the '
            'whole config: mim run mmdet print_config CONFIG'
        ) from None
    _check_types(cfg, path)
    hooks = cfg.get('default_hooks') or {}
    for name in [name for name in hooks if hooks[name] is None]:
        if name not in _MMENGINE_HOOKS:
            del hooks[name]
    for name in _DATALOADERS:
        loader = cfg.get(name) or {}
        if not loader.get('num_workers', 0):
            loader.pop('persistent_workers', None)
            loader.pop('prefetch_factor', None)
    return cfg


def require_settings(cfg: Config, *names: str) -> None:
    """Refuse a config without settings that a tool needs.

    Args:
        cfg (Config): The config.
        names (str): Names of top-level settings.

    Raises:
        ConfigError: For the first one that is missing, None or empty.
    """
    for name in names:
        if not cfg.get(name):
            raise ConfigError(
                f'{cfg.filename}: {name}: expected a dict, found '
                f'{cfg.get(name)}. Set it, or add a config of '
                'configs/_base_/ that has it to _base_.'
            )


def list_evaluators(cfg: Config, split: str = 'test') -> list[dict]:
    """List the configs of the metrics of a split, the project's own metrics first.

    Args:
        cfg (Config): ``<split>_evaluator`` is one metric, a list of them, or an evaluator of
            several.
        split (str): 'val' or 'test'. Defaults to 'test'.
    """
    found = cfg.get(f'{split}_evaluator') or []
    if isinstance(found, dict):  # MultiDatasetsEvaluator has several
        found = found.get('metrics', [found])
    found = [found] if isinstance(found, dict) else list(found)
    return sorted(found, key=lambda each: each.get('type') != 'MultitaskCocoMetric')


def _check_types(cfg: Config, path: str | Path) -> None:
    """Refuse a string or a list where a setting must be a dict."""
    hooks = cfg.get('default_hooks')
    settings = {name: cfg.get(name) for name in (*_DICTS, *_DICTS_OR_LISTS)}
    if isinstance(hooks, dict):
        settings.update({f'default_hooks.{name}': hook for name, hook in hooks.items()})
    for name in _DATALOADERS:
        if isinstance(settings[name], dict):
            for part in ('dataset', 'sampler'):
                if part not in settings[name]:
                    raise ConfigError(
                        f'{path}: {name}: expected {part}=dict(type=...), '
                        f'found only {sorted(settings[name])}. Add it.'
                    )
                settings[f'{name}.{part}'] = settings[name][part]
    for name, value in settings.items():
        is_list = name in _DICTS_OR_LISTS and isinstance(value, (list, tuple))
        for entry in value if is_list else [value]:
            if entry is not None and not isinstance(entry, dict):
                raise ConfigError(
                    f'{path}: {name}: expected a dict'
                    f'{" or a list of them" if name in _DICTS_OR_LISTS else ""}'
                    f', found {str(entry)[:60]!r} ({type(entry).__name__}). '
                    'Write it as dict(...); with --cfg-options set a value '
                    f'inside it, such as {name}.type=NAME.'
                )


def _disable_masks(node: object) -> None:
    """Switch off mask loading in all pipelines of a dataloader, also of wrapped datasets."""
    if isinstance(node, dict):
        if node.get('type') == 'LoadMultitaskAnnotations':
            node.setdefault('with_mask', False)
        node = list(node.values())
    if isinstance(node, (list, tuple)):
        for each in node:
            _disable_masks(each)
