from .cpu.mkldnn_linear import InferenceLinear, multiply, prepack_linear
from .cpu.nms import nms
from .cpu.roi_align import SeparableRoIAlign, separable_roi_align
from .cpu.winograd import WinogradConv2d, conv3x3_by_winograd, convert_to_winograd
from .deform_conv import deform_conv, deform_conv_by_mmcv, deform_conv_by_rows
from .deform_roi_pool import DeformRoIPool, deform_roi_pool_by_grid_sample, deform_roi_pool_by_mmcv
from .refined_conv import RefinedConv2d
from .resample_heatmaps import bound_offsets, resample_heatmaps, resample_heatmaps_by_deform_conv

__all__ = [
    'InferenceLinear',
    'RefinedConv2d',
    'DeformRoIPool',
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
    'prepack_linear',
    'resample_heatmaps',
    'resample_heatmaps_by_deform_conv',
    'separable_roi_align',
    'nms',
    'convert_to_winograd',
]
