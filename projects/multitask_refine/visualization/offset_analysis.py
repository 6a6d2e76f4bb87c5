"""Analyze the learned offsets for one instance of one image.

Points and boxes are in pixels of the original image, points as (x, y).

Shape letters: P points, S heatmap side.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from mmdet.structures import SampleList
from mmengine.structures import InstanceData
from torch import Tensor, nn

from multitask_refine.models import KeypointSoftmaxHead
from multitask_refine.ops import DeformRoIPool
from multitask_refine.utils.errors import ConfigError
from multitask_runtime.utils.category_meta import category_meta

from .sampling_points import (
    Arrows,
    CellGrid,
    Sampling,
    offset_arrows,
    record_inputs,
    refined_convs,
    trace,
)

MAX_DEPTH = 3  # convolutions that are traced, as in Dai et al. 2017: 729 points
_STAGES = {'conv3': 'layer2', 'conv4': 'layer3', 'conv5': 'layer4'}


@dataclass(frozen=True)
class KernelPoints:
    """Sampling points of stacked convolutions for one of their output cells.

    Args:
        start (Tensor): Center of the output cell, shape (2).
        points (Tensor): Sampling points, shape (P, 2).
        weights (Tensor): Product of the modulation of each point, shape (P); 1 in version 1.
        regular (Tensor): Sampling points without offsets, shape (P, 2).
        depth (int): Number of convolutions that are traced.
        total (int): Number of convolutions.
    """

    start: Tensor
    points: Tensor
    weights: Tensor
    regular: Tensor
    depth: int
    total: int


@dataclass(frozen=True)
class HeatmapRefinement:
    """Heatmap of a keypoint before and after its refinement.

    Args:
        before (Tensor): Probabilities on the box without offsets, shape (S, S).
        after (Tensor): Probabilities on the box with offsets, shape (S, S).
        keypoint_before (Tensor): Keypoint decoded from ``before``, shape (2).
        keypoint_after (Tensor): Keypoint decoded from ``after``, shape (2).
        arrows (Arrows): From cells of the refined heatmap to where each is read.
    """

    before: Tensor
    after: Tensor
    keypoint_before: Tensor
    keypoint_after: Tensor
    arrows: Arrows


@dataclass(frozen=True)
class OffsetAnalysis:
    """Offsets of all parts of the model for one instance.

    Args:
        box (Tensor): xyxy, shape (4).
        score (float): Score of the instance.
        point (Tensor): Point at which the backbone stages are analyzed, shape (2).
        keypoint (int, optional): Index of the keypoint at which the keypoint head is
            analyzed. None without such a head.
        location (Tensor, optional): Location of the keypoint, shape (2).
        kernels (dict[str, KernelPoints | None]): By the part of the model; None for a part
            without deformable convolutions.
        pooling (Arrows, optional): Offsets of the RoI's bins.
        heatmap (HeatmapRefinement, optional): Of the keypoint.
    """

    box: Tensor
    score: float
    point: Tensor
    keypoint: int | None
    location: Tensor | None
    kernels: dict[str, KernelPoints | None]
    pooling: Arrows | None
    heatmap: HeatmapRefinement | None

    @property
    def missing(self) -> list[str]:
        """list[str]: The parts of the model that have no offsets."""
        parts = {**self.kernels, 'RoI pooling': self.pooling, 'heatmaps': self.heatmap}
        return [name for name, part in parts.items() if part is None]


@torch.no_grad()
def analyze_offsets(
    model: nn.Module,
    data: dict,
    instance: int = 1,
    point: Sequence[float] | None = None,
    keypoint: int | None = None,
) -> OffsetAnalysis:
    """Run the model on one image and trace its offsets.

    Args:
        model (nn.Module): A ``MultitaskRCNN`` in eval mode.
        data (dict): A batch of one image from the test pipeline.
        instance (int): Rank of the instance by its score, from 1. Defaults to 1.
        point (Sequence[float], optional): Point at which the backbone stages are analyzed.
            Defaults to the center of the box.
        keypoint (int, optional): Index of the keypoint. Defaults to the one with the
            highest score, of those that the category of the instance has.

    Returns:
        OffsetAnalysis: On the CPU.

    Raises:
        ConfigError: If the model has no offsets, or the instance does not exist.
    """
    head = model.roi_head
    kp_head = head.keypoint_head
    poolings = [each.conv_offset for each in head.modules() if isinstance(each, DeformRoIPool)]
    is_refined = kp_head is not None and kp_head.offset_pred is not None
    if not (is_refined or poolings or refined_convs(model)):
        raise ConfigError(
            'this model has no offsets: neither RefinedConv2d (RB, H) nor DeformRoIPool, and '
            'no keypoint head with refine=True. Use the config of a refined variant.'
        )
    # Run the model, recording the inputs of all layers that have offsets.
    batch = model.data_preprocessor(data, False)
    with record_inputs(refined_convs(model.backbone)) as inputs:
        x = model.extract_feat(batch['inputs'])
    chosen = _detect(model, x, batch['data_samples'], instance)
    roi = head.scale_rois(chosen.bboxes)  # (1, 4) in pixels of the resized image
    with record_inputs(refined_convs(head) + poolings) as roi_inputs:
        feats = head.extract_instance_feats(x, [chosen.bboxes])
        if head.with_keypoint:
            mask_preds = head.mask_head(feats) if head.with_mask else None
            feats = head.gate_feats(feats, mask_preds)
            kp_head.refined_heatmaps(feats)

    # From here on in pixels of the original image, on the CPU.
    scale = torch.tensor(batch['data_samples'][0].scale_factor)
    box = roi[0].cpu() / scale.repeat(2)
    height, width = batch['inputs'].shape[-2:]
    # with the padding, as the features
    image = box.new_tensor([0, 0, width, height]) / scale.repeat(2)
    point = (box[:2] + box[2:]) / 2 if point is None else box.new_tensor(point)
    location = heatmap = None
    if head.with_keypoint:
        meta = category_meta(getattr(model, 'dataset_meta', None) or {}, chosen.labels.item())
        keypoint, location, heatmap = _analyze_keypoint(
            kp_head, feats, roi, scale, keypoint, meta.get('indices')
        )
    else:
        keypoint = None

    kernels = {}
    for name, layer in _STAGES.items():
        stage = getattr(model.backbone, layer, None)
        kernels[name] = stage and _trace_kernels(stage, inputs, image, point)
    if head.with_shared_head:  # the last stage of C4
        kernels['conv5'] = _trace_kernels(head.shared_head, roi_inputs, box, point)
    kernels['keypoint head'] = (
        _trace_kernels(kp_head.convs, roi_inputs, box, location) if head.with_keypoint else None
    )
    pooling = _pooling_arrows(head.instance_roi_extractor, roi_inputs, box)
    return OffsetAnalysis(
        box, chosen.scores.item(), point, keypoint, location, kernels, pooling, heatmap
    )


def _detect(
    model: nn.Module, x: tuple[Tensor], samples: SampleList, instance: int
) -> InstanceData:
    """Detect the instances and select the one of a rank."""
    proposals = model.rpn_head.predict(x, samples, rescale=False)
    (instances,) = model.roi_head.predict(x, proposals, samples)
    if not len(instances):
        raise ConfigError('no instance was found in this image')
    if not 1 <= instance <= len(instances):
        raise ConfigError(
            f'instance: expected 1 to {len(instances)}, as many as were found, got {instance}'
        )
    return instances[instance - 1]


def _trace_kernels(
    module: nn.Module, inputs: dict[nn.Module, Tensor], area: Tensor, point: Tensor
) -> KernelPoints | None:
    """Trace the last convolutions of a module.

    Args:
        module (nn.Module): Module with or without deformable convolutions.
        inputs (dict[nn.Module, Tensor]): Inputs of the convolutions.
        area (Tensor): Area of the feature maps, image or RoI: xyxy, shape (4).
        point (Tensor): Point at which to start, shape (2).
    """
    convs = refined_convs(module)
    if not convs:
        return None
    stack = [Sampling.of(conv, inputs[conv]) for conv in convs[-MAX_DEPTH:]]
    top = CellGrid.over(area, stack[-1].out_size)
    bottom = CellGrid.over(area, stack[0].size)
    cell = top.cell_at(point, stack[-1].out_size)
    points, weights = trace(stack, cell)
    # the same kernels without offsets
    regular, _ = trace([each.regular() for each in stack], cell)
    return KernelPoints(
        top.to_image(cell),
        bottom.to_image(points),
        weights,
        bottom.to_image(regular),
        len(stack),
        len(convs),
    )


def _pooling_arrows(
    extractor: nn.Module, inputs: dict[nn.Module, Tensor], box: Tensor
) -> Arrows | None:
    """Convert the offsets of the RoI's bins to arrows; None without DeformRoIPool."""
    for layer in extractor.roi_layers:
        # Only the layer of the RoI's level has run.
        if isinstance(layer, DeformRoIPool) and layer.conv_offset in inputs:
            shares = layer.conv_offset(inputs[layer.conv_offset])[0].cpu()  # (2, P, P)
            bins = layer.gamma * shares * shares.shape[1]  # from shares of the RoI to bins
            grid = CellGrid.over(box, shares.shape[1:])
            return offset_arrows(bins, torch.ones_like(bins[0]), grid)
    return None


