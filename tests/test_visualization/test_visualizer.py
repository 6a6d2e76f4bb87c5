import numpy as np
import pytest
import torch
from mmdet.structures import DetDataSample
from mmengine.structures import InstanceData

from multitask_refine.visualization import MultitaskVisualizer
from multitask_runtime.drawing import draw_instances

META = dict(
    classes=('person',),
    skeleton_links=[(0, 1)],
    skeleton_link_colors=[(0, 0, 255)],
    keypoint_colors=[(0, 255, 0), (255, 0, 0)],
)


def _draw(instances, **kwargs):
    visualizer = MultitaskVisualizer(**kwargs)
    visualizer.dataset_meta = META
    image = np.full((60, 80, 3), 100, np.uint8)
    return visualizer._draw_instances(image, instances, ('person',), None)


def _person(scores=(0.9, 0.9), **fields):
    return InstanceData(
        bboxes=torch.tensor([[5.0, 20.0, 75.0, 55.0]]),
        keypoints=torch.tensor([[[30.5, 40.5], [60.5, 40.5]]]),
        keypoint_scores=torch.tensor([scores]),
        **fields,
    )


def test_keypoint_and_limb_colors_of_the_dataset_meta():
    image = _draw(_person())
    assert image[40, 30].tolist() == [0, 255, 0]
    assert image[40, 60].tolist() == [255, 0, 0]
    assert abs(image[40, 45].astype(int) - [0, 0, 255]).max() < 20


def test_keypoint_below_the_threshold_is_hidden_with_its_limb():
    image = _draw(_person(scores=(0.9, 0.1)), kpt_thr=0.2)
    assert image[40, 30].tolist() == [0, 255, 0]
    assert image[40, 60].tolist() == image[40, 45].tolist() == [100] * 3


def test_mask_covers_exactly_its_pixels():
    mask = torch.zeros(1, 60, 80, dtype=torch.bool)
    mask[0, 25:50, 10:20] = True
    image = _draw(_person(scores=(0, 0), masks=mask))
    inside_the_box = slice(23, 52), slice(8, 72)
    changed = (image != 100).any(-1)[inside_the_box]
    assert (changed == mask[0].numpy()[inside_the_box]).all()


def test_ground_truth_and_prediction_side_by_side(tmp_path):
    visualizer = MultitaskVisualizer()
    visualizer.dataset_meta = META
    sample = DetDataSample()
    sample.gt_instances = _person()
    del sample.gt_instances.keypoint_scores
    sample.gt_instances.keypoints_visible = torch.tensor([[2.0, 2.0]])
    sample.pred_instances = _person(scores=(0, 0), labels=torch.zeros(1).long())
    sample.pred_instances.scores = torch.tensor([0.1])
    visualizer.add_datasample(
        'x', np.full((60, 80, 3), 100, np.uint8), sample, out_file=str(tmp_path / 'x.png')
    )
    import cv2

    image = cv2.imread(str(tmp_path / 'x.png'))
    assert image.shape == (60, 160, 3)
    assert (image[:, :80] != 100).any() and (image[:, 80:] == 100).all()


@pytest.mark.parametrize('order', ['C', 'F'])
def test_masks_are_blended_as_their_formula_says(order):
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (20, 30, 3), dtype=np.uint8)
    mask = np.zeros((20, 30), bool, order)
    mask[3:9, 4:20] = rng.random((6, 16)) < 0.5
    instances = dict(bboxes=np.full((2, 4), -99.0), masks=[mask, np.zeros_like(mask)])
    drawn = draw_instances(image, instances, {}, mask_alpha=0.3)
    # The first color is the hue 0 with the saturation 0.75: (1, 0.25, 0.25) of 255.
    expected = image.astype(float)
    expected[mask] = 0.7 * expected[mask] + 0.3 * np.array([255, 64, 64])
    np.testing.assert_array_equal(drawn, expected.round())
