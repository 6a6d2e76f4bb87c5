"""Errors, files, progress and types that all parts of the runtime share."""
