"""Draws pictures of articulated people with exact boxes, masks and keypoints.

skeleton: poses and the view; canvas: shapes and their samples; person and
backdrop: what is drawn; scene: who stands where; coco: the written form.
"""
