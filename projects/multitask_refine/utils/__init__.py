"""Config files, errors, checkpoints and results files."""
