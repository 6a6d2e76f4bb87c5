"""Keypoint heads of a few channels."""

import torch

from multitask_refine.models import KeypointOffsetHead, KeypointSoftmaxHead


def offset_head(num_keypoints=2, size=14, sigma=1.0, **kwargs):
    codec = dict(type='RoIHeatmapCodec', heatmap_size=size, sigma=sigma)
    return _build(KeypointOffsetHead, num_keypoints, codec, kwargs)


def softmax_head(num_keypoints=2, size=14, **kwargs):
    codec = dict(type='RoISoftmaxCodec', heatmap_size=size)
    return _build(KeypointSoftmaxHead, num_keypoints, codec, kwargs)


def _build(head_type, num_keypoints, codec, kwargs):
    torch.manual_seed(0)
    head = head_type(
        num_keypoints=num_keypoints,
        codec=codec,
        in_channels=4,
        num_convs=2,
        conv_channels=8,
        **kwargs,
    )
    head.init_weights()
    return head
