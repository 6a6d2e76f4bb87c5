"""CPU inference optimizations."""
