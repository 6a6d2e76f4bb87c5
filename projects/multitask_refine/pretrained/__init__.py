"""Public checkpoints by name: download, conversion and cache."""

from .cache import cache_folder
from .checkpoints import prepare_model
from .download import DownloadError, download_file

__all__ = ['DownloadError', 'cache_folder', 'download_file', 'prepare_model']
