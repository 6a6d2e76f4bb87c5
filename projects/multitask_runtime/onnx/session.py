"""Sessions of exported models: what a backend has to do, and which one runs a file."""

import importlib.util
import re
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Protocol

from multitask_runtime.utils.errors import OnnxError
from multitask_runtime.utils.types import Array

BACKENDS = ('auto', 'onnxruntime', 'openvino')
PRECISIONS = ('float32', 'bfloat16')
# Earlier versions give keypoint scores of a wrong shape.
MIN_OPENVINO = '2026.0'
Outputs = dict[str, Array]


class Session(Protocol):
    """An exported model that a backend has loaded; it may be used by several threads.

    Attributes:
        metadata (dict): Metadata of the file, see ``read_metadata``.
        output_names (tuple[str, ...]): Names of the outputs.
        runtime (str): Backend, its version and the precision, for results files.
    """

    metadata: dict[str, Any]
    output_names: tuple[str, ...]
    runtime: str

    def run(self, images: Sequence[Array]) -> list[Outputs]:
        """Run the model on several images in parallel.

        Args:
            images (Sequence[np.ndarray]): BGR, 0 to 255, float32, shape (1, 3, H, W) each;
                the sizes may differ.

        Returns:
            list[dict[str, np.ndarray]]: The outputs of each image by their name.
        """


def is_exported(path: str | Path) -> bool:
    """Tell whether the file name is that of an exported model: ONNX, or IR of OpenVINO."""
    return Path(path).suffix.lower() in ('.onnx', '.xml')


def is_ir(path: str | Path) -> bool:
    """Tell whether the file name is that of an IR of OpenVINO."""
    return Path(path).suffix.lower() == '.xml'


def count_bytes(path: str | Path) -> int:
    """Return the size of an exported model; the weights of an IR are in a second file."""
    files = [Path(path), *([Path(path).with_suffix('.bin')] if is_ir(path) else [])]
    return sum(file.stat().st_size for file in files)


def load_session(
    path: str | Path,
    device: str = 'cpu',
    backend: str = 'auto',
    precision: str = 'float32',
    threads: int | None = None,
) -> Session:
    """Open an exported model.

    Args:
        path (str | Path): The ONNX file, or the IR of OpenVINO (``.xml`` with its ``.bin``).
        device (str): 'cpu', 'cuda', 'cuda:1' and so on; 'auto' is CUDA if onnxruntime
            has it. Defaults to 'cpu'.
        backend (str): 'onnxruntime', 'openvino', or 'auto', see :func:`choose_backend`.
            Defaults to 'auto'.
        precision (str): What layers are computed in, 'float32' or 'bfloat16'; those in int8
            stay so. Defaults to 'float32'.
        threads (int, optional): Number of threads. Defaults to the backend's choice.

    Returns:
        Session: The model, ready to run.

    Raises:
        FileNotFoundError: If the file does not exist.
        OnnxError: If an argument is wrong, the backend is missing, too old or lacks device or
            precision, or this project did not export the file.
    """
    for name, value, allowed in (
        ('backend', backend, BACKENDS),
        ('precision', precision, PRECISIONS),
    ):
        if value not in allowed:
            raise OnnxError(f"{name}: expected one of {', '.join(allowed)}, found '{value}'")
    if not re.fullmatch(r'auto|cpu|cuda(:\d+)?', device):
        raise OnnxError(
            f"device: expected 'cpu', 'cuda', 'cuda:NUMBER' or 'auto', found '{device}'"
        )
    if threads is not None and threads < 1:
        raise OnnxError(f'threads: expected 1 or more, found {threads}')
    path = str(path)
    if not Path(path).is_file():
        kind = 'IR of OpenVINO' if is_ir(path) else 'ONNX file'
        raise FileNotFoundError(f'{path}: there is no such {kind}')
    # Only the backend that runs the file has to be installed.
    if choose_backend(path, device, backend) == 'openvino':
        from .openvino_session import OpenvinoSession, UnsupportedModelError

        try:
            return OpenvinoSession(path, device, precision, threads)
        except UnsupportedModelError:
            if backend != 'auto' or is_ir(path):
                raise
    from .onnxruntime_session import OnnxruntimeSession

    return OnnxruntimeSession(path, device, precision, threads)


def choose_backend(path: str, device: str, backend: str) -> str:
    """Choose what runs a file.

    Args:
        path (str): The file.
        device (str): As in :func:`load_session`.
        backend (str): The same; 'auto' is OpenVINO on the CPU, where a version that fits is
            installed, and onnxruntime otherwise.

    Returns:
        str: 'onnxruntime' or 'openvino'.
    """
    if backend != 'auto':
        return backend
    if is_ir(path):
        return 'openvino'
    if device.startswith('cuda') or (device == 'auto' and _has_cuda()):
        return 'onnxruntime'
    installed = openvino_version()
    return 'openvino' if installed and is_supported(installed) else 'onnxruntime'


def openvino_version() -> str | None:
    """Return the version of OpenVINO, or None if it is not installed."""
    try:
        return version('openvino') if importlib.util.find_spec('openvino') else None
    except (PackageNotFoundError, ValueError):
        return None


def is_supported(installed: str) -> bool:
    """Return whether a version of OpenVINO is not too old."""
    found, needed = (
        [int(part) for part in re.findall(r'\d+', text)[:2]] for text in (installed, MIN_OPENVINO)
    )
    return found >= needed


def _has_cuda() -> bool:
    try:
        import onnxruntime
    except ImportError:
        return False
    return 'CUDAExecutionProvider' in onnxruntime.get_available_providers()
