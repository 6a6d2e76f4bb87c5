"""Two networks as one: boxes and keypoints of the first, masks of the second on these boxes."""

from mmdet.registry import MODELS
from mmdet.structures import SampleList
from mmdet.utils import ConfigType
from torch import Tensor

from multitask_refine.ops import set_fast_cpu_ops
from multitask_refine.utils.errors import ConfigError

from .multitask_rcnn import MultitaskRCNN


@MODELS.register_module()
class CombinedRCNN(MultitaskRCNN):
    """Multitask R-CNN whose mask head has a backbone and a neck of its own.

    No public network has masks and keypoints together. This one runs a Keypoint R-CNN and the
    mask branch of a Mask R-CNN on the same image: the first gives boxes, scores and keypoints, the
    second a mask for each of these boxes, pooled from its own feature maps. Both networks take the
    same input. For inference only.

    Args:
        mask_backbone (dict): Config of the backbone of the mask head.
        mask_neck (dict): Config of its neck.
        kwargs: As in :class:`MultitaskRCNN`, with all three heads.
    """

    def __init__(self, *, mask_backbone: ConfigType, mask_neck: ConfigType, **kwargs) -> None:
        """Build the network."""
        super().__init__(**kwargs)
        self.mask_backbone = MODELS.build(mask_backbone)
        self.mask_neck = MODELS.build(mask_neck)
        set_fast_cpu_ops(self, self.fast_cpu_ops)

    def extract_mask_feat(self, batch_inputs: Tensor, x: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """Extract the feature maps of the mask head by its own backbone and neck."""
        return self.mask_neck(self.mask_backbone(batch_inputs))

    def predict(
        self, batch_inputs: Tensor, batch_data_samples: SampleList, rescale: bool = True
    ) -> SampleList:
        """Detect the people of each image, as :class:`MultitaskRCNN`."""
        head = self.roi_head
        metas = [sample.metainfo for sample in batch_data_samples]
        x = self.extract_feat(batch_inputs)
        proposals = [
            each.bboxes for each in self.rpn_head.predict(x, batch_data_samples, rescale=False)
        ]
        results = head.predict_bbox(*head.bbox_forward(x, proposals), proposals, metas)
        boxes = [result.bboxes for result in results]
        mask_x = self.extract_mask_feat(batch_inputs, x)
        outputs = head.instance_forward(
            head.extract_instance_feats(x, boxes), head.extract_instance_feats(mask_x, boxes)
        )
        results = head.postprocess(results, outputs, metas, rescale)
        return self.add_pred_to_datasample(batch_data_samples, results)

    def loss(self, batch_inputs: Tensor, batch_data_samples: SampleList) -> dict:
        """Refuse to train.

        Raises:
            ConfigError: Always.
        """
        raise ConfigError(
            f'model.type={type(self).__name__}: expected a network to train, found two that run '
            'side by side. Train one network with three heads: convert one of the two for '
            'configs/converted/multitask-rcnn_r50_fpn_detectron2_8xb2-90k_coco.py and start from '
            'it (docs/checkpoint-conversion.md).'
        )
