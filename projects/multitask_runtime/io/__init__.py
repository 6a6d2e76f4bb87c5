"""Read images, videos and streams; write results."""
