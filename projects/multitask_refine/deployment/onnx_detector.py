"""Detector that runs an ONNX file, for tools/test.py."""

import torch
from mmdet.registry import MODELS
from mmdet.structures import DetDataSample
from mmengine.model import BaseModel
from mmengine.structures import InstanceData
from torch import Tensor

from multitask_runtime.onnx.metadata import to_dataset_meta
from multitask_runtime.onnx.onnx_model import OnnxModel
from multitask_runtime.utils.errors import OnnxError


class OnnxFileError(OnnxError):
    """An ONNX file that cannot be evaluated."""


@MODELS.register_module()
class OnnxDetector(BaseModel):
    """Detect instances with an exported model, run by onnxruntime.

    ``test_step`` and ``val_step`` take and return what those of ``MultitaskRCNN`` do.
    Images go through the model one by one.

    Args:
        file (str): The ONNX file.
        device (str): As in ``load_session``. Defaults to 'auto'.

    Attributes:
        dataset_meta (dict): Classes and, of a model with a keypoint head, keypoints, from
            the metadata of the file.

    Raises:
        FileNotFoundError: If the file does not exist.
        OnnxFileError: If it cannot be used, or not with this onnxruntime.
    """

    def __init__(self, file: str, device: str = 'auto') -> None:
        super().__init__()
        try:
            self._model = OnnxModel(file, device)
        except OnnxError as error:
            raise OnnxFileError(str(error)) from None
        self.dataset_meta = to_dataset_meta(self._model.metadata)
        if not self._model.has_keypoints:
            self.dataset_meta = dict(classes=self.dataset_meta['classes'])

    def forward(
        self,
        inputs: list[Tensor],
        data_samples: list[DetDataSample] | None = None,
        mode: str = 'predict',
    ) -> list[DetDataSample]:
        """Detect the instances of each image.

        Args:
            inputs (list[Tensor]): Resized images, BGR, 0 to 255, shape (3, H, W).
            data_samples (list[DetDataSample]): With ``scale_factor`` and ``ori_shape``.
            mode (str): Only 'predict'.

        Returns:
            list[DetDataSample]: The samples with ``pred_instances`` as those of
            ``MultitaskRCNN``, in pixels of the original images.

        Raises:
            ValueError: If the mode is another one.
        """
        if mode != 'predict':
            raise ValueError(f"mode: expected 'predict', got '{mode}'")
        for image, sample in zip(inputs, data_samples, strict=True):
            instances = self._model(image.cpu().numpy(), sample.scale_factor, sample.ori_shape)
            sample.pred_instances = InstanceData(
                **{name: torch.from_numpy(values) for name, values in instances.items()}
            )
        return data_samples
