from .deform_conv import deform_conv, deform_conv_by_mmcv, deform_conv_by_rows
from .products import PredictingLinear, multiply, prepare_product
from .refined_conv import RefinedConv2d
from .roi_align import RefinedRoIAlign, deform_roi_pool_by_grid_sample, deform_roi_pool_by_mmcv
from .sampling import bound_offsets, refine_heatmaps, refine_heatmaps_by_deform_conv
from .separable_roi_align import SeparableRoIAlign, roi_align_by_sums
from .suppression import suppress
from .winograd import WinogradConv2d, conv3x3_by_winograd, use_fast_convs

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
