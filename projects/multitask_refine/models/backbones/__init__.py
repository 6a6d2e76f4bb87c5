"""Backbones."""

from .resnet26 import ResNet26

__all__ = ['ResNet26']
