"""Keypoint heads with few channels, and their loss from plain tensors."""

import torch
from mmengine.structures import InstanceData

from multitask_refine.models import KeypointOffsetHead, KeypointSoftmaxHead


def offset_head(num_keypoints=2, size=14, sigma=1.0, **kwargs):
    codec = {'type': 'RoIHeatmapCodec', 'heatmap_size': size, 'sigma': sigma}
    return _build(KeypointOffsetHead, num_keypoints, codec, kwargs)


def softmax_head(num_keypoints=2, size=14, **kwargs):
    codec = {'type': 'RoISoftmaxCodec', 'heatmap_size': size}
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


def keypoint_loss(head, feats, keypoints, keypoints_visible, rois, num_images=1):
    """Compute the loss of RoIs of the first image, each with an instance of its own."""
    images = [
        (
            InstanceData(keypoints=keypoints[:count], keypoints_visible=keypoints_visible[:count]),
            InstanceData(pos_priors=rois[:count], pos_assigned_gt_inds=torch.arange(count)),
        )
        for count in [len(rois)] + [0] * (num_images - 1)
    ]
    gts, samples = zip(*images, strict=True)
    losses = head.loss_and_target(head.refined_heatmaps(feats), samples, gts, None)
    return losses['loss_keypoint']['loss_keypoint']
