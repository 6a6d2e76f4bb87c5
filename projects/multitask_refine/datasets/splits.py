"""Split COCO annotations without leaking images between the parts."""

import random

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components


def group_images(images: list[dict], field: str | None, prefix: str | None) -> list[list[int]]:
    """Group the images that must not be split.

    Images are in one group if they share a file name, a value of ``field`` or a
    file name prefix, directly or through other images.

    Args:
        images: Entries of the annotation file.
        field: Name of an image field, such as ``video_id``.
        prefix: Separator: file names that are equal up to its last occurrence
            belong together.

    Returns:
        Image ids of each group, in file order.
    """
    nodes: dict[tuple, int] = {}
    edges = []
    for index, image in enumerate(images):
        name = str(image.get('file_name')).replace('\\', '/')
        keys = [('file', name)]
        if field is not None and image.get(field) is not None:
            keys.append(('field', str(image[field])))
        if prefix is not None and prefix in name:
            keys.append(('prefix', name.rpartition(prefix)[0]))
        edges += [(index, nodes.setdefault(key, len(images) + len(nodes))) for key in keys]
    # Bipartite graph of images and keys: a group is a connected component.
    starts, ends = np.reshape(edges, (-1, 2)).astype(int).T
    count = len(images) + len(nodes)
    _, labels = connected_components(
        coo_array((np.ones(len(edges)), (starts, ends)), (count, count)), directed=False
    )
    groups: dict[int, list[int]] = {}
    for image, label in zip(images, labels[: len(images)], strict=True):
        groups.setdefault(int(label), []).append(image['id'])
    return list(groups.values())


def assign_groups(groups: list[list[int]], shares: list[float], seed: int) -> list[set[int]]:
    """Assign groups to parts at random so that each part gets its share of images.

    Greedy: the largest group goes first, each to the part that lacks most images.

    Args:
        groups: Image ids of each group.
        shares: Relative size of each part.
        seed: Seed of the random order.

    Returns:
        Image ids of each part.
    """
    groups = list(groups)
    random.Random(seed).shuffle(groups)
    groups.sort(key=len, reverse=True)
    count = sum(map(len, groups))
    lacking = [share / sum(shares) * count for share in shares]
    parts: list[set[int]] = [set() for _ in shares]
    for group in groups:
        part = max(range(len(parts)), key=lacking.__getitem__)
        parts[part].update(group)
        lacking[part] -= len(group)
    return parts
