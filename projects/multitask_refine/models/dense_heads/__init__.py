"""RPN heads."""

from .rpn_heads import LogitRankedRPNHead, SyncAvgFactorRPNHead

__all__ = ['LogitRankedRPNHead', 'SyncAvgFactorRPNHead']
