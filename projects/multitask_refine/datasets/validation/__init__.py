"""Checks and repairs of annotations and images."""
