"""Detector that runs an exported file, for tools/test.py."""

from typing import Any

import torch
from mmdet.registry import MODELS
from mmdet.structures import DetDataSample
from mmengine.model import BaseModel
from mmengine.structures import InstanceData
from torch import Tensor

from multitask_runtime.onnx.metadata import to_dataset_meta
from multitask_runtime.onnx.onnx_model import OnnxModel, ResizedImage
from multitask_runtime.utils.errors import OnnxError


class OnnxFileError(OnnxError):
    """An exported file that cannot be evaluated."""


@MODELS.register_module()
class OnnxDetector(BaseModel):
    """Detect instances with an exported model, run by onnxruntime or OpenVINO.

    ``test_step`` and ``val_step`` take and return what those of ``MultitaskRCNN`` do.
    The images of a batch run in parallel.

    Args:
        file (str): The ONNX file, or an IR of OpenVINO.
        device (str): As in ``load_session``. Defaults to 'auto'.
        options: ``backend``, ``precision`` and ``threads`` of ``load_session``.

    Attributes:
        dataset_meta (dict): Classes and, of a model with a keypoint head, keypoints, from
            the metadata of the file.
        runtime (str): Backend, its version and the precision.

    Raises:
        FileNotFoundError: If the file does not exist.
        OnnxFileError: If it cannot be used, or not with the packages installed here.
    """

    def __init__(self, file: str, device: str = 'auto', **options: Any) -> None:
        super().__init__()
        try:
            self._model = OnnxModel(file, device, **options)
        except OnnxError as error:
            raise OnnxFileError(str(error)) from None
        self.runtime = self._model.runtime
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
        images = [
            ResizedImage(image.cpu().numpy(), sample.scale_factor, sample.ori_shape)
            for image, sample in zip(inputs, data_samples, strict=True)
        ]
        for sample, instances in zip(data_samples, self._model(images), strict=True):
            sample.pred_instances = InstanceData(
                **{name: torch.from_numpy(values) for name, values in instances.items()}
            )
        return data_samples
