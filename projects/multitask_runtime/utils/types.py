"""Type aliases.

- ``Array``: numpy array of any type.
- ``Result``: result of one image, see :func:`~multitask_runtime.io.results.to_result`.
- ``Meta``: dataset meta in MMPose's terms (``keypoint_id2name``, ``skeleton_links``,
  ``keypoint_colors``, ``sigmas``, ...), plus ``classes``.
"""

from collections.abc import Mapping
from typing import Any, TypeAlias

from numpy.typing import NDArray

Array: TypeAlias = NDArray[Any]
Result: TypeAlias = dict[str, Any]
Meta: TypeAlias = Mapping[str, Any]
