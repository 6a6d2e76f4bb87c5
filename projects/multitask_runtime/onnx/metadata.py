"""What an exported ONNX file says of itself.

The file's metadata hold ``format``, ``format_version`` and ``description``,
a JSON object: classes, joints and their colours, how pictures are read and
resized, thresholds, and where the weights come from.
"""

import json

from pydantic import ValidationError

from ..schemas import OnnxDescription, explain

FORMAT = 'multitask_refine'
FORMAT_VERSION = 1
_EXPORT = 'Export it anew by tools/deployment/export_onnx.py.'


class OnnxError(ValueError):
    """An ONNX file that cannot be used, or not here."""


def read_description(path: str, metadata: dict[str, str]) -> dict:
    """Read the description of a file.

    Args:
        path (str): The file, for messages.
        metadata (dict[str, str]): Its ``metadata_props``.

    Returns:
        dict: What the JSON holds.

    Raises:
        OnnxError: If the file is of another maker or of a later version, or
            its description is not whole.
    """
    if metadata.get('format') != FORMAT:
        found = metadata.get('format')
        raise OnnxError(
            f'{path}: expected an ONNX file that this project exported '
            f'(format={FORMAT} in its metadata), found '
            f'{f"format={found}" if found else "no format there"}. {_EXPORT}'
        )
    _check_version(path, metadata.get('format_version'))
    try:
        description = json.loads(metadata['description'])
    except (KeyError, TypeError, ValueError) as error:
        raise OnnxError(
            f'{path}: expected a JSON object as description in its metadata, '
            f'found none ({error}). {_EXPORT}'
        ) from None
    try:
        OnnxDescription.model_validate(description)
    except ValidationError as error:
        missing = [str(each['loc'][0]) for each in error.errors() if each['type'] == 'missing']
        reason = f'its description lacks {", ".join(missing)}' if missing else explain(error)
        raise OnnxError(f'{path}: {reason}. {_EXPORT}') from None
    return description


def _check_version(path: str, found: str) -> None:
    try:
        version = int(found)
    except (TypeError, ValueError):
        raise OnnxError(
            f'{path}: expected a number as format_version in its '
            f'metadata, found {found}. {_EXPORT}'
        ) from None
    if version > FORMAT_VERSION:
        raise OnnxError(
            f'{path}: expected format_version {FORMAT_VERSION}, found '
            f'{version}, which a later version of this project wrote. Update '
            'the project, or export the file with this version.'
        )


def to_dataset_meta(description: dict) -> dict:
    """Names and colours in mmpose's terms, as the drawing takes them.

    Args:
        description (dict): From :func:`read_description`.

    Returns:
        dict: ``classes`` and, of a network with joints, ``num_keypoints``,
        ``keypoint_id2name``, ``skeleton_links``, ``sigmas`` and colours.
    """
    meta = dict(classes=tuple(description['classes']))
    names = description['keypoint_names']
    if not names:
        return meta
    return dict(
        meta,
        num_keypoints=len(names),
        keypoint_id2name=dict(enumerate(names)),
        keypoint_name2id={name: i for i, name in enumerate(names)},
        keypoint_colors=description['keypoint_colors'],
        skeleton_links=description['skeleton'],
        skeleton_link_colors=description['skeleton_colors'],
        flip_indices=description.get('flip_indices'),
        sigmas=description['sigmas'],
    )
