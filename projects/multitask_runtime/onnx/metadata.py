"""Metadata of an exported file.

``metadata_props`` of the file hold ``format``, ``format_version`` and ``description``, a
JSON object: classes, keypoints and their colors, how images are read and resized,
thresholds, and the origin of the weights. An IR of OpenVINO has the same in its ``rt_info``.
"""

import json
from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from multitask_runtime.schemas import OnnxMetadata, explain
from multitask_runtime.utils.errors import OnnxError

FORMAT = 'multitask_refine'
FORMAT_VERSION = 2
# Names in version 1, and those that took their place.
_RENAMED = dict(joint_shift='keypoint_shift')
_EXPORT = 'Export it again by tools/deployment/export_onnx.py.'


def read_metadata(path: str, props: Mapping[str, str]) -> dict[str, Any]:
    """Read and check the metadata of a file.

    Args:
        path (str): The file, for messages.
        props (Mapping[str, str]): Its ``metadata_props``.

    Returns:
        dict: The JSON object of ``description``.

    Raises:
        OnnxError: If this project did not export the file, or a later version did, or the
            description is incomplete.
    """
    found = props.get('format')
    if found != FORMAT:
        raise OnnxError(
            f'{path}: expected a model that this project exported (format={FORMAT} in its '
            f'metadata), found {f"format={found}" if found else "no format there"}. {_EXPORT}'
        )
    version = props.get('format_version', '')
    if not version.isdecimal():
        raise OnnxError(
            f'{path}: expected a number as format_version in its metadata, found '
            f'{version or "none"}. {_EXPORT}'
        )
    if int(version) > FORMAT_VERSION:
        raise OnnxError(
            f'{path}: expected format_version {FORMAT_VERSION}, found {version}, which a later '
            'version of this project wrote. Update the project, or export the file with this '
            'version.'
        )
    try:
        description: dict[str, Any] = json.loads(props['description'])
        metadata = {_RENAMED.get(name, name): value for name, value in description.items()}
        OnnxMetadata.model_validate(metadata)
    except ValidationError as error:
        missing = [str(each['loc'][0]) for each in error.errors() if each['type'] == 'missing']
        reason = f'its description lacks {", ".join(missing)}' if missing else explain(error)
        raise OnnxError(f'{path}: {reason}. {_EXPORT}') from None
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise OnnxError(
            f'{path}: expected a JSON object as description in its metadata, found none '
            f'({error}). {_EXPORT}'
        ) from None
    return metadata


def to_dataset_meta(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Convert metadata to a dataset meta in MMPose's terms.

    Args:
        metadata (Mapping): From :func:`read_metadata`.

    Returns:
        dict: ``classes`` and, of a model with keypoints, ``num_keypoints``,
        ``keypoint_id2name``, ``skeleton_links``, ``sigmas`` and colors.
    """
    meta: dict[str, Any] = dict(classes=tuple(metadata['classes']))
    names = metadata['keypoint_names']
    if names:
        meta.update(
            num_keypoints=len(names),
            keypoint_id2name=dict(enumerate(names)),
            keypoint_name2id={name: i for i, name in enumerate(names)},
            keypoint_colors=metadata['keypoint_colors'],
            skeleton_links=metadata['skeleton'],
            skeleton_link_colors=metadata['skeleton_colors'],
            flip_indices=metadata.get('flip_indices'),
            sigmas=metadata['sigmas'],
        )
    return meta
