from .roi_heatmap import RoIHeatmapCodec

__all__ = ['RoIHeatmapCodec']
