"""Benchmarks of speed, data, robustness and exported files (docs/development.md)."""
