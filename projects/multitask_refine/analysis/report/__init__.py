"""The HTML page of the error analysis."""
