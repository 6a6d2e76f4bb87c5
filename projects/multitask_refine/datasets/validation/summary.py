"""What the data set says at its start about its annotations and images."""

from typing import Dict, List, Optional, Sequence

from mmengine.logging import MMLogger

from .coordinates import FILE_RULES
from .issues import AnnotationError, Problem

_MEND = (
    'Look at them with: python tools/dataset/check_coco.py {path} '
    '--images {images}, and write a file without them with --fix '
    'OUT.json; then name that file as ann_file of the data set and of '
    'the evaluator.'
)


def group(problems: Sequence[Problem]) -> Dict[str, List[Problem]]:
    """Problems by their rule, in the order in which the rules come up."""
    groups: Dict[str, List[Problem]] = {}
    for problem in problems:
        groups.setdefault(problem.rule, []).append(problem)
    return groups


def refuse(
    problems: Sequence[Problem], path: str, images: str, test_mode: bool, strict: bool
) -> None:
    """Refuse to go on with some problems.

    An evaluation reads the file itself, so that in a test nothing can be
    mended on the way.

    Args:
        problems (Sequence[Problem]): That were found.
        path (str): The annotation file, for messages.
        images (str): The folder of the images, for messages.
        test_mode (bool): Whether the data is for a test: then problems that
            would make the evaluation fail, or count something that is not
            so, are errors. What is wrong with the file as a whole always is.
        strict (bool): Whether every problem is an error.

    Raises:
        AnnotationError: Has the table of the problems, and how to mend them.
    """
    of_file = [each for each in problems if each.rule in FILE_RULES]
    # What is found of single instances then is no news.
    fatal = of_file or [each for each in problems if strict or (test_mode and each.stops_test)]
    if not fatal:
        return
    reason = (
        'all annotations are written so'
        if of_file
        else 'strict=True'
        if strict
        else 'the evaluation of a test would count them wrongly'
    )
    raise AnnotationError(
        f'{path}: expected no problems ({reason}), found {len(fatal)}:\n'
        f'{format_table(fatal)}\n{_MEND.format(path=path, images=images)}'
    )


def log_problems(problems: Sequence[Problem], path: str, images: str, test_mode: bool) -> None:
    """Log what was left out or mended, or in a test left as it is.

    The arguments are those of :func:`refuse`.
    """
    if not problems:
        return
    done = (
        'are left as they are, as the evaluation takes them'
        if test_mode
        else 'were mended or left out of this training'
    )
    MMLogger.get_current_instance().warning(
        f'{path}: {len(problems)} problems {done}:\n'
        f'{format_table(problems)}\n{_MEND.format(path=path, images=images)}'
    )


def log_unused(
    images: Sequence[dict],
    used: Sequence[dict],
    filter_cfg: Optional[dict],
    path: str,
    test_mode: bool,
    few_keypoints: int,
) -> None:
    """Log how many images of an annotation file are not used, and why.

    Args:
        images (Sequence[dict]): All images as mmdet parses them.
        used (Sequence[dict]): Those that ``filter_cfg`` leaves.
        filter_cfg (dict, optional): Of the data set.
        path (str): The annotation file.
        test_mode (bool): Whether the data is for a test, which may go
            without annotations.
        few_keypoints (int): How many of the images that are not used have
            only too few keypoints against them.

    Raises:
        AnnotationError: If no image is left.
    """
    filter_cfg = filter_cfg or {}
    min_size = filter_cfg.get('min_size', 0)
    ids = {info['img_id'] for info in used}
    unused = [info for info in images if info['img_id'] not in ids]
    small = sum(min(info['width'], info['height']) < min_size for info in unused)
    reasons = {
        f'have a side below {min_size} pixels (filter_cfg.min_size)': small,
        'have no annotation of the classes (filter_cfg.filter_empty_gt)': len(unused)
        - small
        - few_keypoints,
        'have fewer labelled keypoints than '
        f'{filter_cfg.get("min_keypoints")} (filter_cfg.min_keypoints)': few_keypoints,
    }
    told = ', '.join(f'{count} {reason}' for reason, count in reasons.items() if count)
    if not used:
        found = f'none of {len(images)}: {told}' if images else 'none'
        raise AnnotationError(
            f'{path}: images: expected at least one to use, found {found}. '
            'Annotate images, or set ann_file, metainfo.classes and '
            'filter_cfg of the data set so that some are left.'
        )
    logger = MMLogger.get_current_instance()
    if unused:
        logger.info(f'{path}: {len(unused)} of {len(images)} images are not used: {told}')
    if not test_mode and not any(info['instances'] for info in used):
        logger.warning(
            f'{path}: none of the {len(used)} images has an annotation of '
            'the classes: all that they show is background.'
        )


def log_labels(annotations: Sequence[dict], path: str) -> None:
    """Log how many instances are labelled for which task, if not all are.

    Args:
        annotations (Sequence[dict]): Mended.
        path (str): The annotation file, for messages.
    """
    instances = [ann for ann in annotations if not ann['iscrowd']]
    masks, keypoints = (
        sum(bool(ann.get(field)) for ann in instances) for field in ('segmentation', 'keypoints')
    )
    if min(masks, keypoints) < len(instances):
        MMLogger.get_current_instance().info(
            f'{path}: of {len(instances)} instances {masks} have a mask and '
            f'{keypoints} have keypoints. Each head learns from the '
            'instances that are labelled for it.'
        )


def format_table(problems: Sequence[Problem], most: int = 3) -> str:
    """A line for each rule: its name, a count, and the first of its cases.

    Args:
        problems (Sequence[Problem]): At least one.
        most (int): How many cases are named.
    """
    groups = group(problems)
    width = max(map(len, groups))
    lines = []
    for rule, members in groups.items():
        cases = '; '.join(map(str, members[:most]))
        more = '; ...' if len(members) > most else ''
        lines.append(f'{rule:{width}} {len(members):7}  {cases}{more}')
    return '\n'.join(lines)
