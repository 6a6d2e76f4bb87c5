"""Task modules: anchor generators."""

from .anchor_generator import TorchvisionAnchorGenerator

__all__ = ['TorchvisionAnchorGenerator']
