"""Convert a Faster or Mask R-CNN (ResNet) of mmdet.

A checkpoint of this project is converted into another of its configs. The names are
the same; the rows of mmdet's classes become those of the person. Which class that is,
the checkpoint says; without names it is the only one or the first of COCO's 80.
"""

import ast
import re

from .conversion import run
from .layout import Layout
from .weights_file import Checkpoint, ConversionError

_SAME = ((r'.*', r'\g<0>'),)
_SETTINGS = {
    'style': 'backbone',
    'mean': 'data_preprocessor',
    'std': 'data_preprocessor',
    'bgr_to_rgb': 'data_preprocessor',
}


def describe(checkpoint: Checkpoint) -> Layout:
    """Describe the layout of a checkpoint of mmdet or this project.

    Raises:
        ConversionError: If it is too old, or has no class named person.
    """
    if is_own(checkpoint):
        # The person comes first and the background last, of any classes.
        return Layout(
            kind='multitask_refine', rules=_SAME, person=0, background=-1, unit_masks=False
        )
    meta = checkpoint.meta
    version = str(meta.get('mmdet_version', ''))
    if re.match(r'[01]\.', version):
        raise ConversionError(
            f'{checkpoint.path}: not converted. It is of mmdet {version}, where the background '
            "was the first class; expected mmdet 2 or 3. Convert it to mmdet 2 by that version's "
            'own tools/model_converters/upgrade_model_version.py.'
        )
    dataset = meta.get('dataset_meta') or {}
    names = dataset.get('classes') or dataset.get('CLASSES') or meta.get('CLASSES') or ()
    names = [names] if isinstance(names, str) else list(names)
    if names and 'person' not in names:
        raise ConversionError(
            f'{checkpoint.path}: not converted. Expected a class '
            f'named person, found {", ".join(names[:10])}'
        )
    settings = {}
    for key, part in _SETTINGS.items():
        # from the text of mmdet 3's config, of which nothing is executed
        value = re.search(rf"\b{key}=(\[[\d\s.,]*\]|'\w+'|True|False)", str(meta.get('cfg', '')))
        if value:
            settings[f'{part}.{key}'] = ast.literal_eval(value[1])
    return Layout(
        kind='mmdet',
        rules=_SAME,
        person=names.index('person') if names else 0,
        background=-1,
        num_classes=(len(names),) if names else (1, 80),
        # mmdet 2 writes its version, mmdet 3 the config
        unit_masks=True if 'mmdet_version' in meta or 'cfg' in meta else None,
        settings=settings,
    )


def is_own(checkpoint: Checkpoint) -> bool:
    """Return whether a checkpoint is of this project.

    A converter has left its mark in ``meta``, or MMEngine has written the
    config, which names the detector. Where meta is gone, a keypoint head
    tells: mmdet has none.
    """
    meta = checkpoint.meta
    return bool(
        'converted_from' in meta
        or re.search('Multitask(RCNN|RoIHead)', str(meta.get('cfg')))
        or any(key.startswith('roi_head.keypoint_head.') for key in checkpoint.weights)
    )


def main(argv: list[str] | None = None) -> int:
    """Run the command line of the converter."""
    return run(__doc__, describe, argv)
