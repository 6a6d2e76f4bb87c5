"""Faster implementations for the CPU."""
