"""Export models to ONNX, quantize the files and evaluate them."""

from .checks import ExportError
from .export import export

__all__ = ['ExportError', 'export']
