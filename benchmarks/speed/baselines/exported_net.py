"""Baseline of an exported file, without PyTorch."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from benchmarks.speed.memory import measure_peak
from multitask_runtime.onnx.onnx_model import OnnxModel, ResizedImage


class ExportedNet:
    """An exported file of this project in onnxruntime or OpenVINO, for inference.

    Args:
        file: The file.
        backend: As in ``load_session``.
        precision: The same.
        threads: The same.
    """

    person_label = 0

    def __init__(self, file: str, backend: str, precision: str, threads: int) -> None:
        self.model = OnnxModel(file, backend=backend, precision=precision, threads=threads)

    def describe(self) -> dict[str, Any]:
        """Return the device, and backend, version and precision."""
        return dict(device='CPU', runtime=self.model.runtime)

    def to_batch(self, images: Sequence[np.ndarray], people: object = None) -> list[ResizedImage]:
        """Convert RGB images (H, W, 3) to BGR (3, H, W); they are not resized."""
        return [
            ResizedImage(image[..., ::-1].transpose(2, 0, 1), (1.0, 1.0), image.shape[:2])
            for image in images
        ]

    def predict(self, batch: list[ResizedImage]) -> list[dict[str, np.ndarray]]:
        """Detect the instances, with the masks pasted into the image."""
        return self.model(batch)

    def to_arrays(self, result: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Return the instances of an image."""
        return result

    def synchronize(self) -> None:
        """Do nothing: a call returns when it is done."""

    def measure_memory(self, call: Callable[[], object]) -> dict[str, Any]:
        """Measure the peak memory of a call."""
        return measure_peak(call)
