"""Open ONNX files with onnxruntime and explain its errors."""

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from multitask_runtime.utils.errors import OnnxError

from .metadata import read_metadata

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

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


def is_onnx(path: str | Path) -> bool:
    """Tell whether the file name is that of an ONNX file."""
    return Path(path).suffix.lower() == '.onnx'


def load_session(
    path: str | Path, device: str = 'cpu'
) -> tuple['InferenceSession', dict[str, Any]]:
    """Open an exported model.

    Args:
        path (str | Path): The ONNX file.
        device (str): 'cpu', 'cuda', 'cuda:1' and so on; 'auto' is CUDA if onnxruntime
            has it. Defaults to 'cpu'.

    Returns:
        tuple[InferenceSession, dict]: The session and the metadata of the file, see
        ``read_metadata``.

    Raises:
        FileNotFoundError: If the file does not exist.
        OnnxError: If onnxruntime is missing, too old or lacks the device, or this
            project did not export the file.
    """
    path = str(path)
    if not Path(path).is_file():
        raise FileNotFoundError(f'{path}: there is no such ONNX file')
    try:
        import onnxruntime
    except ImportError as error:
        raise OnnxError(
            f'onnxruntime is needed for ONNX files and cannot be imported ({error}). '
            f'Install it: {INSTALL}'
        ) from None
    providers = select_providers(device)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors
    try:
        session = onnxruntime.InferenceSession(path, options, providers=providers)
    except Exception as error:  # the errors of onnxruntime have no common base
        raise OnnxError(_explain(path, error, onnxruntime.__version__)) from None
    provider = providers[0] if isinstance(providers[0], str) else providers[0][0]
    if device != 'auto' and provider not in session.get_providers():
        raise OnnxError(
            f'device: expected onnxruntime to run on {device}, but onnxruntime '
            f'{onnxruntime.__version__} could not start {provider}; see its message above'
        )
    return session, read_metadata(path, session.get_modelmeta().custom_metadata_map)


def select_providers(device: str) -> list[str | tuple[str, dict[str, str]]]:
    """Return onnxruntime's execution providers for a device, preferred first.

    Args:
        device (str): As in :func:`load_session`.

    Raises:
        OnnxError: If the name is wrong or onnxruntime lacks the device.
    """
    import onnxruntime

    cpu, cuda = 'CPUExecutionProvider', 'CUDAExecutionProvider'
    available = onnxruntime.get_available_providers()
    if device == 'auto':
        device = 'cuda' if cuda in available else 'cpu'
    if device == 'cpu':
        return [cpu]
    match = re.fullmatch(r'cuda(?::(\d+))?', device)
    if not match:
        raise OnnxError(
            f"device: expected 'cpu', 'cuda', 'cuda:NUMBER' or 'auto', found '{device}'"
        )
    if cuda not in available:
        raise OnnxError(
            f'device: expected an onnxruntime that runs on {device}, but onnxruntime '
            f'{onnxruntime.__version__} has no {cuda} here, only {", ".join(available)}. '
            'Use cpu or auto, or install onnxruntime-gpu in place of onnxruntime.'
        )
    return [(cuda, dict(device_id=match[1] or '0')), cpu]


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
