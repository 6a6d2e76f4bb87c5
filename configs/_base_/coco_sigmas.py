# OKS sigmas of COCO's keypoints, for branches that compute OKS. Those of another meta file are
# refused: training compares them with the data's.
sigmas = [
    0.026, 0.025, 0.025, 0.035, 0.035,  # nose, eyes, ears
    0.079, 0.079, 0.072, 0.072, 0.062, 0.062,  # shoulders, elbows, wrists
    0.107, 0.107, 0.087, 0.087, 0.089, 0.089,  # hips, knees, ankles
]  # fmt: skip
