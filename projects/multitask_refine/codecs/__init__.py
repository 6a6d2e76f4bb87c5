"""Encoders and decoders of keypoints on RoIs."""

from .dark_roi_heatmap import DarkRoIHeatmapCodec
from .roi_heatmap import RoIHeatmapCodec
from .roi_softmax import RoISoftmaxCodec

__all__ = ['DarkRoIHeatmapCodec', 'RoIHeatmapCodec', 'RoISoftmaxCodec']
