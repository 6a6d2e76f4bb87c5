"""Use an exported network on pictures, folders, videos and cameras."""

from pathlib import Path
from typing import Iterable, Iterator, Tuple, Union

from multitask_runtime.base_inferencer import BaseInferencer
from multitask_runtime.drawing import KPT_THR, MASK_ALPHA
from multitask_runtime.io.frames import Frame
from multitask_runtime.io.image_file import ImageFile
from multitask_runtime.io.resize import Resizer, limit_aspect
from multitask_runtime.io.results import to_result
from multitask_runtime.utils.progress import Progress

from .metadata import to_dataset_meta
from .onnx_model import OnnxModel


class OnnxInferencer(BaseInferencer):
    """Find people in pictures and videos, without PyTorch.

    Calls and results are those of ``MultitaskInferencer``; images go through
    the network one by one, whatever the batch size.

    Args:
        model (str | Path): The ONNX file.
        device (str): 'cpu', 'cuda', 'cuda:1' and so on; 'auto' is CUDA where
            onnxruntime has it. Defaults to 'cpu'.
        show_progress (bool): Tell on stderr how far it is. Defaults to True.

    Raises:
        FileNotFoundError: If there is no such file.
        OnnxError: If it is not one of this project, or onnxruntime (or, for
            some networks, Pillow) is missing, too old or has no such device.

    Examples:
        >>> inferencer = OnnxInferencer('model.onnx')
        >>> result = inferencer('photo.jpg', out_dir='outputs')[0]
        >>> result['keypoints'].shape
        (2, 17, 2)
    """

    def __init__(
        self, model: Union[str, Path], device: str = 'cpu', show_progress: bool = True
    ) -> None:
        self._network = OnnxModel(model, device)
        self.metadata = self._network.metadata
        self.dataset_meta = to_dataset_meta(self.metadata)
        self.joint_shift = self.metadata['joint_shift']
        self.read_image = ImageFile(self.metadata['image_backend'])
        # The first files did not say how to draw.
        self.kpt_thr = self.metadata.get('kpt_thr', KPT_THR)
        self.mask_alpha = self.metadata.get('mask_alpha', MASK_ALPHA)
        self.show_progress = show_progress
        self._resize = Resizer(self.metadata['resize'])

    def _results(
        self, frames: Iterable[Frame], batch_size: int, report: Progress
    ) -> Iterator[Tuple[Frame, dict]]:
        for frame in frames:
            height, width = frame.image.shape[:2]
            try:
                resized = self._resize(limit_aspect(frame.image))
                factor = resized.shape[1] / width, resized.shape[0] / height
                people = self._network(resized.transpose(2, 0, 1), factor, (height, width))
                result = to_result(frame, people, self.joint_shift)
            except Exception as error:  # the other images go on
                report.fail(frame.source, frame.title, error)
            else:
                yield frame, result
