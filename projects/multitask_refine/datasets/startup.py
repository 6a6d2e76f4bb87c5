"""What the data set says at its start about its annotations and images."""
from typing import Dict, List, Sequence

from mmengine.logging import MMLogger

from .problems import AnnotationError, Problem

_MEND = ('Look at them with: python tools/dataset/check_coco.py {path} '
         '--images {images}, and write a file without them with --fix '
         'OUT.json; then name that file as ann_file of the data set and of '
         'the evaluator.')


def group(problems: Sequence[Problem]) -> Dict[str, List[Problem]]:
    """Problems by their rule, in the order in which the rules come up."""
    groups: Dict[str, List[Problem]] = {}
    for problem in problems:
        groups.setdefault(problem.rule, []).append(problem)
    return groups


def refuse(problems: Sequence[Problem], path: str, images: str,
           test_mode: bool, strict: bool) -> None:
    """Refuse to go on with some problems.

    An evaluation reads the file itself, so that in a test nothing can be
    mended on the way.

    Args:
        problems (Sequence[Problem]): That were found.
        path (str): The annotation file, for messages.
        images (str): The folder of the images, for messages.
        test_mode (bool): Whether the data is for a test: then problems that
            would make the evaluation fail, or count something that is not
            so, are errors.
        strict (bool): Whether every problem is an error.

    Raises:
        AnnotationError: Has the table of the problems, and how to mend them.
    """
    fatal = [each for each in problems
             if strict or (test_mode and each.stops_test)]
    if not fatal:
        return
    reason = ('strict=True' if strict else
              'the evaluation of a test would count them wrongly')
    raise AnnotationError(
        f'{path}: expected no problems ({reason}), found {len(fatal)}:\n'
        f'{format_table(fatal)}\n{_MEND.format(path=path, images=images)}')


def log_problems(problems: Sequence[Problem], path: str, images: str,
                 test_mode: bool) -> None:
    """Log what was left out or mended, or in a test left as it is.

    The arguments are those of :func:`refuse`.
    """
    if not problems:
        return
    done = ('are left as they are, as the evaluation takes them'
            if test_mode else 'were mended or left out of this training')
    MMLogger.get_current_instance().warning(
        f'{path}: {len(problems)} problems {done}:\n'
        f'{format_table(problems)}\n{_MEND.format(path=path, images=images)}')


def log_labels(annotations: Sequence[dict], path: str,
               loads_masks: bool) -> None:
    """Log how many instances are labelled for which task, if not all are.

    Args:
        annotations (Sequence[dict]): Mended.
        path (str): The annotation file, for messages.
        loads_masks (bool): Whether the pipeline loads masks, as it does for
            a network with a mask head.
    """
    instances = [ann for ann in annotations if not ann['iscrowd']]
    masks, keypoints = (
        sum(bool(ann.get(field)) for ann in instances)
        for field in ('segmentation', 'keypoints'))
    logger = MMLogger.get_current_instance()
    if min(masks, keypoints) < len(instances):
        logger.info(
            f'{path}: of {len(instances)} instances {masks} have a mask and '
            f'{keypoints} have keypoints. Each head learns from the '
            'instances that are labelled for it.')
    if instances and not masks and loads_masks:
        logger.warning(
            f'{path}: segmentation: expected masks for the mask head, found '
            f'none in {len(instances)} instances. Its loss stays 0; train '
            'without it by model.roi_head.mask_head=None.')


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
