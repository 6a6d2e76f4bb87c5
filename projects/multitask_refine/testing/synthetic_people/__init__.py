"""Draw images of articulated people with exact boxes, masks and keypoints.

skeleton: poses and camera; canvas: rasterization of shapes; person and background: shapes to
draw; scene: composition and ground truth; coco: annotations.
"""
