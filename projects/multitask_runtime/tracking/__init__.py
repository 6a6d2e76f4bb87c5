"""Track people across video frames."""
