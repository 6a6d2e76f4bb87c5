"""What a trained network's offsets do for one person of one image.

Points and boxes are in pixels of the original image, points as (x, y).

Shape letters: P points, S heatmap side.
"""

from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Callable, Dict, Iterator, List, Optional, Sequence, Tuple

import torch
from mmdet.structures import SampleList
from torch import Tensor, nn

from multitask_refine.models import KeypointSoftmaxHead
from multitask_refine.ops import DeformRoIPool
from multitask_refine.utils.errors import ConfigError
from multitask_runtime.utils.category_meta import category_meta

from .sampling_points import (
    Arrows,
    CellGrid,
    Sampling,
    moved_cells,
    recorded_inputs,
    refined_convs,
    trace,
)

LEVELS = 3  # convolutions that are followed, as in Dai et al.: 729 points
_STAGES = {'conv3': 'layer2', 'conv4': 'layer3', 'conv5': 'layer4'}

Inputs = Dict[nn.Module, Tensor]


@dataclass(frozen=True)
class KernelPoints:
    """Where stacked convolutions look for one of their output cells.

    Args:
        start (Tensor): Centre of the output cell, (2).
        points (Tensor): What they read, (P, 2).
        factors (Tensor): How much each point counts, (P); 1 in version 1.
        regular (Tensor): What they would read without offsets, (P, 2).
        depth (int): How many convolutions are followed.
        total (int): How many there are.
    """

    start: Tensor
    points: Tensor
    factors: Tensor
    regular: Tensor
    depth: int
    total: int


@dataclass(frozen=True)
class HeatmapRefinement:
    """A joint's heatmap without and with its offsets.

    Args:
        before, after (Tensor): Probabilities on the person's box, (S, S).
        joint_before, joint_after (Tensor): The joint decoded from each, (2).
        arrows (Arrows): From cells of the refined map to where each is read.
    """

    before: Tensor
    after: Tensor
    joint_before: Tensor
    joint_after: Tensor
    arrows: Arrows


@dataclass(frozen=True)
class OffsetAnalysis:
    """All that there is to see for one person.

    Args:
        box (Tensor): xyxy, (4).
        score (float): The person's.
        point (Tensor): The point that the stages are asked about, (2).
        joint (int, optional): Index of the joint that the keypoint head is
            asked about. None without such a head.
        place (Tensor, optional): Where the joint is, (2).
        kernels (dict[str, KernelPoints]): By the part of the network; None
            where it is not refined.
        pooling (Arrows, optional): How the RoI's bins are moved.
        heatmap (HeatmapRefinement, optional): Of the joint.
    """

    box: Tensor
    score: float
    point: Tensor
    joint: Optional[int]
    place: Optional[Tensor]
    kernels: Dict[str, Optional[KernelPoints]]
    pooling: Optional[Arrows]
    heatmap: Optional[HeatmapRefinement]

    @property
    def left_out(self) -> List[str]:
        """list[str]: The parts of the network that have no offsets."""
        parts = {**self.kernels, 'RoI pooling': self.pooling, 'heatmaps': self.heatmap}
        return [name for name, part in parts.items() if part is None]


@torch.no_grad()
def analyze_offsets(
    model: nn.Module,
    data: dict,
    person: int = 1,
    point: Optional[Sequence[float]] = None,
    joint: Optional[int] = None,
) -> OffsetAnalysis:
    """Run the network on one image and follow its offsets.

    Args:
        model (nn.Module): A ``MultitaskRCNN`` in evaluation mode.
        data (dict): A batch of one image, as the test pipeline gives it.
        person (int): 1 for the one with the highest score. Defaults to 1.
        point (Sequence[float], optional): What the stages are asked about;
            the middle of the person's box by default.
        joint (int, optional): Which joint; by default the one with the
            highest score, of those that the instance's category has.

    Returns:
        OffsetAnalysis: What was found, on the CPU.

    Raises:
        ConfigError: If the network has no offsets, or there is no such
            person.
    """
    _require_offsets(model)
    head, batch = model.roi_head, model.data_preprocessor(data, False)
    with recorded_inputs(refined_convs(model.backbone)) as inputs:
        feats = model.extract_feat(batch['inputs'])
    roi, score, label = _find_person(model, feats, batch['data_samples'], person)
    with recorded_inputs(_offset_layers(head)) as roi_inputs:
        pooled = head.extract_instance_feats(feats, [roi])
        if head.with_keypoint:
            head.keypoint_head.refined_heatmaps(pooled)
    scale = torch.tensor(batch['data_samples'][0].scale_factor)
    box = roi[0].cpu() / scale.repeat(2)
    point = (box[:2] + box[2:]) / 2 if point is None else box.new_tensor(point)
    own = category_meta(getattr(model, 'dataset_meta', None) or {}, label)
    joint, place, heatmap = _study_joint(
        head.keypoint_head, pooled, roi, scale, joint, own.get('indices')
    )
    height, width = batch['inputs'].shape[-2:]
    image = box.new_tensor([0, 0, width, height]) / scale.repeat(2)
    kernels = _study_kernels(
        model,
        partial(_follow, inputs=inputs, area=image, point=point),
        partial(_follow, inputs=roi_inputs, area=box),
        point,
        place,
    )
    return OffsetAnalysis(
        box, score, point, joint, place, kernels, _study_pooling(head, roi_inputs, box), heatmap
    )


