"""Differentiable operators of the refinement, and their CPU implementations."""

from .cpu import set_fast_cpu_ops
from .cpu.deform_conv import deform_conv_by_gather
from .cpu.mkldnn_linear import InferenceLinear, mkldnn_linear, prepack_linear
from .cpu.nms import nms
from .cpu.roi_align import SeparableRoIAlign, separable_roi_align
from .cpu.winograd import WinogradConv2d, conv3x3_by_winograd, convert_to_winograd
from .deform_conv import deform_conv, deform_conv_by_mmcv
from .deform_roi_pool import DeformRoIPool, deform_roi_pool_by_grid_sample, deform_roi_pool_by_mmcv
from .refined_conv import RefinedConv2d
from .resample_heatmaps import bound_offsets, resample_heatmaps, resample_heatmaps_by_deform_conv

__all__ = [
    'DeformRoIPool',
    'InferenceLinear',
    'RefinedConv2d',
    'SeparableRoIAlign',
    'WinogradConv2d',
    'bound_offsets',
    'conv3x3_by_winograd',
    'convert_to_winograd',
    'deform_conv',
    'deform_conv_by_gather',
    'deform_conv_by_mmcv',
    'deform_roi_pool_by_grid_sample',
    'deform_roi_pool_by_mmcv',
    'mkldnn_linear',
    'nms',
    'prepack_linear',
    'resample_heatmaps',
    'resample_heatmaps_by_deform_conv',
    'separable_roi_align',
    'set_fast_cpu_ops',
]
