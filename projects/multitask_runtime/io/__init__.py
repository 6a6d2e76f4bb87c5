"""Images, videos, streams and output folders."""