def _analyze_keypoint(
    head: nn.Module,
    feats: Tensor,
    roi: Tensor,
    scale: Tensor,
    keypoint: int | None,
    candidates: Sequence[int] | None,
) -> tuple[int, Tensor, HeatmapRefinement | None]:
    """Choose a keypoint, one of the candidates if there are any, and analyze its heatmap.

    Returns:
        tuple: Index of the keypoint, its location, shape (2), and the refinement of its
        heatmap; None for a head without refinement.
    """
    after = head.refined_heatmaps(feats)  # (1, K, S, S)
    keypoints, scores = head.codec.decode(after, roi)  # (1, K, 2) and (1, K)
    if keypoint is None:
        scores = scores[0].tolist()
        keypoint = max(candidates or range(len(scores)), key=scores.__getitem__)
    location = keypoints[0, keypoint].cpu() / scale
    if head.offset_pred is None:
        return keypoint, location, None
    # The same head without its offsets.
    handle = head.offset_pred.register_forward_hook(lambda *args: torch.zeros_like(args[-1]))
    try:
        before = head.refined_heatmaps(feats)
    finally:
        handle.remove()
    start = head.codec.decode(before, roi)[0][0, keypoint].cpu() / scale
    maps = []
    for heatmap in (before[0, keypoint].cpu(), after[0, keypoint].cpu()):
        if isinstance(head, KeypointSoftmaxHead):
            heatmap = heatmap.flatten().softmax(0).reshape(heatmap.shape)
        maps.append(heatmap)
    # (1, 2K, S, S) -> (2, S, S)
    offsets = head(feats)[1][0, 2 * keypoint : 2 * keypoint + 2].cpu()
    grid = CellGrid.over(roi[0].cpu() / scale.repeat(2), maps[1].shape)
    arrows = offset_arrows(offsets, maps[1], grid)
    return keypoint, location, HeatmapRefinement(*maps, start, location, arrows)
