"""The version, for packaging and for users."""

__version__ = '1.0.0'
