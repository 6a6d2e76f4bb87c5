"""Type aliases.

- ``Array``: numpy array of any type.
- ``Meta``: dataset meta in MMPose's terms (``keypoint_id2name``, ``skeleton_links``,
  ``keypoint_colors``, ``sigmas``, ...), plus ``classes``.
"""

from collections.abc import Mapping
from typing import Any, TypeAlias

from numpy.typing import NDArray

Array: TypeAlias = NDArray[Any]
Meta: TypeAlias = Mapping[str, Any]
