"""Dataset meta files: keypoints, skeletons and their mapping."""
