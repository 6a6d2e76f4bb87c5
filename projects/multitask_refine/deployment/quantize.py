"""Quantize exported files to float16 or int8 with the tools of onnxruntime."""

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from multitask_runtime.io.image_file import ImageFile
from multitask_runtime.io.inputs import collect
from multitask_runtime.io.resize import Resizer
from multitask_runtime.onnx.session import load_session
from multitask_runtime.utils.errors import InputError, OnnxError
from multitask_runtime.utils.files import atomic_write, file_sha256

from .metadata import to_props

if TYPE_CHECKING:
    from onnx import ModelProto
    from onnxruntime import InferenceSession

Feed = dict[str, np.ndarray]
KINDS = ('float16', 'int8-dynamic', 'int8-static')
# Operators in int8, and those of the layers in float16. All others, such as the arithmetic
# on boxes, stay float32.
_INT8_OPERATORS = ['Conv', 'MatMul', 'Gemm']
_FLOAT16_OPERATORS = [*_INT8_OPERATORS, 'ConvTranspose', 'Relu', 'MaxPool', 'Add', 'Flatten']
_MAX_IMAGES = 100  # for calibration


class QuantizationError(OnnxError):
    """A file that cannot be quantized, or not with these images."""


def quantize(
    source: str | Path, out: str | Path, kind: str, images: str | Path | None = None
) -> None:
    """Quantize an exported model.

    Inputs and outputs stay float32. The metadata get ``quantization``, the kind, and
    ``source_sha256``.

    Args:
        source (str | Path): The file, as ``export`` writes it.
        out (str | Path): The file to write, ``.onnx``.
        kind (str): 'float16', 'int8-dynamic' (ranges are measured in each image) or
            'int8-static' (ranges are calibrated with ``images``).
        images (str | Path, optional): Folder of images for 'int8-static'; the first 100
            are used.

    Raises:
        FileNotFoundError: If the file does not exist.
        QuantizationError: If this project did not export the file, it is quantized already,
            ``out`` or ``images`` does not fit, or a package is missing.
    """
    source, out = Path(source), Path(out)
    if out.suffix != '.onnx':
        raise QuantizationError(f'{out}: expected a file that ends in .onnx')
    if out.resolve() == source.resolve():
        raise QuantizationError(f'{out}: expected another file than the one that is read')
    if kind != 'int8-static' and images is not None:
        raise QuantizationError(
            f'images: expected none for {kind}, which is not calibrated, found {images}'
        )
    if kind == 'int8-static' and (images is None or not Path(images).is_dir()):
        raise QuantizationError(
            'images: expected a folder of images, with which int8-static is calibrated, '
            f'found {images or "none"}'
        )
    try:
        import onnx
        import onnxruntime.quantization  # noqa: F401
    except ImportError as error:
        raise QuantizationError(
            'The packages onnx and onnxruntime, with sympy, are needed to quantize, and '
            f'cannot be imported ({error}). Install them: pip install onnx onnxruntime sympy'
        ) from None
    try:
        session, metadata = load_session(source)
        # Release 1.0 wrote the British spelling.
        found = metadata.get('quantization', metadata.get('quantisation'))
        if found:
            raise OnnxError(
                f'{source}: expected a file of float32, as tools/deployment/export_onnx.py '
                f'writes it, found {found}'
            )
        graph = onnx.load(source)
        if kind == 'float16':
            graph = to_float16(graph)
        else:
            feeds = _read_feeds(images, session, metadata) if images else None
            graph = to_int8(graph, feeds)
        metadata.update(quantization=kind, source_sha256=file_sha256(source))
        graph.ClearField('metadata_props')
        onnx.helper.set_model_props(graph, to_props(metadata))
        with atomic_write(out) as part:
            onnx.save(graph, part)
            load_session(part)  # fails if onnxruntime cannot open it
    except (OnnxError, InputError) as error:
        raise QuantizationError(str(error)) from None


def _read_feeds(
    folder: str | Path, session: 'InferenceSession', metadata: dict[str, Any]
) -> Iterator[Feed]:
    """Yield the inputs of the graph, resized as the inferencer does it.

    Images without detections are skipped: mask and keypoint head would have no values.
    """
    read_image = ImageFile(metadata['image_backend'])
    resize = Resizer(metadata['resize'])
    num_used = 0
    for source in collect(folder).sources[:_MAX_IMAGES]:
        image = resize(read_image(source.value)).transpose(2, 0, 1)[None]  # (1, 3, H, W)
        feed = dict(image=np.ascontiguousarray(image, np.float32))
        if len(session.run(['scores'], feed)[0]):
            num_used += 1
            yield feed
    if not num_used:
        raise InputError(
            f'{folder}: expected images with people that the model detects, found none. Use '
            'images like those that it was trained on.'
        )


def to_float16(graph: 'ModelProto') -> 'ModelProto':
    """Convert the layers of a graph to float16, with float32 inputs and outputs.

    Args:
        graph (onnx.ModelProto): The exported graph.

    Returns:
        onnx.ModelProto: The converted graph.
    """
    import onnx
    from onnxruntime.transformers.float16 import convert_float_to_float16

    layers, others = [], []
    for node in graph.graph.node:
        # The exporter names nodes '/backbone/...' in layers, and '/...' outside of them.
        is_layer = node.op_type in _FLOAT16_OPERATORS and node.name.count('/') > 1
        (layers if is_layer else others).append(node)
    touched = {name for node in layers for name in (*node.input, *node.output)}
    inferred = onnx.shape_inference.infer_shapes(graph)
    # The converter rounds every value whose type it knows to float16, so it may know only
    # inputs and outputs of the layers, not those of the graph.
    known = [value for value in inferred.graph.value_info if value.name in touched]
    inputs, outputs = list(inferred.graph.input), list(inferred.graph.output)
    for field in ('value_info', 'input', 'output'):
        inferred.graph.ClearField(field)
    inferred.graph.value_info.extend(known)
    converted = convert_float_to_float16(
        inferred,
        disable_shape_infer=True,
        op_block_list=[],
        node_block_list=[node.name for node in others],
    )
    converted.graph.ClearField('value_info')
    converted.graph.input.extend(inputs)
    converted.graph.output.extend(outputs)
    return converted


def to_int8(graph: 'ModelProto', feeds: Iterator[Feed] | None) -> 'ModelProto':
    """Convert the convolutions and linear layers of a graph to int8.

    Args:
        graph (onnx.ModelProto): The exported graph.
        feeds (Iterator[dict], optional): Inputs to calibrate the ranges with. Without them
            the ranges are measured in each image.

    Returns:
        onnx.ModelProto: The converted graph.
    """
    import onnx
    from onnxruntime.quantization import (
        CalibrationDataReader,
        QuantType,
        quantize_dynamic,
        quantize_static,
    )

    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder) / 'out.onnx')
        if feeds is None:
            # onnxruntime has dynamic convolutions for unsigned weights only.
            quantize_dynamic(
                graph, path, op_types_to_quantize=_INT8_OPERATORS, weight_type=QuantType.QUInt8
            )
        else:

            class FeedReader(CalibrationDataReader):
                def get_next(self) -> Feed | None:
                    return next(feeds, None)

            # Weights of 7 bits: with 8, sums of two products overflow silently on
            # processors without instructions for them (VNNI).
            quantize_static(
                graph,
                path,
                FeedReader(),
                op_types_to_quantize=_INT8_OPERATORS,
                activation_type=QuantType.QUInt8,
                weight_type=QuantType.QInt8,
                reduce_range=True,
            )
        return onnx.load(path)
