"""Validate annotations and images before a training sees them."""
