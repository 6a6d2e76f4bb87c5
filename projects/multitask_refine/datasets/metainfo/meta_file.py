"""Dataset meta files in mmpose's format: found, read and checked."""

from pathlib import Path
from typing import Iterator, List

import mmpose
import numpy as np
from mmengine.config import Config
from mmpose.datasets.datasets.utils import parse_pose_metainfo

from multitask_refine.utils.errors import ConfigError

_FIELDS = ('dataset_name', 'keypoint_info', 'skeleton_info', 'joint_weights', 'sigmas')


def find_meta_file(name: str) -> str:
    """Find a dataset meta file.

    Args:
        name (str): A path, or the file name of one that mmpose ships.

    Returns:
        str: The path of the file.

    Raises:
        FileNotFoundError: If there is no such file in either place.
    """
    if Path(name).is_file():
        return str(name)
    shipped = Path(mmpose.__file__).parent / '.mim/configs/_base_/datasets'
    if (shipped / name).is_file():
        return str(shipped / name)
    raise FileNotFoundError(
        f'metainfo.from_file: there is no dataset meta file {name!r}, '
        f'neither at this path nor among those of mmpose in {shipped}'
    )


def load_meta_file(name: str) -> dict:
    """Load a dataset meta file and check that it agrees with itself.

    Args:
        name (str): As in :func:`find_meta_file`.

    Returns:
        dict: In mmpose's terms: ``num_keypoints`` (K), ``keypoint_id2name``,
        ``sigmas`` (K), ``flip_indices`` (K), ``skeleton_links`` and so on.
        Lists and no arrays, so that mmdet's wrappers of several data sets can
        compare them.

    Raises:
        FileNotFoundError: If there is no such file.
        ConfigError: If a field is missing, the numbers of sigmas or weights
            are not K, names repeat, or ``swap`` or a link names no keypoint
            or, ``swap``, only one way.
    """
    path = find_meta_file(name)
    try:
        info = Config.fromfile(path).get('dataset_info')
    except Exception as error:  # whatever the file raises is its own fault
        raise ConfigError(
            f"{path}: expected a meta file in mmpose's format, found "
            f'{type(error).__name__}: {error}'
        ) from None
    fault = next(_find_faults(info), None)
    if fault:
        raise ConfigError(f'{path}: {fault}')
    return parse_dataset_info(info)


def parse_dataset_info(info: dict) -> dict:
    """Parse a ``dataset_info`` that agrees with itself, to what
    :func:`load_meta_file` returns."""
    return {key: _to_list(value) for key, value in parse_pose_metainfo(info).items()}


def _to_list(value: object) -> object:
    """Return arrays as lists, of the shortest decimals of their float32."""
    if not isinstance(value, np.ndarray):
        return value
    if value.dtype == np.float32:
        return [float(str(number)) for number in value]
    return value.tolist()


def _find_faults(info: object) -> Iterator[str]:
    """Go through the fields of a ``dataset_info``."""
    missing = [field for field in _FIELDS if not isinstance(info, dict) or field not in info]
    if missing:
        yield (
            'dataset_info: expected a dict with the fields '
            f'{", ".join(_FIELDS)}, found none of {", ".join(missing)}. '
            'Add what is missing.'
        )
        return
    keypoints = info['keypoint_info']
    names = _names(keypoints)
    if names is None:
        yield (
            'keypoint_info: expected a dict of 0, 1, 2, ... in this order '
            'to dict(name=...) with names that differ, found '
            f'{str(dict(keypoints))[:200]}'
        )
        return
    for field in ('sigmas', 'joint_weights'):
        if len(info[field]) != len(names):
            yield (
                f'{field}: expected {len(names)} numbers, one for each '
                f'keypoint of keypoint_info, found {len(info[field])}. '
                'Give one a keypoint, in the same order'
                f'{_SIGMA_HINT if field == "sigmas" else "."}'
            )
    if min(info['sigmas'], default=1) <= 0:
        yield (f'sigmas: expected numbers above 0, found {info["sigmas"]}. OKS divides by them.')
    swaps = {each['name']: each.get('swap') or each['name'] for each in keypoints.values()}
    for name, other in swaps.items():
        if other not in swaps:
            yield (
                f'keypoint_info: swap of {name!r}: expected the name of a '
                f'keypoint, found {other!r}. Names are {names}.'
            )
    for name, other in swaps.items():
        if swaps.get(other) != name:
            back = swaps[other] if swaps[other] != other else ''
            yield (
                f'keypoint_info: swap of {name!r} is {other!r}: expected '
                f'swap={name!r} of {other!r} in return, found {back!r}. A '
                'flip exchanges both, so each must name the other.'
            )
    for link in info['skeleton_info'].values():
        unknown = [name for name in link['link'] if name not in swaps]
        if unknown:
            yield (
                f'skeleton_info: link {tuple(link["link"])}: expected '
                f'names of keypoint_info, found {unknown}. Names are '
                f'{names}.'
            )


_SIGMA_HINT = '; where they were never measured, 0.05 to 0.1 for each is usual.'


def _names(keypoints: object) -> List[str]:
    """The keypoints' names in order; None if ids or names are not right."""
    if (
        not isinstance(keypoints, dict)
        or not keypoints
        or not all(isinstance(each, dict) and 'name' in each for each in keypoints.values())
    ):
        return None
    names = [each['name'] for each in keypoints.values()]
    in_order = list(keypoints) == list(range(len(names)))
    return names if in_order and len(set(names)) == len(names) else None
