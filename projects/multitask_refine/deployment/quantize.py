"""Quantize exported files to float16 or int8, as ONNX files or as IR of OpenVINO."""

import importlib
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from multitask_runtime.io.image_file import ImageFile
from multitask_runtime.io.inputs import collect
from multitask_runtime.io.resize import Resizer
from multitask_runtime.onnx.session import MIN_OPENVINO, Session, is_exported, is_ir, load_session
from multitask_runtime.utils.errors import InputError, OnnxError
from multitask_runtime.utils.files import atomic_write, file_sha256

from .metadata import to_props
from .quantize_to_ir import quantize_to_ir

if TYPE_CHECKING:
    from onnx import ModelProto

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
        out (str | Path): The file to write: ``.onnx`` with the tools of onnxruntime, or
            ``.xml``, an IR of OpenVINO, see ``quantize_to_ir``.
        kind (str): 'float16', 'int8-dynamic' (ranges are measured in each image; ONNX only) or
            'int8-static' (ranges are calibrated with ``images``).
        images (str | Path, optional): Folder of images for 'int8-static'; the first 100
            are used.

    Raises:
        FileNotFoundError: If the file does not exist.
        QuantizationError: If this project did not export the file, it is quantized already,
            ``out`` or ``images`` does not fit, or a package is missing.
    """
    source, out = Path(source), Path(out)
    if not is_exported(out):
        raise QuantizationError(f'{out}: expected a file that ends in .onnx or .xml')
    if is_ir(source):
        raise QuantizationError(
            f'{source}: expected the ONNX file that `multitask export` wrote, found an IR of '
            'OpenVINO'
        )
    if out.resolve() == source.resolve():
        raise QuantizationError(f'{out}: expected another file than the one that is read')
    if is_ir(out) and kind == 'int8-dynamic':
        raise QuantizationError(
            f'{out}: expected a file that ends in .onnx for int8-dynamic: OpenVINO has only '
            'ranges that are calibrated (int8-static)'
        )
    if kind != 'int8-static' and images is not None:
        raise QuantizationError(
            f'images: expected none for {kind}, which is not calibrated, found {images}'
        )
    if kind == 'int8-static' and (images is None or not Path(images).is_dir()):
        raise QuantizationError(
            'images: expected a folder of images, with which int8-static is calibrated, '
            f'found {images or "none"}'
        )
    _require_packages(kind, is_ir(out))
    try:
        # The backend that will run the file also finds the images to calibrate it with.
        session = load_session(source, backend='openvino' if is_ir(out) else 'onnxruntime')
        metadata = session.metadata
        # Release 1.0 wrote the British spelling.
        found = metadata.get('quantization', metadata.get('quantisation'))
        if found:
            raise OnnxError(
                f'{source}: expected a file of float32, as tools/deployment/export_onnx.py '
                f'writes it, found {found}'
            )
        calibration = CalibrationImages(images, session) if images else None
        metadata.update(quantization=kind, source_sha256=file_sha256(source))
        if is_ir(out):
            quantize_to_ir(source, out, to_props(metadata), calibration)
        else:
            _quantize_to_onnx(source, out, kind, to_props(metadata), calibration)
    except (OnnxError, InputError) as error:
        raise QuantizationError(str(error)) from None


def _require_packages(kind: str, to_ir: bool) -> None:
    """Explain how to install what quantization needs."""
    if not to_ir:
        names, command = ('onnx', 'onnxruntime.quantization'), 'onnx onnxruntime sympy'
    elif kind == 'int8-static':
        names, command = ('openvino', 'nncf'), f"'openvino>={MIN_OPENVINO}' 'nncf>=3.4'"
    else:
        names, command = ('openvino',), f"'openvino>={MIN_OPENVINO}'"
    try:
        for name in names:
            importlib.import_module(name)
    except ImportError as error:
        raise QuantizationError(
            f'Packages that are needed to write {kind} cannot be imported ({error}). Install '
            f'them: pip install {command}'
        ) from None


class CalibrationImages:
    """Inputs of the graph from the images of a folder, resized as the inferencer does it.

    Images without detections are skipped: mask and keypoint head would have no values.

    Args:
        folder (str | Path): The folder; its first 100 images are used.
        session (Session): Runs the model.

    Raises:
        InputError: If the model detects nothing in any of them.
    """

    def __init__(self, folder: str | Path, session: Session) -> None:
        self._read_image = ImageFile(session.metadata['image_backend'])
        self._resize = Resizer(session.metadata['resize'])
        paths = [source.value for source in collect(folder).sources[:_MAX_IMAGES]]
        self._paths = [path for path in paths if len(session.run([self._load(path)])[0]['scores'])]
        if not self._paths:
            raise InputError(
                f'{folder}: expected images with people that the model detects, found none. Use '
                'images like those that it was trained on.'
            )

    def __len__(self) -> int:
        return len(self._paths)

    def __iter__(self) -> Iterator[np.ndarray]:
        """Yield arrays of shape (1, 3, H, W), read anew in each pass."""
        return map(self._load, self._paths)

    def _load(self, path: str) -> np.ndarray:
        image = self._resize(self._read_image(path)).transpose(2, 0, 1)[None]
        return np.ascontiguousarray(image, np.float32)


def _quantize_to_onnx(
    source: Path, out: Path, kind: str, props: dict[str, str], images: CalibrationImages | None
) -> None:
    import onnx

    graph = onnx.load(source)
    graph = to_float16(graph) if kind == 'float16' else to_int8(graph, images)
    graph.ClearField('metadata_props')
    onnx.helper.set_model_props(graph, props)
    with atomic_write(out) as part:
        onnx.save(graph, part)
        load_session(part, backend='onnxruntime')  # fails if it cannot be opened


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


def to_int8(graph: 'ModelProto', images: Iterable[np.ndarray] | None) -> 'ModelProto':
    """Convert the convolutions and linear layers of a graph to int8.

    Args:
        graph (onnx.ModelProto): The exported graph.
        images (Iterable[np.ndarray], optional): Inputs to calibrate the ranges with. Without
            them the ranges are measured in each image.

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
        if images is None:
            # onnxruntime has dynamic convolutions for unsigned weights only.
            quantize_dynamic(
                graph, path, op_types_to_quantize=_INT8_OPERATORS, weight_type=QuantType.QUInt8
            )
        else:
            feeds = (dict(image=image) for image in images)

            class FeedReader(CalibrationDataReader):
                def get_next(self) -> dict[str, np.ndarray] | None:
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
