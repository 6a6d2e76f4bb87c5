"""Exported files with smaller numbers, by onnxruntime's own tools."""

import json
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Callable, Dict, Iterator, Optional, Union

import numpy as np

from multitask_refine.utils.errors import ExplainedError
from multitask_runtime.io.image_file import ImageFile
from multitask_runtime.io.inputs import collect
from multitask_runtime.io.resize import Resizer
from multitask_runtime.onnx.metadata import FORMAT, FORMAT_VERSION
from multitask_runtime.onnx.session import load_session
from multitask_runtime.utils.errors import InputError, OnnxError
from multitask_runtime.utils.files import atomic_write, file_sha256

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

Feed = Dict[str, np.ndarray]
KINDS = ('float16', 'int8-dynamic', 'int8-static')
# What is computed in int8, and what of the layers in float16. All else, such
# as the arithmetic on boxes, stays float32.
_PRODUCTS = ('Conv', 'MatMul', 'Gemm')
_LAYERS = (*_PRODUCTS, 'ConvTranspose', 'Relu', 'MaxPool', 'Add', 'Flatten')
_MOST = 100  # pictures to measure ranges in
_INSTALL = 'pip install onnx onnxruntime sympy'


class QuantizationError(ExplainedError, OnnxError):
    """A file that cannot be quantised, or not with these pictures."""


def quantize(
    source: Union[str, Path],
    out: Union[str, Path],
    kind: str,
    images: Optional[Union[str, Path]] = None,
) -> None:
    """Write an exported network with smaller numbers.

    Inputs and outputs stay float32. The description gets ``quantization``,
    the kind, and ``source_sha256``.

    Args:
        source (str | Path): The file, as ``export`` writes it.
        out (str | Path): The file to write, ``.onnx``.
        kind (str): 'float16', 'int8-dynamic' (ranges are measured anew in
            each picture) or 'int8-static' (they are those of ``images``).
        images (str | Path, optional): A folder of pictures, for
            'int8-static' only; the first 100 are taken.

    Raises:
        FileNotFoundError: If there is no such file or folder.
        QuantizationError: If the file is not of this project or quantised
            already, ``out`` will not do, there are no pictures, or a package
            is missing.
    """
    source, out = Path(source), Path(out)
    _check_arguments(source, out, kind, images)
    onnx = _import_onnx()
    try:
        session, description = load_session(source)
        # Version 1.0 of the project wrote the British spelling.
        found = description.get('quantization', description.get('quantisation'))
        if found:
            raise OnnxError(
                f'{source}: expected a file of float32, as '
                f'tools/deployment/export_onnx.py writes it, found {found}'
            )
        pictures = _read_pictures(images, session, description)
        graph = _CONVERT[kind](onnx.load(source), pictures)
        description.update(quantization=kind, source_sha256=file_sha256(source))
        _write(onnx, graph, description, out)
    except (OnnxError, InputError) as error:
        raise QuantizationError(str(error)) from None


def _check_arguments(
    source: Path, out: Path, kind: str, images: Optional[Union[str, Path]]
) -> None:
    if out.suffix != '.onnx':
        raise QuantizationError(f'{out}: expected a file that ends in .onnx')
    if out.resolve() == source.resolve():
        raise QuantizationError(f'{out}: expected another file than the one that is read')
    if kind != 'int8-static' and images is not None:
        raise QuantizationError(
            f'images: expected none for {kind}, which looks at no pictures '
            f'beforehand, found {images}'
        )
    if kind == 'int8-static' and (images is None or not Path(images).is_dir()):
        raise QuantizationError(
            'images: expected a folder of pictures, in which int8-static '
            f'measures ranges, found {images or "none"}'
        )


