"""The training loop, and what a run checks before its first iteration."""
