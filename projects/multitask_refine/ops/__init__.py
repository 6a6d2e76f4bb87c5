from .cpu.mkldnn_linear import PredictingLinear, multiply, prepare_product
from .cpu.nms import suppress
from .cpu.separable_roi_align import SeparableRoIAlign, roi_align_by_sums
from .cpu.winograd import WinogradConv2d, conv3x3_by_winograd, use_fast_convs
from .deform_conv import deform_conv, deform_conv_by_mmcv, deform_conv_by_rows
from .deform_roi_pool import (
    RefinedRoIAlign,
    deform_roi_pool_by_grid_sample,
    deform_roi_pool_by_mmcv,
)
from .refined_conv import RefinedConv2d
from .resample_heatmaps import bound_offsets, refine_heatmaps, refine_heatmaps_by_deform_conv

__all__ = [
    'PredictingLinear',
    'RefinedConv2d',
    'RefinedRoIAlign',
    'SeparableRoIAlign',
    'WinogradConv2d',
    'bound_offsets',
    'conv3x3_by_winograd',
    'deform_conv',
    'deform_conv_by_mmcv',
    'deform_conv_by_rows',
    'deform_roi_pool_by_grid_sample',
    'deform_roi_pool_by_mmcv',
    'multiply',
    'prepare_product',
    'refine_heatmaps',
    'refine_heatmaps_by_deform_conv',
    'roi_align_by_sums',
    'suppress',
    'use_fast_convs',
]
