"""Folder of downloaded and converted checkpoints."""

import os
from pathlib import Path

import platformdirs


def cache_folder() -> Path:
    """Return the folder: ``$MULTITASK_CACHE``, else ``multitask_refine/models`` of the user's.

    The user's cache folder is ``$XDG_CACHE_HOME`` or ``~/.cache`` on Linux.
    """
    chosen = os.environ.get('MULTITASK_CACHE')
    return Path(chosen) if chosen else platformdirs.user_cache_path('multitask_refine') / 'models'
