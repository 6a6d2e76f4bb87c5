"""Boxes and keypoints under mmdet's transforms."""

import numpy as np
import pytest
import torch

from multitask_refine.structures import KeypointBoxes

# Keypoints: nose, left, right
FLIP = [0, 2, 1]


def _boxes():
    return KeypointBoxes(
        torch.tensor([[10.0, 20.0, 30.0, 60.0], [0.0, 0.0, 8.0, 8.0]]),
        torch.tensor(
            [[[20.0, 22.0], [12.0, 40.0], [28.0, 40.0]], [[4.0, 1.0], [1.0, 5.0], [7.0, 5.0]]]
        ),
        torch.tensor([[2.0, 1.0, 2.0], [0.0, 2.0, 2.0]]),
        FLIP,
    )


def test_horizontal_flip_swaps_left_and_right():
    boxes = _boxes()
    boxes.flip_((80, 100))
    assert boxes.tensor[0].tolist() == [70, 20, 90, 60]
    # The left keypoint is the reflected image of the right one.
    assert boxes.keypoints[0].tolist() == [[80, 22], [72, 40], [88, 40]]
    assert boxes.keypoints_visible[0].tolist() == [2, 2, 1]


def test_diagonal_flip_is_a_rotation_and_swaps_nothing():
    boxes = _boxes()
    boxes.flip_((80, 100), 'diagonal')
    assert boxes.keypoints[0].tolist() == [[80, 58], [88, 40], [72, 40]]
    assert boxes.keypoints_visible[0].tolist() == [2, 1, 2]


def test_translate_rescale_and_clip():
    boxes = _boxes()
    boxes.translate_((-15, 1))
    boxes.rescale_((2, 0.5))
    assert boxes.tensor[0].tolist() == [-10, 10.5, 30, 30.5]
    assert boxes.keypoints[0].tolist() == [[10, 11.5], [-6, 20.5], [26, 20.5]]
    boxes.clip_((25, 20))
    assert boxes.tensor[0].tolist() == [0, 10.5, 20, 25]
    assert boxes.keypoints_visible[0].tolist() == [2, 0, 0]


def test_projection_and_rotation_move_corners_and_keypoints_alike():
    quarter = _boxes()
    quarter.rotate_((0.0, 0.0), 90)
    # Clockwise in an image whose y points down: (x, y) -> (-y, x)
    torch.testing.assert_close(quarter.keypoints[0, 1], torch.tensor([-40.0, 12.0]))
    torch.testing.assert_close(quarter.tensor[0], torch.tensor([-60.0, 10.0, -20.0, 30.0]))
    reflected = _boxes()
    reflected.project_(np.diag([-1.0, 1.0, 1.0]))
    assert reflected.keypoints[0].tolist() == [[-20, 22], [-28, 40], [-12, 40]]


def test_select_concatenate_and_copy_keep_keypoints_with_their_box():
    boxes = _boxes()
    selected = boxes[np.array([False, True])]
    assert len(selected) == 1 and selected.keypoints[0, 0].tolist() == [4, 1]
    assert boxes[-1].keypoints[0, 0].tolist() == [4, 1]
    concatenated = KeypointBoxes.cat([selected, boxes])
    assert concatenated.keypoints[:, 0, 0].tolist() == [4, 20, 4]
    copy = boxes.clone()
    copy.flip_((80, 100))
    assert boxes.keypoints[0, 0, 0] == 20
    assert len(boxes.empty_boxes()) == 0


def test_shapes_must_match():
    with pytest.raises(ValueError, match=r'\(1, 3, 2\).*\(1, 2, 2\)'):
        KeypointBoxes(torch.zeros(1, 4), torch.zeros(1, 2, 2), torch.zeros(1, 2), FLIP)
