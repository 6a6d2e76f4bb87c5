"""Inferencer for exported models."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from time import perf_counter

from multitask_runtime.base_inferencer import BaseInferencer
from multitask_runtime.drawing import KPT_THR, MASK_ALPHA
from multitask_runtime.io.frames import Frame
from multitask_runtime.io.image_file import ImageFile
from multitask_runtime.io.resize import Resizer, limit_aspect
from multitask_runtime.result import Result, to_result
from multitask_runtime.utils.progress import Progress

from .metadata import to_dataset_meta
from .onnx_model import OnnxModel


class OnnxInferencer(BaseInferencer):
    """Detect instances in images and videos without PyTorch.

    Calls and results are those of ``MultitaskInferencer``; images go through the
    model one by one, whatever the batch size.

    Args:
        model (str | Path): The ONNX file.
        device (str): 'cpu', 'cuda', 'cuda:1' and so on; 'auto' is CUDA if onnxruntime
            has it. Defaults to 'cpu'.
        show_progress (bool): Whether to show progress on stderr. Defaults to True.

    Attributes:
        metadata (dict): Metadata of the file, see ``read_metadata``.

    Raises:
        FileNotFoundError: If the file does not exist.
        OnnxError: If this project did not export it, or onnxruntime (or, for some
            models, Pillow) is missing, too old or lacks the device.

    Examples:
        >>> inferencer = OnnxInferencer('model.onnx')
        >>> result = inferencer('photo.jpg', out_dir='outputs')[0]
        >>> result['keypoints'].shape
        (2, 17, 2)
    """

    def __init__(self, model: str | Path, device: str = 'cpu', show_progress: bool = True) -> None:
        self._model = OnnxModel(model, device)
        self.metadata = self._model.metadata
        self.dataset_meta = to_dataset_meta(self.metadata)
        self.keypoint_shift = self.metadata['keypoint_shift']
        self.read_image = ImageFile(self.metadata['image_backend'])
        # Files of the first release do not have these two.
        self.kpt_thr = self.metadata.get('kpt_thr', KPT_THR)
        self.mask_alpha = self.metadata.get('mask_alpha', MASK_ALPHA)
        self.show_progress = show_progress
        self._resize = Resizer(self.metadata['resize'])

    def _results(
        self, frames: Iterable[Frame], batch_size: int, progress: Progress
    ) -> Iterator[tuple[Frame, Result]]:
        for frame in frames:
            height, width = frame.image.shape[:2]
            start = perf_counter()
            try:
                resized = self._resize(limit_aspect(frame.image))
                scale_factor = resized.shape[1] / width, resized.shape[0] / height
                ready = perf_counter()
                # (H', W', 3) -> (3, H', W')
                instances = self._model(resized.transpose(2, 0, 1), scale_factor, (height, width))
                done = perf_counter()
                result = to_result(frame, instances, self.keypoint_shift, self.dataset_meta)
            except Exception as error:  # the other images go on
                progress.fail(frame.source, frame.title, error)
            else:
                result.set_speed(ready - start, done - ready, perf_counter() - done)
                yield frame, result
