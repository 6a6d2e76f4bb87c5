"""From the name of a model to a config and a checkpoint of this project."""

import hashlib
import json
from pathlib import Path

from mmengine.config import Config
from torch import Tensor

from multitask_refine import converters
from multitask_refine.converters.conversion import fill, plan
from multitask_refine.converters.weights_file import (
    Checkpoint,
    ConversionError,
    read_checkpoint,
    save,
)
from multitask_refine.finetune import find_base
from multitask_refine.utils.config import read_config
from multitask_refine.utils.errors import ConfigError
from multitask_refine.utils.safe_checkpoint import load_checkpoint_file
from multitask_runtime.model_index import ModelEntry, find_model
from multitask_runtime.utils.files import atomic_write

from .cache import cache_folder
from .download import check_digest, download_file

_ROOT = Path(__file__).resolve().parents[3]
_MASK_PARTS = {'backbone.': 'mask_backbone.', 'neck.': 'mask_neck.'}


def prepare_model(name: str, show_progress: bool = True) -> tuple[str, str]:
    """Return config and checkpoint of a model of the index.

    The published file is downloaded and converted at the first call; later ones take the converted
    file from the cache.

    Args:
        name (str): Name of the model, see ``multitask models``.
        show_progress (bool): Whether to show the progress on stderr. Defaults to True.

    Returns:
        tuple[str, str]: Paths of a config and of all weights of its model.

    Raises:
        UnknownModelError: If no model has this name.
        DownloadError: If the file cannot be downloaded, or is not what its publisher says.
        ConversionError: If the file is not of the network that the index says.
        ConfigError: If the configs are not there.
    """
    entry = find_model(name)
    config = _ROOT / entry.config
    if not config.is_file():
        raise ConfigError(
            f'{config}: expected the config of {name}, found no such file. Models are run by name '
            "from a checkout of the project, which has the configs: install it there by 'make "
            "setup' or 'pip install -e .'."
        )
    if entry.combines:
        return _combine(name, config, entry.combines, show_progress)
    if entry.url is None:
        base, _ = find_base()
        return str(config), str(base)
    source = cache_folder() / name / Path(entry.url).name
    converted = source.with_name(f'converted-{_conversion_key(config, entry.url)}.pth')
    if not converted.is_file():
        if source.is_file():  # perhaps put there by hand
            check_digest(source, str(entry.checksum))
        else:
            if show_progress:
                print(f'{name}: {entry.url} (license: {entry.license})')
            download_file(entry.url, source, str(entry.checksum), show_progress)
        checkpoint = _read(source, entry)
        layout = converters.CONVERTERS[entry.framework](checkpoint)
        conversion = plan(checkpoint, layout, str(config))
        if conversion.untrained:
            raise ConversionError(
                f'{source}: not converted: expected all weights of {config.name}, found none for '
                f'{", ".join(conversion.untrained[:3])} and so on. It is another file than the '
                'publisher says: remove it.'
            )
        save(str(converted), fill(conversion))
    return str(config), str(converted)


def _read(source: Path, entry: ModelEntry) -> Checkpoint:
    """Read a published file.

    MMDetection says that files of its version 2 may be of trainings that began before it, whose
    version is then still in ``meta``. The converter goes by the names of the weights without it.
    """
    checkpoint = read_checkpoint(str(source))
    return checkpoint._replace(meta={}) if entry.framework == 'mmdet' else checkpoint


def _conversion_key(config: Path, url: str) -> str:
    """Return digits that change with the network, the file and the converters."""
    model = read_config(config).model.to_dict()
    digest = hashlib.sha256(json.dumps([model, url], sort_keys=True, default=str).encode())
    for path in sorted(Path(converters.__file__).parent.glob('*.py')):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:12]


def _combine(
    name: str, config: Path, parts: tuple[str, str], show_progress: bool
) -> tuple[str, str]:
    """Write config and checkpoint of a ``CombinedRCNN`` from two models of the index."""
    checkpoints = [Path(prepare_model(part, show_progress)[1]) for part in parts]
    key = hashlib.sha256(' '.join(path.name for path in checkpoints).encode()).hexdigest()[:12]
    folder = cache_folder() / name
    combined = folder / f'combined-{key}.pth'
    combined_config = folder / f'combined-{key}.py'
    if not combined.is_file():
        first, second = (load_checkpoint_file(path, 'cpu') for path in checkpoints)
        meta = dict(first['meta'], combined_with=second['meta'])
        state = combine_weights(first['state_dict'], second['state_dict'])
        save(str(combined), dict(meta=meta, state_dict=state))
    if not combined_config.is_file():
        cfg = combine_configs(read_config(config))
        with atomic_write(combined_config) as part:
            part.write_text(cfg.pretty_text)
    return str(combined_config), str(combined)


def combine_configs(cfg: Config) -> Config:
    """Turn a config with three heads into that of a ``CombinedRCNN``.

    Args:
        cfg (Config): The config; modified.
    """
    cfg.model.backbone.init_cfg = None  # the checkpoint has all weights
    cfg.model.update(
        type='CombinedRCNN',
        mask_backbone=cfg.model.backbone.to_dict(),
        mask_neck=cfg.model.neck.to_dict(),
    )
    return cfg


def combine_weights(first: dict[str, Tensor], second: dict[str, Tensor]) -> dict[str, Tensor]:
    """Combine the weights of two networks to those of a ``CombinedRCNN``.

    Args:
        first (dict[str, Tensor]): Network of boxes and keypoints; its mask head is left out.
        second (dict[str, Tensor]): Network of masks, of which backbone, neck and mask head count.
    """
    head = 'roi_head.mask_head.'
    state = {name: value for name, value in first.items() if not name.startswith(head)}
    for name, value in second.items():
        if name.startswith(head):
            state[name] = value
        for prefix, target in _MASK_PARTS.items():
            if name.startswith(prefix):
                state[name.replace(prefix, target, 1)] = value
    return state
