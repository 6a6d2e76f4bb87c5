"""Categories that have keypoints of their own, joined into their union."""

from typing import Dict, List, Mapping, Sequence, Tuple, Union

from multitask_refine.utils.errors import ConfigError

from .meta_file import load_meta_file, parse_dataset_info

_NO_KEYPOINTS = dict(
    num_keypoints=0,
    keypoint_id2name={},
    flip_indices=[],
    keypoint_colors=[],
    skeleton_links=[],
    skeleton_link_colors=[],
    sigmas=[],
    indices=[],
)
_EXPECTED = "from_file=dict(CATEGORY='FILE.py', ...) with names of metainfo.classes"


def join_meta_files(files: Mapping[str, Union[str, dict]], classes: Sequence[str]) -> dict:
    """Join the meta files of several categories.

    The union has the keypoints of the first class in the order of its file,
    then those of the second that the first lacks, and so on. Keypoints of
    the same name are one. Each category keeps its own order, skeleton and
    sigmas.

    Args:
        files (Mapping): By the name of a category its meta file, a path or
            the name of one of mmpose's own, or ``dict(from_file=...,
            names=...)`` with that file and, for keypoints that are to be
            named differently in the union, the new name of each. Categories
            that are left out have no keypoints.
        classes (Sequence[str]): Names of all categories, in label order.

    Returns:
        dict: The union in mmpose's terms, as :func:`load_meta_file`; its
        sigmas and colors are those of the first category that has the
        keypoint. For each class ``category_metas`` has what its file says,
        with ``indices``, the place of each of its keypoints in the union.

    Raises:
        ConfigError: If a name is unknown, a name stands for two keypoints of
            a file, or two files disagree on a keypoint's mirror image.
        FileNotFoundError: If there is no such meta file.
    """
    unknown = [name for name in files if name not in classes]
    if unknown or not files:
        raise ConfigError(
            f'metainfo.from_file: expected {_EXPECTED}, {list(classes)}, '
            f'found {unknown or "no category"}. Correct the name, or add it '
            'to metainfo.classes.'
        )
    union: Dict[str, dict] = {}
    links: Dict[frozenset, dict] = {}
    loaded = []
    for category in (name for name in classes if name in files):
        path, own, names = _load(category, files[category])
        loaded.append((category, own, names))
        for index, name in enumerate(names):
            swap = names[own['flip_indices'][index]]
            first = union.setdefault(
                name,
                dict(
                    name=name,
                    swap=swap,
                    color=own['keypoint_colors'][index],
                    type='upper'
                    if index in own['upper_body_ids']
                    else 'lower'
                    if index in own['lower_body_ids']
                    else '',
                    sigma=own['sigmas'][index],
                    weight=own['dataset_keypoint_weights'][index],
                    path=path,
                ),
            )
            if first['swap'] != swap:
                raise ConfigError(
                    f'{path}: keypoint_info: swap of {name!r}: expected '
                    f'{first["swap"]!r}, as the keypoint of the same name in '
                    f'{first["path"]} has, found {swap!r}. A flip exchanges '
                    'the keypoints of all categories alike: correct the '
                    'swap, or name one of the two differently by names.'
                )
        for link, color in zip(own['skeleton_links'], own['skeleton_link_colors']):
            ends = tuple(names[index] for index in link)
            links.setdefault(frozenset(ends), dict(link=ends, color=color))
    order = list(union)
    metas = {
        category: dict(own, indices=[order.index(name) for name in names])
        for category, own, names in loaded
    }
    joined = parse_dataset_info(
        dict(
            dataset_name='+'.join(own['dataset_name'] for _, own, _ in loaded),
            keypoint_info=dict(enumerate(union.values())),
            skeleton_info=dict(enumerate(links.values())),
            joint_weights=[each['weight'] for each in union.values()],
            sigmas=[each['sigma'] for each in union.values()],
        )
    )
    return dict(joined, category_metas=[metas.get(name, _NO_KEYPOINTS) for name in classes])


def _load(category: str, source: Union[str, dict]) -> Tuple[str, dict, List[str]]:
    """Load the meta file of a category: its path, what it says, and the name
    of each of its keypoints in the union."""
    setting = f'metainfo.from_file[{category!r}]'
    if isinstance(source, str):
        source = dict(from_file=source)
    if (
        not isinstance(source, dict)
        or not isinstance(source.get('from_file'), str)
        or (set(source) - {'from_file', 'names'})
    ):
        raise ConfigError(
            f'{setting}: expected the name of a meta file or '
            f'dict(from_file=..., names=...), found {source}.'
        )
    path = source['from_file']
    own = load_meta_file(path)
    theirs = list(own['keypoint_id2name'].values())
    renamed = dict(source.get('names') or {})
    unknown = sorted(set(renamed) - set(theirs))
    names = [renamed.get(name, name) for name in theirs]
    twice = sorted({name for name in names if names.count(name) > 1})
    if unknown or twice:
        found = f'{unknown[0]!r}' if unknown else f'two keypoints named {twice[0]!r}'
        raise ConfigError(
            f'{setting}: names: expected names of keypoints of {path}, '
            f'{theirs}, and for each another new name, found {found}. '
            'Correct names.'
        )
    return path, own, names
