"""Replacements inside other libraries."""
