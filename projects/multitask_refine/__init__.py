"""One network that finds people and gives each a box, a mask and K joints.

Importing this package registers its parts with mmdet, so a config needs only
``custom_imports = dict(imports=['multitask_refine'])``.
"""

from .utils.environment import check_environment

check_environment()

from . import codecs, datasets, engine, evaluation, models, ops, structures, visualization

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