def _read_pictures(
    folder: Optional[Union[str, Path]], session: 'InferenceSession', description: dict
) -> Iterator[Feed]:
    """The graph's inputs, resized as the inferencer does it.

    Pictures in which nobody is found are passed over: the heads of masks and
    joints would have no values there.
    """
    read = ImageFile(description['image_backend'])
    resize = Resizer(description['resize'])
    used = 0
    for source in collect(folder).sources[:_MOST]:
        pixels = resize(read(source.value)).transpose(2, 0, 1)[None]
        feed = dict(image=np.ascontiguousarray(pixels, np.float32))
        if len(session.run(['scores'], feed)[0]):
            used += 1
            yield feed
    if not used:
        raise InputError(
            f'{folder}: expected pictures with people that the network '
            'finds, found none. Take pictures like those that it was '
            'trained on.'
        )


def _to_float16(graph, _):
    """The layers in float16; they and all else take and give float32."""
    import onnx
    from onnxruntime.transformers.float16 import convert_float_to_float16

    layers = [node for node in graph.graph.node if _is_in_layer(node)]
    others = [node.name for node in graph.graph.node if not _is_in_layer(node)]
    touched = {name for node in layers for name in (*node.input, *node.output)}
    inferred = onnx.shape_inference.infer_shapes(graph)
    # Whatever the converter knows the type of it rounds to float16, so it
    # gets to know only what the layers take and give. The graph's own inputs
    # and outputs are not among that.
    known = [value for value in inferred.graph.value_info if value.name in touched]
    ends = [list(inferred.graph.input), list(inferred.graph.output)]
    for field in ('value_info', 'input', 'output'):
        inferred.graph.ClearField(field)
    inferred.graph.value_info.extend(known)
    converted = convert_float_to_float16(
        inferred, disable_shape_infer=True, op_block_list=[], node_block_list=others
    )
    converted.graph.ClearField('value_info')
    converted.graph.input.extend(ends[0])
    converted.graph.output.extend(ends[1])
    return converted


def _is_in_layer(node) -> bool:
    """The exporter's names are '/backbone/...' in layers, '/...' outside."""
    return node.op_type in _LAYERS and node.name.count('/') > 1


def _to_int8_dynamic(graph, _):
    from onnxruntime.quantization import QuantType, quantize_dynamic

    # onnxruntime has dynamic convolutions for unsigned weights only.
    return _through_file(
        lambda out: quantize_dynamic(
            graph, out, op_types_to_quantize=list(_PRODUCTS), weight_type=QuantType.QUInt8
        )
    )


def _to_int8_static(graph, pictures: Iterator[Feed]):
    from onnxruntime.quantization import CalibrationDataReader, QuantType, quantize_static

    class Pictures(CalibrationDataReader):
        def get_next(self) -> Optional[Feed]:
            return next(pictures, None)

    # Weights of 7 bits: with 8, onnxruntime's sums of two products overflow
    # in silence on processors without instructions for them (VNNI).
    return _through_file(
        lambda out: quantize_static(
            graph,
            out,
            Pictures(),
            op_types_to_quantize=list(_PRODUCTS),
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            reduce_range=True,
        )
    )


def _through_file(write: Callable[[str], None]):
    """What a tool of onnxruntime writes."""
    import onnx

    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder) / 'out.onnx')
        write(path)
        return onnx.load(path)


_CONVERT = dict(zip(KINDS, (_to_float16, _to_int8_dynamic, _to_int8_static)))


def _write(onnx, graph, description: dict, out: Path) -> None:
    """Write the file, whole, after onnxruntime has opened it."""
    graph.ClearField('metadata_props')
    onnx.helper.set_model_props(
        graph,
        dict(
            format=FORMAT, format_version=str(FORMAT_VERSION), description=json.dumps(description)
        ),
    )
    with atomic_write(out) as draft:
        onnx.save(graph, draft)
        load_session(draft)


def _import_onnx():
    try:
        import onnx
        import onnxruntime.quantization  # noqa: F401
    except ImportError as error:
        raise QuantizationError(
            'The packages onnx and onnxruntime, with sympy, are needed to '
            f'quantize, and cannot be imported ({error}). Install them: '
            f'{_INSTALL}'
        ) from None
    return onnx
