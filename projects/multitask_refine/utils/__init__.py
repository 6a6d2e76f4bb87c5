"""Errors, the check of the installation, and results files."""
