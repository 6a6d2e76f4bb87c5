"""Join the keypoints of several categories into their union."""

from collections.abc import Mapping, Sequence

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


def join_meta_files(files: Mapping[str, str | dict], classes: Sequence[str]) -> dict:
    """Join the meta files of several categories.

    The union has the keypoints of the first class in the order of its file, then those of the
    second that the first lacks, and so on. Keypoints of the same name are one. Each category
    keeps its own order, skeleton and sigmas.

    Args:
        files: Meta file by category name: a path or the name of one that mmpose ships, or
            ``dict(from_file=..., names=...)`` with that file and the new names of keypoints
            that are to be named differently in the union. Other categories have no keypoints.
        classes: Names of all categories, in label order.

    Returns:
        The union, as :func:`load_meta_file` returns it; sigma and color of a keypoint are those
        of the first category that has it. ``category_metas`` lists the metainfo of each class,
        with ``indices`` of its keypoints in the union.

    Raises:
        ConfigError: If a name is unknown, a name stands for two keypoints of a file, or two files
            disagree on the flip pair of a keypoint.
        FileNotFoundError: If there is no such meta file.
    """
    unknown = [name for name in files if name not in classes]
    if unknown or not files:
        raise ConfigError(
            "metainfo.from_file: expected from_file=dict(CATEGORY='FILE.py', ...) with names of "
            f'metainfo.classes, {list(classes)}, found {unknown or "no category"}. Correct the '
            'name, or add it to metainfo.classes.'
        )
    union: dict[str, dict] = {}
    links: dict[frozenset, dict] = {}
    loaded = {}
    for category in (name for name in classes if name in files):
        path, meta, names = _load_renamed(category, files[category])
        loaded[category] = meta, names
        for index, name in enumerate(names):
            swap = names[meta['flip_indices'][index]]
            kind = ''
            if index in meta['upper_body_ids']:
                kind = 'upper'
            elif index in meta['lower_body_ids']:
                kind = 'lower'
            first = union.setdefault(
                name,
                dict(
                    name=name,
                    swap=swap,
                    color=meta['keypoint_colors'][index],
                    type=kind,
                    sigma=meta['sigmas'][index],
                    weight=meta['dataset_keypoint_weights'][index],
                    path=path,
                ),
            )
            if first['swap'] != swap:
                raise ConfigError(
                    f'{path}: keypoint_info: swap of {name!r}: expected {first["swap"]!r}, as the '
                    f'keypoint of the same name in {first["path"]} has, found {swap!r}. A flip '
                    'exchanges the keypoints of all categories alike: correct the swap, or name '
                    'one of the two differently by names.'
                )
        for link, color in zip(meta['skeleton_links'], meta['skeleton_link_colors']):
            ends = tuple(names[index] for index in link)
            links.setdefault(frozenset(ends), dict(link=ends, color=color))

    order = list(union)
    metas = {
        category: dict(meta, indices=[order.index(name) for name in names])
        for category, (meta, names) in loaded.items()
    }
    joined = parse_dataset_info(
        dict(
            dataset_name='+'.join(meta['dataset_name'] for meta, _ in loaded.values()),
            keypoint_info=dict(enumerate(union.values())),
            skeleton_info=dict(enumerate(links.values())),
            joint_weights=[each['weight'] for each in union.values()],
            sigmas=[each['sigma'] for each in union.values()],
        )
    )
    return dict(joined, category_metas=[metas.get(name, _NO_KEYPOINTS) for name in classes])


def _load_renamed(category: str, source: str | dict) -> tuple[str, dict, list[str]]:
    """Load the meta file of a category.

    Returns:
        Path, metainfo, and the name of each keypoint in the union.
    """
    setting = f'metainfo.from_file[{category!r}]'
    if isinstance(source, str):
        source = dict(from_file=source)
    if (
        not isinstance(source, dict)
        or not isinstance(source.get('from_file'), str)
        or (set(source) - {'from_file', 'names'})
    ):
        raise ConfigError(
            f'{setting}: expected the name of a meta file or dict(from_file=..., names=...), '
            f'found {source}.'
        )
    path = source['from_file']
    meta = load_meta_file(path)
    file_names = list(meta['keypoint_id2name'].values())
    renamed = dict(source.get('names') or {})
    unknown = sorted(set(renamed) - set(file_names))
    names = [renamed.get(name, name) for name in file_names]
    repeated = sorted({name for name in names if names.count(name) > 1})
    if unknown or repeated:
        found = f'{unknown[0]!r}' if unknown else f'two keypoints named {repeated[0]!r}'
        raise ConfigError(
            f'{setting}: names: expected names of keypoints of {path}, {file_names}, and for each '
            f'a new name of its own, found {found}. Correct names.'
        )
    return path, meta, names
