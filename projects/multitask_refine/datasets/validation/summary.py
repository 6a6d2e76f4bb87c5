"""Report on the annotations and images of a data set when it is loaded."""

from collections.abc import Sequence

from mmengine.logging import MMLogger

from .coordinates import FILE_RULES
from .issues import AnnotationError, Issue, format_issues

_REMEDY = (
    'List them with: python tools/dataset/check_coco.py {path} --images {images}, write a '
    'repaired file with --fix OUT.json, and name it as ann_file of the data set and of the '
    'evaluator.'
)


def raise_if_fatal(
    issues: Sequence[Issue], path: str, images: str, test_mode: bool, strict: bool
) -> None:
    """Raise an error if some issues do not allow to go on.

    Args:
        issues: Issues of the data set.
        path: Annotation file, for the message.
        images: Folder of the images, for the message.
        test_mode: Whether the data set is for a test: the evaluation reads the file itself,
            without repairs, so issues that make it fail or give wrong numbers are fatal. Issues
            of the file as a whole always are.
        strict: Whether every issue is fatal.

    Raises:
        AnnotationError: With a table of the fatal issues.
    """
    # An issue of the file as a whole causes those of its instances.
    file_issues = [issue for issue in issues if issue.rule in FILE_RULES]
    fatal = file_issues or [
        issue for issue in issues if strict or (test_mode and issue.fatal_in_test)
    ]
    if not fatal:
        return
    if file_issues:
        reason = 'they concern all annotations'
    elif strict:
        reason = 'strict=True'
    else:
        reason = 'the evaluation would fail or give wrong numbers'
    raise AnnotationError(
        f'{path}: expected no issues ({reason}), found {len(fatal)}:\n'
        f'{format_issues(fatal)}\n{_REMEDY.format(path=path, images=images)}'
    )


def log_issues(issues: Sequence[Issue], path: str, images: str, test_mode: bool) -> None:
    """Log a table of the issues; the arguments are those of :func:`raise_if_fatal`."""
    if not issues:
        return
    if test_mode:
        outcome = 'are left as they are, as the evaluation reads them'
    else:
        outcome = 'were repaired or left out of this training'
    MMLogger.get_current_instance().warning(
        f'{path}: {len(issues)} issues {outcome}:\n'
        f'{format_issues(issues)}\n{_REMEDY.format(path=path, images=images)}'
    )


def log_filtered_images(
    images: Sequence[dict],
    kept: Sequence[dict],
    filter_cfg: dict | None,
    path: str,
    test_mode: bool,
    num_few_keypoints: int,
) -> None:
    """Log how many images ``filter_cfg`` leaves out, and why.

    Args:
        images: All images as mmdet parses them.
        kept: Images that are left.
        filter_cfg: Setting of the data set.
        path: Annotation file, for the message.
        test_mode: Whether the data set is for a test, which needs no annotations.
        num_few_keypoints: Number of images left out only for too few keypoints.

    Raises:
        AnnotationError: If no image is left.
    """
    filter_cfg = filter_cfg or {}
    min_size, min_keypoints = filter_cfg.get('min_size', 0), filter_cfg.get('min_keypoints')
    kept_ids = {info['img_id'] for info in kept}
    left_out = [info for info in images if info['img_id'] not in kept_ids]
    num_small = sum(min(info['width'], info['height']) < min_size for info in left_out)
    reasons = {
        f'have a side below {min_size} pixels (filter_cfg.min_size)': num_small,
        'have no annotation of the classes (filter_cfg.filter_empty_gt)': len(left_out)
        - num_small
        - num_few_keypoints,
        f'have fewer labeled keypoints than {min_keypoints} '
        '(filter_cfg.min_keypoints)': num_few_keypoints,
    }
    explanation = ', '.join(f'{count} {reason}' for reason, count in reasons.items() if count)
    if not kept:
        found = f'none of {len(images)}: {explanation}' if images else 'none'
        raise AnnotationError(
            f'{path}: images: expected at least one to use, found {found}. Annotate images, or '
            'set ann_file, metainfo.classes and filter_cfg of the data set so that some are left.'
        )
    logger = MMLogger.get_current_instance()
    if left_out:
        logger.info(f'{path}: {len(left_out)} of {len(images)} images are not used: {explanation}')
    if not test_mode and not any(info['instances'] for info in kept):
        logger.warning(
            f'{path}: none of the {len(kept)} images has an annotation of the classes: the '
            'network only sees background.'
        )


def log_label_counts(annotations: Sequence[dict], path: str) -> None:
    """Log how many instances have masks and keypoints, unless all have both.

    Args:
        annotations: Repaired annotations.
        path: Annotation file, for the message.
    """
    instances = [ann for ann in annotations if not ann['iscrowd']]
    masks, keypoints = (
        sum(bool(ann.get(field)) for ann in instances) for field in ('segmentation', 'keypoints')
    )
    if min(masks, keypoints) < len(instances):
        MMLogger.get_current_instance().info(
            f'{path}: of {len(instances)} instances {masks} have a mask and {keypoints} have '
            'keypoints. Each head learns from the instances that are labeled for it.'
        )