def _find_person(
    model: nn.Module, feats: Tuple[Tensor], samples: SampleList, person: int
) -> Tuple[Tensor, float, int]:
    """A box in pixels of the network's input, (1, 4), its score and label."""
    proposals = model.rpn_head.predict(feats, samples, rescale=False)
    (people,) = model.roi_head.predict(feats, proposals, samples)
    if not len(people):
        raise ConfigError('nobody was found in this image')
    if not 1 <= person <= len(people):
        raise ConfigError(
            f'person: expected 1 to {len(people)}, as many as were found, got {person}'
        )
    chosen = people[person - 1]
    return chosen.bboxes, chosen.scores.item(), chosen.labels.item()


def _study_kernels(
    model: nn.Module, in_image: Callable, on_roi: Callable, point: Tensor, place: Optional[Tensor]
) -> Dict[str, Optional[KernelPoints]]:
    """Follow each part that has kernels, see :func:`_follow`."""
    head, kernels = model.roi_head, {}
    for name, layer in _STAGES.items():
        stage = getattr(model.backbone, layer, None)
        kernels[name] = stage and in_image(stage)
    if head.with_shared_head:  # the last stage
        kernels['conv5'] = on_roi(head.shared_head, point=point)
    kernels['keypoint head'] = (
        on_roi(head.keypoint_head.convs, point=place) if head.with_keypoint else None
    )
    return kernels


def _follow(
    module: nn.Module, inputs: Inputs, area: Tensor, point: Tensor
) -> Optional[KernelPoints]:
    """Trace the last convolutions of a part of the network.

    Args:
        module (nn.Module): Maybe with refined convolutions.
        inputs (dict): What went into them.
        area (Tensor): What the feature maps cover: image or RoI, (4).
        point (Tensor): Where to start, (2).
    """
    convs = refined_convs(module)
    if not convs:
        return None
    stack = [Sampling.of(conv, inputs[conv]) for conv in convs[-LEVELS:]]
    top = CellGrid.over(area, stack[-1].out_size)
    bottom = CellGrid.over(area, stack[0].size)
    cell = top.cell_at(point, stack[-1].out_size)
    points, factors = trace(stack, cell)
    regular, _ = trace([each.regular() for each in stack], cell)
    return KernelPoints(
        top.to_image(cell),
        bottom.to_image(points),
        factors,
        bottom.to_image(regular),
        len(stack),
        len(convs),
    )


def _study_pooling(head: nn.Module, inputs: Inputs, box: Tensor) -> Optional[Arrows]:
    """How ``DeformRoIPool`` moves the bins of the shared feature."""
    for layer in head.instance_roi_extractor.roi_layers:
        if isinstance(layer, DeformRoIPool) and layer.conv_offset in inputs:
            shares = layer.conv_offset(inputs[layer.conv_offset])[0].cpu()
            bins = layer.gamma * shares * len(shares[0])
            grid = CellGrid.over(box, shares.shape[1:])
            return moved_cells(bins, torch.ones_like(bins[0]), grid)
    return None


def _study_joint(
    head: Optional[nn.Module],
    pooled: Tensor,
    roi: Tensor,
    scale: Tensor,
    joint: Optional[int],
    own: Optional[Sequence[int]],
) -> tuple:
    """Choose a joint, one of ``own`` if there are any, and see what its
    offsets do.

    Returns:
        tuple: Index of the joint, where it is, (2), and a
        :class:`HeatmapRefinement`; None for what there is not.
    """
    if head is None:
        return None, None, None
    after = head.refined_heatmaps(pooled)
    joints, scores = head.codec.decode(after, roi)
    if joint is None:
        joint = max(own or range(scores.shape[1]), key=scores[0].tolist().__getitem__)
    place = joints[0, joint].cpu() / scale
    if head.offset_pred is None:
        return joint, place, None
    with _no_offsets(head.offset_pred):
        before = head.refined_heatmaps(pooled)
    start = head.codec.decode(before, roi)[0][0, joint].cpu() / scale
    offsets = head(pooled)[1][0, 2 * joint : 2 * joint + 2].cpu()
    maps = [_probabilities(head, each[0, joint]) for each in (before, after)]
    grid = CellGrid.over(roi[0].cpu() / scale.repeat(2), maps[1].shape)
    arrows = moved_cells(offsets, maps[1], grid)
    return joint, place, HeatmapRefinement(*maps, start, place, arrows)


def _probabilities(head: nn.Module, heatmap: Tensor) -> Tensor:
    heatmap = heatmap.cpu()
    if isinstance(head, KeypointSoftmaxHead):
        return heatmap.flatten().softmax(0).reshape(heatmap.shape)
    return heatmap


@contextmanager
def _no_offsets(layer: nn.Module) -> Iterator[None]:
    handle = layer.register_forward_hook(lambda module, args, out: torch.zeros_like(out))
    try:
        yield
    finally:
        handle.remove()


def _offset_layers(module: nn.Module) -> List[nn.Module]:
    """The layers in a part of the network whose inputs tell the offsets."""
    pooling = [each.conv_offset for each in module.modules() if isinstance(each, DeformRoIPool)]
    return refined_convs(module) + pooling


def _require_offsets(model: nn.Module) -> None:
    head = model.roi_head.keypoint_head
    refines_heatmaps = head is not None and head.offset_pred is not None
    if not refines_heatmaps and not _offset_layers(model):
        raise ConfigError(
            'this network has no offsets: neither RefinedConv2d (RB, H) nor '
            'DeformRoIPool, and no keypoint head with refine=True. Take a '
            'config of a refined variant.'
        )
