"""Assignment of anchors by hand, where mmdet's differs from that of Detectron2 and torchvision."""

import pytest
import torch
from mmdet.models.task_modules.assigners import MaxIoUAssigner

from multitask_refine.models import ArgmaxIoUAssigner

OPTIONS = dict(pos_iou_thr=0.7, neg_iou_thr=0.3, min_pos_iou=0.3, match_low_quality=True)


def _assign(kind, overlaps, labels, **options):
    result = kind(**{**OPTIONS, **options}).assign_wrt_overlaps(
        torch.tensor(overlaps), torch.tensor(labels)
    )
    return result.gt_inds.tolist(), result.labels.tolist()


@pytest.mark.parametrize(
    'kind, expected', [(MaxIoUAssigner, [0, 0, 0]), (ArgmaxIoUAssigner, [0, 1, 1])]
)
def test_box_below_every_threshold_has_its_best_anchors(kind, expected):
    """Two anchors are equally good."""
    assert _assign(kind, [[0.1, 0.2, 0.2]], [3])[0] == expected


@pytest.mark.parametrize('kind, expected', [(MaxIoUAssigner, [2, 1]), (ArgmaxIoUAssigner, [1, 1])])
def test_anchor_belongs_to_the_box_that_it_overlaps_most(kind, expected):
    """The first anchor is the best one of the second box, and overlaps the first box more."""
    assert _assign(kind, [[0.6, 0.8], [0.5, 0.1]], [0, 1])[0] == expected


def test_thresholds_ignored_anchors_and_labels():
    """Anchor 0 is ignored, 1 is background, 2 between the thresholds, 3 and 4 have boxes."""
    overlaps = [[-1.0, 0.29, 0.3, 0.9, 0.2], [-1.0, 0.1, 0.1, 0.1, 0.7]]
    found = _assign(ArgmaxIoUAssigner, overlaps, [5, 6])
    assert found == ([-1, 0, -1, 1, 2], [-1, -1, -1, 5, 6])


def test_box_without_any_overlap_has_no_anchor():
    assert _assign(ArgmaxIoUAssigner, [[0.0, 0.0], [0.0, 0.8]], [0, 0])[0] == [0, 2]


def test_without_low_quality_matches():
    overlaps = [[0.4, 0.5]]
    options = dict(pos_iou_thr=0.5, neg_iou_thr=0.5, match_low_quality=False)
    assert _assign(ArgmaxIoUAssigner, overlaps, [0], **options)[0] == [0, 1]


def test_image_without_boxes():
    result = ArgmaxIoUAssigner(**OPTIONS).assign_wrt_overlaps(
        torch.zeros(0, 3), torch.zeros(0, dtype=torch.long)
    )
    assert result.gt_inds.tolist() == [0, 0, 0]
