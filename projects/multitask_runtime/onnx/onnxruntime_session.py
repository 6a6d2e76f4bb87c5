"""Run ONNX files with onnxruntime and explain its errors."""

import re
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from multitask_runtime.utils.errors import OnnxError
from multitask_runtime.utils.types import Array

from .metadata import read_metadata
from .session import Outputs, Session, is_ir

INSTALL = 'pip install -r requirements-onnx.txt'
# First version of onnxruntime with a CPU kernel, of operators that came late.
_SINCE = dict(DeformConv='1.25')
_MISSING_OPERATOR = (
    r'implementation for (\w+)\(',
    r'([\w.:]+)\(-?\d+\) is not a regis',
    r'No Op registered for ([\w.:]+)',
)
_TOO_NEW = r'(Unsupported model IR version.*|Opset \d+ is [\w ]+)'
_DAMAGED = r'PROTOBUF|graph was found|does not have a graph'


class OnnxruntimeSession(Session):
    """An ONNX file in onnxruntime, on the CPU or CUDA.

    Args:
        path (str): The file, which exists.
        device (str): As in ``load_session``. Defaults to 'cpu'.
        precision (str): Only 'float32'. Defaults to 'float32'.
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
        try:
            import onnxruntime
        except ImportError as error:
            raise OnnxError(
                f'onnxruntime is needed for ONNX files and cannot be imported ({error}). '
                f'Install it: {INSTALL}'
            ) from None
        if is_ir(path):
            raise OnnxError(
                f'{path}: expected an ONNX file for onnxruntime, found the IR of OpenVINO. Run it '
                'with the backend openvino.'
            )
        if precision != 'float32':
            raise OnnxError(
                f'precision: expected float32, as onnxruntime computes what the file says, found '
                f'{precision}. Use the backend openvino, or quantize the file '
                '(tools/deployment/quantize_onnx.py).'
            )
        providers = select_providers(device)
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3  # errors
        options.intra_op_num_threads = threads or 0
        try:
            self._session = onnxruntime.InferenceSession(path, options, providers=providers)
        except Exception as error:  # the errors of onnxruntime have no common base
            raise OnnxError(_explain(path, error, onnxruntime.__version__)) from None
        provider = providers[0] if isinstance(providers[0], str) else providers[0][0]
        if device != 'auto' and provider not in self._session.get_providers():
            raise OnnxError(
                f'device: expected onnxruntime to run on {device}, but onnxruntime '
                f'{onnxruntime.__version__} could not start {provider}; see its message above'
            )
        self.metadata = read_metadata(path, self._session.get_modelmeta().custom_metadata_map)
        self.output_names = tuple(output.name for output in self._session.get_outputs())
        self.runtime = f'onnxruntime {onnxruntime.__version__}, {precision}'

    def run(self, images: Sequence[Array]) -> list[Outputs]:
        """Run the model on several images, each in a thread of its own."""

        def run_image(image: Array) -> Outputs:
            values = self._session.run(None, dict(image=image))
            return dict(zip(self.output_names, values, strict=True))

        if len(images) == 1:
            return [run_image(images[0])]
        with ThreadPoolExecutor(len(images)) as pool:
            return list(pool.map(run_image, images))


def select_providers(device: str) -> list[str | tuple[str, dict[str, str]]]:
    """Return onnxruntime's execution providers for a device, preferred first.

    Args:
        device (str): As in ``load_session``.

    Raises:
        OnnxError: If onnxruntime lacks the device.
    """
    import onnxruntime

    cpu, cuda = 'CPUExecutionProvider', 'CUDAExecutionProvider'
    available = onnxruntime.get_available_providers()
    if device == 'auto':
        device = 'cuda' if cuda in available else 'cpu'
    if device == 'cpu':
        return [cpu]
    if cuda not in available:
        raise OnnxError(
            f'device: expected an onnxruntime that runs on {device}, but onnxruntime '
            f'{onnxruntime.__version__} has no {cuda} here, only {", ".join(available)}. '
            'Use cpu or auto, or install onnxruntime-gpu in place of onnxruntime.'
        )
    return [(cuda, dict(device_id=device.partition(':')[2] or '0')), cpu]


def _explain(path: str, error: Exception, version: str) -> str:
    """Turn an error of onnxruntime into a sentence that says how to fix it."""
    text = str(error)
    missing = next(filter(None, (re.search(each, text) for each in _MISSING_OPERATOR)), None)
    if missing:
        since = _SINCE.get(missing[1])
        needed = f'{since} or later' if since else 'a version that has it'
        package = f"'onnxruntime>={since}'" if since else '--upgrade onnxruntime'
        return (
            f'{path}: needs the operator {missing[1]}. Expected onnxruntime {needed}, '
            f'found {version}, which lacks it. Install it: pip install {package}'
        )
    too_new = re.search(_TOO_NEW, text)
    if too_new:
        return (
            f'{path}: onnxruntime {version} is too old for this file '
            f'({too_new[1].strip()}). Update it: pip install --upgrade onnxruntime'
        )
    if re.search(_DAMAGED, text):
        return (
            f'{path}: expected an ONNX file, found {Path(path).stat().st_size} bytes that '
            'are not a complete one. Copy or export it again.'
        )
    return f'{path}: onnxruntime {version} cannot open it: {text}'
