"""Packing of images and annotations for the network."""

from mmdet.datasets.transforms import PackDetInputs
from mmdet.registry import TRANSFORMS
from mmdet.structures.bbox import HorizontalBoxes


@TRANSFORMS.register_module()
class PackMultitaskInputs(PackDetInputs):
    """Pack the image and its annotations for the network.

    ``gt_instances`` has ``bboxes`` (N, 4), ``labels`` (N,), ``masks``, ``has_mask`` (N,) bool,
    ``keypoints`` (N, K, 2) in image pixels and ``keypoints_visible`` (N, K), which is -1 for
    keypoints that the category of an instance does not have. Crowds are in
    ``ignored_instances``.
    """

    mapping_table = {
        **PackDetInputs.mapping_table,
        'gt_keypoints': 'keypoints',
        'gt_keypoints_visible': 'keypoints_visible',
        'gt_has_mask': 'has_mask',
    }

    def transform(self, results: dict) -> dict:
        """Return ``inputs`` and ``data_samples``."""
        boxes = results.get('gt_bboxes')
        if boxes is not None:
            results = dict(
                results,
                gt_bboxes=HorizontalBoxes(boxes.tensor),
                gt_keypoints=boxes.keypoints.numpy(),
                gt_keypoints_visible=boxes.keypoints_visible.numpy(),
                gt_has_mask=boxes.has_mask.numpy(),
            )
        packed = super().transform(results)
        if results.get('replaced_images'):
            packed['data_samples'].set_metainfo(dict(replaced_images=results['replaced_images']))
        return packed
