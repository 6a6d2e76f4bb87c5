"""Backbones."""

from .convnext import ConvNeXt
from .resnet26 import ResNet26
from .timm_backbone import TimmBackbone

__all__ = ['ConvNeXt', 'ResNet26', 'TimmBackbone']
