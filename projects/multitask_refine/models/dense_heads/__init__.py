from .rpn_heads import LogitRankedRPNHead, TorchvisionAnchorGenerator

__all__ = ['LogitRankedRPNHead', 'TorchvisionAnchorGenerator']
