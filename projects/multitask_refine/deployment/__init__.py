from .checks import ExportError
from .export import export

__all__ = ['ExportError', 'export']
