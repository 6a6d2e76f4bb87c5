"""Run ONNX files and IR with OpenVINO on the CPU, and explain its errors."""

import functools
import os
import re
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from multitask_runtime.utils.errors import OnnxError
from multitask_runtime.utils.processor import describe_processor
from multitask_runtime.utils.types import Array

from .metadata import read_metadata
from .session import MIN_OPENVINO, Outputs, Session, is_ir, is_supported, openvino_version

if TYPE_CHECKING:
    from openvino import Core, InferRequest, Model
    from openvino.frontend import NodeContext

INSTALL = f"pip install 'openvino>={MIN_OPENVINO}'"
OUTPUTS = (
    'boxes',
    'scores',
    'masks',
    'keypoints',
    'keypoint_scores',
    'keypoints_visible_probs',
    'mask_scores',
    'pose_scores',
)
# Where an IR keeps the metadata_props of the ONNX file that it was made from.
METADATA_PATH = 'framework'
_METADATA = ('format', 'format_version', 'description')
_TYPES = dict(float32='f32', bfloat16='bf16')


@functools.cache
def _get_core() -> 'Core':
    """Return the one core of the process.

    Each core gives the thread a signal stack of its own. When one of several is deleted, the
    others put back its freed stack, and the next signal ends the process by a segmentation fault.
    """
    from openvino import Core

    return Core()


class UnsupportedModelError(OnnxError):
    """OpenVINO cannot run the model, and onnxruntime can."""


class OpenvinoSession(Session):
    """An exported model in OpenVINO.

    Several images run in streams of their own. The model is compiled again for them at the
    first call with more than one, and for more streams when more images come at once.

    Args:
        path (str): The file, which exists.
        device (str): 'cpu' or 'auto'. Defaults to 'cpu'.
        precision (str): As in ``load_session``. Defaults to 'float32'.
        threads (int, optional): Number of threads. Defaults to that of the cores.

    Raises:
        OnnxError: As ``load_session``.
    """

    def __init__(
        self,
        path: str,
        device: str = 'cpu',
        precision: str = 'float32',
        threads: int | None = None,
    ) -> None:
        if device not in ('cpu', 'auto'):
            raise OnnxError(
                f'device: expected cpu or auto for the backend openvino, found {device}. Use the '
                'backend onnxruntime.'
            )
        self._model = read_model(path)
        # The bins of deformable RoI pooling are averages of samples.
        if any(
            op.get_type_name() == 'AvgPool' and '/roi_layers' in op.get_friendly_name()
            for op in self._model.get_ops()
        ):
            raise UnsupportedModelError(
                f'{path}: has deformable RoI pooling, with which OpenVINO fails on images without '
                'detections. Use the backend onnxruntime.'
            )
        self.metadata = read_metadata(path, read_props(self._model))
        names = (set(OUTPUTS) & output.names for output in self._model.outputs)
        self.output_names = tuple(each.pop() if each else '' for each in names)
        self.runtime = f'OpenVINO {openvino_version()}, {precision}'
        self._path, self._precision, self._threads = path, precision, threads
        self._lock = threading.Lock()
        self._requests = {1: self._compile(1)}

    def run(self, images: Sequence[Array]) -> list[Outputs]:
        """Run the model on several images, each in an infer request of its own."""
        with self._lock:
            count = len(images)
            most = max(self._requests)
            if count > most:
                # One set of requests for all larger batches: each costs a compilation.
                self._requests = {1: self._requests[1], count: self._compile(count)}
                most = count
            requests = self._requests[1 if count == 1 else most][:count]
            for request, image in zip(requests, images, strict=True):
                request.start_async({0: image}, share_inputs=True)
            errors = []
            for request in requests:  # all of them: one that still runs could not start again
                try:
                    request.wait()
                except Exception as error:
                    errors.append(error)
            if errors:
                raise errors[0]
            # Copies: the tensors are overwritten by the next images.
            return [
                {
                    name: request.get_output_tensor(index).data.copy()
                    for index, name in enumerate(self.output_names)
                }
                for request in requests
            ]

    def _compile(self, count: int) -> list['InferRequest']:
        """Compile the model for a number of images at a time."""
        core = _get_core()
        if self._precision == 'bfloat16' and 'BF16' not in core.get_property(
            'CPU', 'OPTIMIZATION_CAPABILITIES'
        ):
            # OpenVINO itself would compute in float32 without a word.
            raise OnnxError(
                'precision: expected a processor with bfloat16 instructions (AVX-512 BF16 or '
                f'AMX), found {describe_processor()}. Use float32.'
            )
        threads = self._threads or len(os.sched_getaffinity(0))
        config: dict[str, Any] = dict(
            INFERENCE_PRECISION_HINT=_TYPES[self._precision], NUM_STREAMS=min(count, threads)
        )
        if self._threads:
            config['INFERENCE_NUM_THREADS'] = self._threads
        try:
            compiled = core.compile_model(self._model, 'CPU', config)
        except Exception as error:  # the errors of OpenVINO have no common base
            raise OnnxError(_explain(self._path, str(error))) from None
        return [compiled.create_infer_request() for _ in range(count)]


