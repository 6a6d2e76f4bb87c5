"""Normalizers and checks of losses."""
