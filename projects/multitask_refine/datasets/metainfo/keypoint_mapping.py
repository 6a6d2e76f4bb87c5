"""Map annotations from one set of keypoints to another."""

from collections.abc import Sequence

from mmengine.logging import MMLogger

from multitask_refine.datasets.validation.issues import AnnotationError

from .meta_file import load_meta_file


class KeypointMapping:
    """Map the keypoints of an annotation file to those of the network, by name.

    Keypoints that the file lacks are unlabeled (visibility 0); keypoints that the network lacks
    are left out.

    Args:
        keypoints_from: Meta file of the annotation file, a path or the name of one that mmpose
            ships, or ``dict(from_file=..., names=...)`` with that file and, for keypoints named
            differently, the network's name by the file's name.
        target: Metainfo of the network's keypoints.

    Attributes:
        meta (dict): Metainfo of the file's keypoints.
        sources (list[int]): Index in the file of each of the network's K keypoints, or -1.

    Raises:
        AnnotationError: If a name is in neither list, two keypoints are mapped to the same one,
            none is mapped, or the categories of the network have keypoints of their own.
        FileNotFoundError: If there is no such meta file.
    """

    def __init__(self, keypoints_from: str | dict, target: dict) -> None:
        if isinstance(keypoints_from, str):
            keypoints_from = dict(from_file=keypoints_from)
        if set(keypoints_from) - {'from_file', 'names'} or 'from_file' not in keypoints_from:
            raise AnnotationError(
                'keypoints_from: expected the name of a meta file or dict(from_file=..., '
                f'names=...), found {keypoints_from}. Name the meta file of the annotation file '
                'in from_file.'
            )
        if 'category_metas' in target:
            raise AnnotationError(
                'keypoints_from: expected one meta file for all categories in '
                'metainfo.from_file, found one for each of them. Remove keypoints_from, and '
                'write the keypoints of each category in the order of its meta file.'
            )
        self.file = keypoints_from['from_file']
        self.meta = load_meta_file(self.file)
        file_names = list(self.meta['keypoint_id2name'].values())
        target_names = list(target['keypoint_id2name'].values())
        renamed: dict[str, str] = dict(keypoints_from.get('names') or {})
        lists = (
            f'the keypoints of {self.file} are {file_names}, those of the network are '
            f'{target_names}'
        )
        for source, name in renamed.items():
            if source not in file_names or name not in target_names:
                raise AnnotationError(
                    f'keypoints_from.names: expected a keypoint of {self.file} and its name in '
                    f'the network, found {source!r}: {name!r}; {lists}. Correct the name.'
                )
        names = [renamed.get(source, source) for source in file_names]
        repeated = sorted(name for name in set(names) & set(target_names) if names.count(name) > 1)
        if repeated:
            raise AnnotationError(
                f'keypoints_from.names: expected one keypoint of {self.file} for each of the '
                f'network, found two for {repeated[0]!r}; {lists}. Map one of the two elsewhere.'
            )
        self.sources = [names.index(name) if name in names else -1 for name in target_names]
        if max(self.sources) < 0:
            raise AnnotationError(
                f'keypoints_from: expected keypoints in common, found none: {lists}. Give the '
                "pairs as names=dict(file='network')."
            )
        self.unused = [
            source for source, name in zip(file_names, names) if name not in target_names
        ]
        self.unlabeled = [name for name in target_names if name not in names]

    def convert(self, annotations: Sequence[dict]) -> list[dict]:
        """Convert annotations to the network's keypoints.

        Args:
            annotations: Annotations with 3 numbers for each keypoint of the file, or without
                ``keypoints``.

        Returns:
            Copies with 3 numbers for each of the network's keypoints and ``num_keypoints``.
        """
        converted = []
        for ann in annotations:
            if ann.get('keypoints'):
                flat: list[float] = []
                for source in self.sources:
                    values = ann['keypoints'][3 * source : 3 * source + 3]
                    flat += [0, 0, 0] if source < 0 else values
                visible = sum(visibility > 0 for visibility in flat[2::3])
                ann = dict(ann, keypoints=flat, num_keypoints=visible)
            converted.append(ann)
        return converted

    def log(self, ann_file: str) -> None:
        """Log which keypoints of a file are not used and which are unlabeled."""
        MMLogger.get_current_instance().info(
            f'{ann_file}: of the keypoints of {self.file} {", ".join(self.unused) or "none"} are '
            f"not used; of the network's, {', '.join(self.unlabeled) or 'none'} are unlabeled here"
        )