def read_model(path: str) -> 'Model':
    """Read an ONNX file or an IR.

    Args:
        path (str): The file, which exists.

    Returns:
        openvino.Model: The model; its metadata are not checked.

    Raises:
        OnnxError: If OpenVINO is missing or too old, or cannot read the file.
    """
    try:
        from openvino.frontend import FrontEndManager
        from openvino.frontend.onnx import ConversionExtension
    except ImportError as error:
        raise OnnxError(
            f'OpenVINO is needed for the backend openvino and for .xml files, and cannot be '
            f'imported ({error}). Install it: {INSTALL}'
        ) from None
    installed = openvino_version()
    if installed and not is_supported(installed):
        raise OnnxError(
            f'expected OpenVINO {MIN_OPENVINO} or later, found {installed}, whose keypoint scores '
            f'would be wrong. Update it: {INSTALL}'
        )
    # The front end by name: openvino.Core tries those of all formats until one can read the file.
    front_end = FrontEndManager().load_by_framework('ir' if is_ir(path) else 'onnx')
    if not is_ir(path):
        front_end.add_extension(ConversionExtension('DeformConv', convert_deform_conv))
    try:
        model = front_end.convert(front_end.load(path))
    except Exception as error:  # the errors of OpenVINO have no common base
        raise OnnxError(_explain(path, str(error))) from None
    if not model.outputs:  # of an empty file
        raise OnnxError(_explain(path, "can't be parsed"))
    return model


def convert_deform_conv(node: 'NodeContext') -> list[Any]:
    """Convert ONNX's DeformConv, which OpenVINO's front end lacks.

    Args:
        node (NodeContext): With inputs x, weight, offset, bias and mask, as ``export`` writes
            them.

    Returns:
        list[openvino.Output]: The output.
    """
    from openvino import opset8

    x, weight, offset, bias, mask = (node.get_input(index) for index in range(5))
    pads = node.get_attribute('pads')
    result = opset8.deformable_convolution(
        x,
        offset,
        weight,
        strides=node.get_attribute('strides'),
        pads_begin=pads[:2],
        pads_end=pads[2:],
        dilations=node.get_attribute('dilations'),
        mask=mask,
        group=node.get_attribute('group'),
        deformable_group=node.get_attribute('offset_group'),
        # Samples across the border mix with zeros, as in ONNX.
        bilinear_interpolation_pad=True,
    )
    # (C) -> (1, C, 1, 1)
    outputs: list[Any] = opset8.add(
        result, opset8.unsqueeze(bias, np.array([0, 2, 3], np.int64))
    ).outputs()
    return outputs


def read_props(model: 'Model') -> dict[str, str]:
    """Return the ``metadata_props`` of the ONNX file that a model comes from."""
    return {
        name: str(model.get_rt_info([METADATA_PATH, name]).value)
        for name in _METADATA
        if model.has_rt_info([METADATA_PATH, name])
    }


def _explain(path: str, text: str) -> str:
    """Turn an error of OpenVINO into a sentence that says how to fix it."""
    installed = openvino_version()
    if missing := re.search(r'No conversion rule found for operations: (.+)', text):
        return (
            f'{path}: needs the operators {missing[1]}, which OpenVINO {installed} lacks. Use the '
            f'backend onnxruntime, or update it: {INSTALL}'
        )
    if 'Empty weights data' in text or 'Incorrect weights' in text:
        return (
            f'{path}: expected the complete weights of the model in '
            f'{Path(path).with_suffix(".bin").name} beside it. Copy both files again.'
        )
    if re.search(r"can't be parsed|pugi::status_ok", text):
        kind = 'an IR of OpenVINO' if is_ir(path) else 'an ONNX file'
        return (
            f'{path}: expected {kind}, found {Path(path).stat().st_size} bytes that are not a '
            'complete one. Copy or export it again.'
        )
    return f'{path}: OpenVINO {installed} cannot open it: {text.strip()}'
