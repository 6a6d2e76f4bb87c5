"""Multitask R-CNN: boxes, masks and keypoints from one network, with learned refinement.

Importing this package registers its components with MMDetection, so a config needs only
``custom_imports = dict(imports=['multitask_refine'])``. What it replaces inside other libraries
is listed in :data:`multitask_refine.engine.patches.PATCHES`.
"""

from .utils.environment import check_environment

check_environment()

from . import codecs, datasets, engine, evaluation, models, ops, structures, visualization  # noqa: E402, I001
from .engine import patches  # noqa: E402

patches.apply()

__all__ = [
    'codecs',
    'datasets',
    'engine',
    'evaluation',
    'models',
    'ops',
    'structures',
    'visualization',
]
