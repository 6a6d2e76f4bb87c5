"""Checkpoints for the web page and HTTP API of ``multitask_runtime.serve``."""

import io
from pathlib import Path

import numpy as np

from multitask_refine.visualization.offset_figures import draw_panels
from multitask_runtime.serve import ServedModel

from .inferencer import MultitaskInferencer
from .offsets import analyze_image


def load_served_model(
    config: str | Path, checkpoint: str | Path, device: str = 'auto', name: str | None = None
) -> ServedModel:
    """Load a checkpoint as a model of the server.

    Args:
        config (str | Path): The config that the model was trained with.
        checkpoint (str | Path): All of its weights.
        device (str): As in ``MultitaskInferencer``. Defaults to 'auto'.
        name (str, optional): Name on the server. Defaults to that of the checkpoint's file.

    Returns:
        ServedModel: The model; it draws its offsets.

    Raises:
        MissingPackageError: If the extra ``serve`` is not installed.
        ExplainedError: As ``MultitaskInferencer``.
    """
    inferencer = MultitaskInferencer(config, checkpoint, device, show_progress=False)

    def draw_offsets(image: np.ndarray, instance: int, keypoint: str | None) -> bytes:
        _, panels = analyze_image(inferencer, image, instance, keypoint=keypoint)
        png = io.BytesIO()
        draw_panels(panels).savefig(png, format='png', dpi=100)
        return png.getvalue()

    return ServedModel(name or Path(checkpoint).stem, inferencer, draw_offsets)
