"""Annotations of one set of keypoints, written in another set of keypoints."""

from typing import Dict, List, Sequence, Union

from mmengine.logging import MMLogger

from multitask_refine.datasets.validation.issues import AnnotationError

from .meta_file import load_meta_file


class KeypointMapping:
    """Map the keypoints of an annotation file to those of the network.

    Keypoints of the same name are the same. Those of the network that the
    file lacks become unlabelled (visibility 0); those of the file that the
    network lacks are left out.

    Args:
        keypoints_from (str | dict): The meta file of the annotation file, a
            path or the name of one of mmpose's own, or ``dict(from_file=...,
            names=...)`` with that file and, for keypoints that are named
            differently, the network's name of each of the file's.
        target (dict): The metainfo of the network's keypoints.

    Attributes:
        meta (dict): The metainfo of the file's keypoints.
        sources (list[int]): Of each of the network's K keypoints, the index
            in the file, or -1.

    Raises:
        AnnotationError: If a name is in neither list, two keypoints are
            mapped to the same, none is mapped, or the categories of the
            network have keypoints of their own.
        FileNotFoundError: If there is no such meta file.
    """

    def __init__(self, keypoints_from: Union[str, dict], target: dict) -> None:
        if isinstance(keypoints_from, str):
            keypoints_from = dict(from_file=keypoints_from)
        unknown = set(keypoints_from) - {'from_file', 'names'}
        if unknown or 'from_file' not in keypoints_from:
            raise AnnotationError(
                'keypoints_from: expected the name of a meta file or '
                f'dict(from_file=..., names=...), found {keypoints_from}. '
                'Name the meta file of the annotation file in from_file.'
            )
        if 'category_metas' in target:
            raise AnnotationError(
                'keypoints_from: expected one meta file for all categories in '
                'metainfo.from_file, found one for each of them. Leave '
                'keypoints_from out, and write the keypoints of each category '
                'in the order of its meta file.'
            )
        self.file = keypoints_from['from_file']
        self.meta = load_meta_file(self.file)
        theirs = list(self.meta['keypoint_id2name'].values())
        ours = list(target['keypoint_id2name'].values())
        renamed: Dict[str, str] = dict(keypoints_from.get('names') or {})
        lists = f'the keypoints of {self.file} are {theirs}, those of the network are {ours}'
        for source, name in renamed.items():
            if source not in theirs or name not in ours:
                raise AnnotationError(
                    f'keypoints_from.names: expected a keypoint of '
                    f'{self.file} and its name in the network, found '
                    f'{source!r}: {name!r}; {lists}. Correct the name.'
                )
        names = [renamed.get(source, source) for source in theirs]
        twice = sorted({name for name in names if name in ours and names.count(name) > 1})
        if twice:
            raise AnnotationError(
                'keypoints_from.names: expected one keypoint of '
                f'{self.file} for each of the network, found two for '
                f'{twice[0]!r}; {lists}. Map one of the two elsewhere.'
            )
        self.sources = [names.index(name) if name in names else -1 for name in ours]
        if max(self.sources) < 0:
            raise AnnotationError(
                f'keypoints_from: expected keypoints in common, found none: '
                f"{lists}. Give the pairs as names=dict(file='network')."
            )
        self.unused = [source for source, name in zip(theirs, names) if name not in ours]
        self.unlabelled = [name for name in ours if name not in names]

    def convert(self, annotations: Sequence[dict]) -> List[dict]:
        """Write annotations in the network's keypoints.

        Args:
            annotations (Sequence[dict]): Of the file, with 3 numbers for
                each of its keypoints, or without ``keypoints``.

        Returns:
            list[dict]: Copies with 3 numbers for each of the network's
            keypoints and their ``num_keypoints``.
        """
        return [self._convert(ann) if ann.get('keypoints') else ann for ann in annotations]

    def _convert(self, ann: dict) -> dict:
        flat: List[float] = []
        for source in self.sources:
            flat += [0, 0, 0] if source < 0 else ann['keypoints'][3 * source : 3 * source + 3]
        return dict(ann, keypoints=flat, num_keypoints=sum(seen > 0 for seen in flat[2::3]))

    def log(self, ann_file: str) -> None:
        """Log the keypoints that the mapping leaves out and unlabelled.

        Args:
            ann_file (str): The annotation file.
        """
        MMLogger.get_current_instance().info(
            f'{ann_file}: of the keypoints of {self.file} '
            f'{", ".join(self.unused) or "none"} are not used; of the '
            f"network's, {', '.join(self.unlabelled) or 'none'} are "
            'unlabelled here'
        )
