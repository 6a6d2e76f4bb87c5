#!/usr/bin/env python
"""Convert a Faster or Mask R-CNN (ResNet) of mmdet, or a checkpoint of this
project into another of its configs.

The names are the same; the rows of mmdet's classes become those of the
person. Which class that is, the checkpoint says; without names it is the
only one or the first of COCO's 80.
"""

import ast
import re
import sys

from .conversion import run
from .layout import Layout
from .weights_file import Checkpoint

_SAME = ((r'.*', r'\g<0>'),)
_SETTINGS = {
    'style': 'backbone',
    'mean': 'data_preprocessor',
    'std': 'data_preprocessor',
    'bgr_to_rgb': 'data_preprocessor',
}


def describe(checkpoint: Checkpoint) -> Layout:
    """Say how mmdet, or this project, orders the weights of a file.

    Raises:
        SystemExit: If it is too old, or has no class named person.
    """
    if is_own(checkpoint):
        # The person comes first and the background last, of any classes.
        return Layout(
            kind='multitask_refine', rules=_SAME, person=0, background=-1, unit_factors=False
        )
    _refuse_old(checkpoint)
    names = _class_names(checkpoint.meta)
    if names and 'person' not in names:
        raise SystemExit(
            f'{checkpoint.path}: not converted. Expected a class '
            f'named person, found {", ".join(names[:10])}'
        )
    return Layout(
        kind='mmdet',
        rules=_SAME,
        person=names.index('person') if names else 0,
        background=-1,
        num_classes=(len(names),) if names else (1, 80),
        unit_factors=_tells_origin(checkpoint.meta) or None,
        settings=_settings(checkpoint.meta),
    )


def is_own(checkpoint: Checkpoint) -> bool:
    """Whether a file is this project's.

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


def _tells_origin(meta: dict) -> bool:
    """mmdet 2 writes its version, mmdet 3 the config."""
    return 'mmdet_version' in meta or 'cfg' in meta


def _refuse_old(checkpoint: Checkpoint) -> None:
    version = str(checkpoint.meta.get('mmdet_version', ''))
    if re.match(r'[01]\.', version):
        raise SystemExit(
            f'{checkpoint.path}: not converted. It is of mmdet {version}, '
            'where the background was the first class; expected mmdet 2 or '
            "3. Bring it to mmdet 2 with that version's own "
            'tools/model_converters/upgrade_model_version.py.'
        )


def _class_names(meta: dict) -> list[str]:
    dataset = meta.get('dataset_meta') or {}
    names = dataset.get('classes') or dataset.get('CLASSES') or meta.get('CLASSES') or ()
    return [names] if isinstance(names, str) else list(names)


def _settings(meta: dict) -> dict[str, object]:
    """What the text of mmdet 3's config says; nothing of it is run."""
    found = {}
    for key, part in _SETTINGS.items():
        value = re.search(rf"\b{key}=(\[[\d\s.,]*\]|'\w+'|True|False)", str(meta.get('cfg', '')))
        if value:
            found[f'{part}.{key}'] = ast.literal_eval(value[1])
    return found


def main(argv: list[str] | None = None) -> int:
    return run(__doc__, describe, argv)


if __name__ == '__main__':
    sys.exit(main())
