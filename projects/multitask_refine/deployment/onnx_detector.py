"""An ONNX file in the place of the network, for tools/test.py."""

from typing import List, Optional

import torch
from mmdet.registry import MODELS
from mmdet.structures import DetDataSample
from mmengine.model import BaseModel
from mmengine.structures import InstanceData
from torch import Tensor

from multitask_refine.utils.errors import ExplainedError
from multitask_runtime.onnx.metadata import to_dataset_meta
from multitask_runtime.onnx.onnx_model import OnnxModel
from multitask_runtime.utils.errors import OnnxError


class OnnxFileError(ExplainedError, OnnxError):
    """An ONNX file that cannot be evaluated."""


@MODELS.register_module()
class OnnxDetector(BaseModel):
    """Finds people with an exported network, run by onnxruntime.

    ``test_step`` and ``val_step`` take and return what those of
    ``MultitaskRCNN`` do. Images go through the network one by one.

    Args:
        file (str): The ONNX file.
        device (str): As in ``load_session``. Defaults to 'auto'.

    Attributes:
        dataset_meta (dict): Classes and, of a network with a keypoint head,
            keypoints, as the file says.

    Raises:
        FileNotFoundError: If there is no such file.
        OnnxFileError: If it cannot be used, or not with this onnxruntime.
    """

    def __init__(self, file: str, device: str = 'auto') -> None:
        super().__init__()
        try:
            self._network = OnnxModel(file, device)
        except OnnxError as error:
            raise OnnxFileError(str(error)) from None
        self.dataset_meta = to_dataset_meta(self._network.metadata)
        if not self._network.has_keypoints:
            self.dataset_meta = dict(classes=self.dataset_meta['classes'])

    def forward(
        self,
        inputs: List[Tensor],
        data_samples: Optional[List[DetDataSample]] = None,
        mode: str = 'predict',
    ) -> List[DetDataSample]:
        """Find the people of each image.

        Args:
            inputs (list[Tensor]): Resized images, (3, H, W) BGR, 0 to 255.
            data_samples (list[DetDataSample]): Their ``scale_factor`` and
                ``ori_shape``.
            mode (str): Only 'predict'.

        Returns:
            list[DetDataSample]: The samples with ``pred_instances`` as those
            of ``MultitaskRCNN``, in pixels of the original images.
        """
        if mode != 'predict':
            raise ValueError(f"mode: expected 'predict', got '{mode}'")
        for image, sample in zip(inputs, data_samples):
            people = self._network(image.cpu().numpy(), sample.scale_factor, sample.ori_shape)
            sample.pred_instances = InstanceData(
                **{name: torch.from_numpy(values) for name, values in people.items()}
            )
        return data_samples
