"""Find, load and check dataset meta files in mmpose's format."""

import importlib.util
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import mmpose
import numpy as np
from mmengine.config import Config

from multitask_refine.utils.errors import ConfigError

_FIELDS = ('dataset_name', 'keypoint_info', 'skeleton_info', 'joint_weights', 'sigmas')


def _import_mmpose_parser() -> ModuleType:
    """Import the module of ``parse_pose_metainfo`` alone.

    With its package come all of mmpose's datasets and transforms, which takes a second.
    """
    path = Path(mmpose.__file__).parent / 'datasets/datasets/utils.py'
    spec = importlib.util.spec_from_file_location('mmpose_datasets_utils', path)
    assert spec and spec.loader  # for a path that ends in .py
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


_MMPOSE = _import_mmpose_parser()


def find_meta_file(name: str) -> str:
    """Find a dataset meta file.

    Args:
        name: A path, or the file name of a meta file that mmpose ships.

    Returns:
        Path of the file.

    Raises:
        FileNotFoundError: If there is no such file in either place.
    """
    if Path(name).is_file():
        return str(name)
    shipped = Path(mmpose.__file__).parent / '.mim/configs/_base_/datasets'
    if (shipped / name).is_file():
        return str(shipped / name)
    raise FileNotFoundError(
        f'metainfo.from_file: there is no dataset meta file {name!r}, neither at this path nor '
        f'among those of mmpose in {shipped}'
    )


def load_meta_file(name: str) -> dict:
    """Load a dataset meta file and check that it is consistent.

    Args:
        name: As in :func:`find_meta_file`.

    Returns:
        ``num_keypoints`` (K), ``keypoint_id2name``, ``sigmas`` (K), ``flip_indices`` (K),
        ``skeleton_links`` and so on, as mmpose names them. Arrays are lists, so that mmdet's
        dataset wrappers can compare them.

    Raises:
        FileNotFoundError: If there is no such file.
        ConfigError: If a field is missing, the number of sigmas or weights is not K, names
            repeat, or ``swap`` or a link names no keypoint or, ``swap``, only one way.
    """
    path = find_meta_file(name)
    try:
        info = Config.fromfile(path).get('dataset_info')
    except Exception as error:  # the file is Python code and can raise anything
        raise ConfigError(
            f"{path}: expected a meta file in mmpose's format, found "
            f'{type(error).__name__}: {error}'
        ) from None
    error = next(_find_errors(info), None)
    if error:
        raise ConfigError(f'{path}: {error}')
    return parse_dataset_info(info)


def parse_dataset_info(info: dict) -> dict:
    """Parse a consistent ``dataset_info`` as :func:`load_meta_file` does."""

    def to_list(value: object) -> object:
        if not isinstance(value, np.ndarray):
            return value
        if value.dtype == np.float32:  # shortest decimals: 0.026 and not 0.02600000053
            return [float(str(number)) for number in value]
        return value.tolist()

    return {key: to_list(value) for key, value in _MMPOSE.parse_pose_metainfo(info).items()}


def _find_errors(info: object) -> Iterator[str]:
    """Check the fields of a ``dataset_info`` one by one."""
    missing = [field for field in _FIELDS if not isinstance(info, dict) or field not in info]
    if missing:
        yield (
            f'dataset_info: expected a dict with the fields {", ".join(_FIELDS)}, found none of '
            f'{", ".join(missing)}. Add what is missing.'
        )
        return

    keypoints, names = info['keypoint_info'], []
    if isinstance(keypoints, dict) and all(
        isinstance(each, dict) and 'name' in each for each in keypoints.values()
    ):
        names = [each['name'] for each in keypoints.values()]
    if not names or list(keypoints) != list(range(len(names))) or len(set(names)) < len(names):
        yield (
            'keypoint_info: expected a dict of 0, 1, 2, ... in this order to dict(name=...) with '
            f'distinct names, found {str(keypoints)[:200]}'
        )
        return

    hints = dict(
        sigmas='; where they were never measured, 0.05 to 0.1 for each is usual.',
        joint_weights='.',
    )
    for field, hint in hints.items():
        if len(info[field]) != len(names):
            yield (
                f'{field}: expected {len(names)} numbers, one for each keypoint of '
                f'keypoint_info, found {len(info[field])}. Give one a keypoint, in the same '
                f'order{hint}'
            )
    if min(info['sigmas'], default=1) <= 0:
        yield f'sigmas: expected numbers above 0, found {info["sigmas"]}. OKS divides by them.'

    # A keypoint without a swap, such as the nose, is its own counterpart.
    swaps = {each['name']: each.get('swap') or each['name'] for each in keypoints.values()}
    for name, other in swaps.items():
        if other not in swaps:
            yield (
                f'keypoint_info: swap of {name!r}: expected the name of a keypoint, found '
                f'{other!r}. Names are {names}.'
            )
    for name, other in swaps.items():
        if swaps.get(other) != name:
            back = swaps[other] if swaps[other] != other else ''
            yield (
                f'keypoint_info: swap of {name!r} is {other!r}: expected swap={name!r} of '
                f'{other!r} in return, found {back!r}. A flip exchanges both, so each must name '
                'the other.'
            )

    for link in info['skeleton_info'].values():
        unknown = [name for name in link['link'] if name not in swaps]
        if unknown:
            yield (
                f'skeleton_info: link {tuple(link["link"])}: expected names of keypoint_info, '
                f'found {unknown}. Names are {names}.'
            )
