"""Quantize ONNX files with NNCF to IR of OpenVINO."""

import logging
import shutil
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from multitask_runtime.onnx.openvino_session import METADATA_PATH, read_model
from multitask_runtime.onnx.session import load_session
from multitask_runtime.utils.errors import OnnxError
from multitask_runtime.utils.files import atomic_write

if TYPE_CHECKING:
    from openvino import Model

# Operators of the layers that become int8.
_INT8_OPERATORS = ('Convolution', 'GroupConvolution', 'ConvolutionBackpropData', 'MatMul')


def quantize_to_ir(
    source: Path, out: Path, props: dict[str, str], images: Iterable[np.ndarray] | None = None
) -> None:
    """Write an ONNX file as IR, with weights in float16 or layers in int8.

    Args:
        source (Path): The file, as ``export`` writes it.
        out (Path): The file to write, ``.xml``; the weights are in the ``.bin`` beside it.
        props (dict[str, str]): Metadata, from ``to_props``.
        images (Iterable[np.ndarray], optional): Inputs to calibrate int8 with. Without them the
            weights are in float16, and computed with in float32.

    Raises:
        OnnxError: If OpenVINO is too old or cannot read the file, or NNCF cannot quantize it.
    """
    from openvino import save_model

    model = read_model(str(source))
    if images is not None:
        import nncf

        try:
            model = to_int8(model, images)
        except nncf.InternalError as error:
            raise OnnxError(
                f'{source}: NNCF cannot quantize this model ({error}). Quantize it to a .onnx '
                'file for onnxruntime, which OpenVINO runs, too.'
            ) from None
    for name, value in props.items():
        model.set_rt_info(value, [METADATA_PATH, name])
    with tempfile.TemporaryDirectory() as folder:
        written = Path(folder) / 'model.xml'
        save_model(model, written, compress_to_fp16=images is None)
        load_session(written, backend='openvino')  # fails if it cannot be opened
        # The weights first: an IR without its weights is refused, the reverse is only a file.
        for suffix in ('.bin', '.xml'):
            with atomic_write(out.with_suffix(suffix)) as part:
                shutil.copyfile(written.with_suffix(suffix), part)


def to_int8(model: 'Model', images: Iterable[np.ndarray]) -> 'Model':
    """Quantize convolutions and linear layers by NNCF's post-training quantization.

    Args:
        model (openvino.Model): The model.
        images (Iterable[np.ndarray]): Inputs, shape (1, 3, H, W); passed through several times.

    Returns:
        openvino.Model: The quantized model.
    """
    import nncf

    nncf.set_log_level(logging.WARNING)
    # The exporter names nodes '/backbone/...' in layers, and '/...' outside of them, where boxes
    # and keypoints are computed.
    others = [
        node.get_friendly_name()
        for node in model.get_ordered_ops()
        if node.get_type_name() not in _INT8_OPERATORS and node.get_friendly_name().count('/') < 2
    ]
    return nncf.quantize(
        model,
        nncf.Dataset(images),
        preset=nncf.QuantizationPreset.MIXED,
        target_device=nncf.TargetDevice.CPU,
        subset_size=sum(1 for _ in images),
        ignored_scope=nncf.IgnoredScope(names=others, validate=False),
        # Weights of 7 bits: with 8, sums of two products overflow silently on processors
        # without instructions for them (VNNI).
        advanced_parameters=nncf.AdvancedQuantizationParameters(
            overflow_fix=nncf.OverflowFix.ENABLE
        ),
    )
