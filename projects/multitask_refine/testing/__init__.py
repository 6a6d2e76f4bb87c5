"""Synthetic weights and images for tests and benchmarks."""
