"""Normalization and finiteness check of losses."""
