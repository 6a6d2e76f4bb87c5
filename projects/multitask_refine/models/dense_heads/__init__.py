from .rpn_heads import LogitRankedRPNHead, StretchedAnchorGenerator

__all__ = ['LogitRankedRPNHead', 'StretchedAnchorGenerator']
