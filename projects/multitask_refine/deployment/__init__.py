from .export import export
from .support import ExportError

__all__ = ['ExportError', 'export']
