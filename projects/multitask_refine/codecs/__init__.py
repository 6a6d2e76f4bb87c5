"""Encoders and decoders of keypoints on RoIs."""

from .roi_heatmap import RoIHeatmapCodec
from .roi_softmax import RoISoftmaxCodec

__all__ = ['RoIHeatmapCodec', 'RoISoftmaxCodec']
