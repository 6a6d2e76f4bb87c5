"""ONNX files opened with onnxruntime, and what goes wrong there in words."""

import re
from pathlib import Path
from typing import TYPE_CHECKING, List, Tuple, Union

from multitask_runtime.utils.errors import OnnxError

from .metadata import read_metadata

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

INSTALL = 'pip install -r requirements-onnx.txt'
# Of operators that came late: the first version that has them on the CPU.
_SINCE = dict(DeformConv='1.25')
_LACKS = (
    r'implementation for (\w+)\(',
    r'([\w.:]+)\(-?\d+\) is not a regis',
    r'No Op registered for ([\w.:]+)',
)
_TOO_NEW = r'(Unsupported model IR version.*|Opset \d+ is [\w ]+)'


def is_onnx(path: Union[str, Path]) -> bool:
    """Whether a file's name says that it is an ONNX file."""
    return Path(path).suffix.lower() == '.onnx'


def load_session(path: Union[str, Path], device: str = 'cpu') -> Tuple['InferenceSession', dict]:
    """Open an exported network.

    Args:
        path (str | Path): The ONNX file.
        device (str): 'cpu', 'cuda', 'cuda:1' and so on; 'auto' is CUDA where
            onnxruntime has it. Defaults to 'cpu'.

    Returns:
        tuple: onnxruntime's session and the file's description, see
        ``read_metadata``.

    Raises:
        FileNotFoundError: If there is no such file.
        OnnxError: If onnxruntime is missing or too old, has no such device,
            or the file is not one of this project.
    """
    path = str(path)
    if not Path(path).is_file():
        raise FileNotFoundError(f'{path}: there is no such ONNX file')
    runtime = _import_runtime()
    providers = _choose_providers(device, runtime)
    options = runtime.SessionOptions()
    options.log_severity_level = 3  # errors
    try:
        session = runtime.InferenceSession(path, options, providers=providers)
    except Exception as error:  # onnxruntime's have no common base
        raise OnnxError(_explain(path, error, runtime.__version__)) from None
    wanted, got = providers[0], session.get_providers()
    if device != 'auto' and _name(wanted) not in got:
        raise OnnxError(
            f'device: {device} was asked for, but onnxruntime '
            f'{runtime.__version__} could not start '
            f'{_name(wanted)}; see its message above'
        )
    metadata = session.get_modelmeta().custom_metadata_map
    return session, read_metadata(path, metadata)


def _import_runtime():
    try:
        import onnxruntime
    except ImportError as error:
        raise OnnxError(
            f'onnxruntime is needed for ONNX files, and cannot '
            f'be imported ({error}). Install it: {INSTALL}'
        ) from None
    return onnxruntime


def _choose_providers(device: str, runtime) -> List[Union[str, tuple]]:
    """onnxruntime's names of what runs the graph, the first first."""
    cpu, cuda = 'CPUExecutionProvider', 'CUDAExecutionProvider'
    available = runtime.get_available_providers()
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
            f'device: {device} was asked for, but onnxruntime '
            f'{runtime.__version__} has no {cuda} here, only '
            f'{", ".join(available)}. Use cpu or auto, or install '
            'onnxruntime-gpu in place of onnxruntime.'
        )
    return [(cuda, dict(device_id=match[1] or '0')), cpu]


def _name(provider: Union[str, tuple]) -> str:
    return provider if isinstance(provider, str) else provider[0]


def _explain(path: str, error: Exception, version: str) -> str:
    text = str(error)
    for pattern in _LACKS:
        match = re.search(pattern, text)
        if match:
            return _lacks(path, match[1], version)
    too_new = re.search(_TOO_NEW, text)
    if too_new:
        return (
            f'{path}: onnxruntime {version} is too old for this file '
            f'({too_new[1].strip()}). Install a later one: '
            'pip install --upgrade onnxruntime'
        )
    if 'PROTOBUF' in text or 'graph was found' in text or ('does not have a graph' in text):
        return (
            f'{path}: expected an ONNX file, found '
            f'{Path(path).stat().st_size} bytes that are not a whole one. '
            'Copy or export it again.'
        )
    return f'{path}: onnxruntime {version} cannot open it: {text}'


def _lacks(path: str, operator: str, version: str) -> str:
    since = _SINCE.get(operator)
    needed = f'{since} or later' if since else 'one that has it'
    mend = f"pip install 'onnxruntime>={since}'" if since else 'pip install --upgrade onnxruntime'
    return (
        f'{path}: needs the operator {operator}. Expected onnxruntime '
        f'{needed}, found {version}, which has none. Install it: {mend}'
    )
