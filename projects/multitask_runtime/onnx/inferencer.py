"""Inferencer for exported models."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from time import perf_counter
from typing import NamedTuple

from multitask_runtime.base_inferencer import BaseInferencer
from multitask_runtime.drawing import KPT_THR, MASK_ALPHA
from multitask_runtime.io.frames import Frame
from multitask_runtime.io.image_file import ImageFile
from multitask_runtime.io.resize import Resizer, limit_aspect
from multitask_runtime.result import Result, to_result
from multitask_runtime.utils.progress import Progress

from .metadata import to_dataset_meta
from .onnx_model import OnnxModel, ResizedImage


class _Item(NamedTuple):
    """An image of a batch, and the seconds that its preprocessing took."""

    frame: Frame
    image: ResizedImage
    preprocess: float


class OnnxInferencer(BaseInferencer):
    """Detect instances in images and videos without PyTorch.

    Calls and results are those of ``MultitaskInferencer``; the images of a batch may differ in
    size and run in parallel.

    Args:
        model (str | Path): The ONNX file, or an IR of OpenVINO (``.xml``).
        device (str): 'cpu', 'cuda', 'cuda:1' and so on; 'auto' is CUDA if onnxruntime
            has it. Defaults to 'cpu'.
        show_progress (bool): Whether to show progress on stderr. Defaults to True.
        backend (str): 'onnxruntime', 'openvino', or 'auto': OpenVINO on the CPU where it is
            installed, else onnxruntime. Defaults to 'auto'.
        precision (str): 'float32', or 'bfloat16' with OpenVINO on processors that have it.
            Defaults to 'float32'.
        threads (int, optional): Number of threads. Defaults to the backend's choice.

    Attributes:
        metadata (dict): Metadata of the file, see ``read_metadata``.
        runtime (str): Backend, its version and the precision.

    Raises:
        FileNotFoundError: If the file does not exist.
        OnnxError: If this project did not export it, an argument is wrong, or the backend (or,
            for some models, Pillow) is missing, too old or lacks device or precision.

    Examples:
        >>> inferencer = OnnxInferencer('model.onnx')
        >>> result = inferencer('photo.jpg', out_dir='outputs')[0]
        >>> result['keypoints'].shape
        (2, 17, 2)
    """

    def __init__(
        self,
        model: str | Path,
        device: str = 'cpu',
        show_progress: bool = True,
        *,
        backend: str = 'auto',
        precision: str = 'float32',
        threads: int | None = None,
    ) -> None:
        self._model = OnnxModel(
            model, device, backend=backend, precision=precision, threads=threads
        )
        self.runtime = self._model.runtime
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
        batch: list[_Item] = []
        for frame in frames:
            height, width = frame.image.shape[:2]
            start = perf_counter()
            try:
                resized = self._resize(limit_aspect(frame.image))
            except Exception as error:  # the other images go on
                progress.fail(frame.source, frame.title, error)
                continue
            scale_factor = resized.shape[1] / width, resized.shape[0] / height
            # (H', W', 3) -> (3, H', W')
            image = ResizedImage(resized.transpose(2, 0, 1), scale_factor, (height, width))
            batch.append(_Item(frame, image, perf_counter() - start))
            if len(batch) == batch_size:
                yield from self._predict(batch, progress)
                batch = []
        if batch:
            yield from self._predict(batch, progress)

    def _predict(self, batch: list[_Item], progress: Progress) -> Iterator[tuple[Frame, Result]]:
        """Yield the results of a batch; if it fails, those of each image alone."""
        results = None
        try:
            start = perf_counter()
            found = self._model([item.image for item in batch])
            inference = (perf_counter() - start) / len(batch)
            results = []
            for item, instances in zip(batch, found, strict=True):
                start = perf_counter()
                result = to_result(item.frame, instances, self.keypoint_shift, self.dataset_meta)
                result.set_speed(item.preprocess, inference, perf_counter() - start)
                results.append((item.frame, result))
        except Exception as error:  # the other images go on
            if len(batch) == 1:
                frame = batch[0].frame
                progress.fail(frame.source, frame.title, error)
                return
        # Outside of the handler, whose error keeps the batch in memory.
        if results is None:
            for item in batch:
                yield from self._predict([item], progress)
        else:
            yield from results
