"""Parity of an exported graph with PyTorch, on a drawn image.

Shape letters: N instances, K keypoints, M side of a mask.
"""

from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from mmdet.structures import DetDataSample
from torch import Tensor, nn

from .checks import ExportError

Outputs = dict[str, np.ndarray]
_IMAGE_SIZE = (203, 267)
# Absolute tolerances: boxes and keypoints in pixels, scores and masks as probabilities.
# Keypoint scores above 1, as logits are, are compared by their relative difference.
TOLERANCES = dict(
    boxes=0.1,
    scores=1e-3,
    masks=1e-3,
    keypoints=0.1,
    keypoint_scores=1e-3,
    keypoints_visible_probs=1e-3,
    pose_scores=1e-3,
    mask_scores=1e-3,
)
# Share of the instances or keypoints that may differ: where boxes are equally good, or cells
# equally high, rounding decides between them.
TIES = 0.1


class Difference(NamedTuple):
    """Difference of an output of the graph from PyTorch's.

    Attributes:
        largest: Largest difference among those within the tolerance.
        mismatched: Number of instances or keypoints beyond it, or found by one only.
        total: Number of all.
    """

    largest: float
    mismatched: int
    total: int


@torch.no_grad()
def predict_outputs(model: nn.Module, image: Tensor) -> Outputs:
    """Run PyTorch's prediction and return the outputs of an exported file.

    Args:
        model (nn.Module): The model, in eval mode.
        image (Tensor): BGR, 0 to 255, shape (3, H, W).

    Returns:
        dict[str, np.ndarray]: ``boxes`` (N, 4), ``scores`` (N) and, depending on the heads,
        ``masks`` (N, M, M) as probabilities, ``keypoints`` (N, K, 2), ``keypoint_scores`` (N, K)
        and the fields of the branches (N, ...), in image pixels.
    """
    size = tuple(image.shape[1:])
    sample = DetDataSample(metainfo=dict(img_shape=size, ori_shape=size, scale_factor=(1.0, 1.0)))
    batch = model.data_preprocessor(dict(inputs=[image], data_samples=[sample]), False)
    x, samples = model.extract_feat(batch['inputs']), batch['data_samples']
    rois = [model.rpn_head.predict(x, samples, rescale=False)[0].bboxes]
    head = model.roi_head
    detections = head.predict_bbox(
        *head.bbox_forward(x, rois), rois, [each.metainfo for each in samples]
    )[0]
    outputs = dict(boxes=detections.bboxes, scores=detections.scores)
    mask_x = model.extract_mask_feat(batch['inputs'], x)
    found = head.instance_forward(
        *(head.extract_instance_feats(each, [detections.bboxes]) for each in (x, mask_x))
    )
    if head.with_mask:
        outputs['masks'] = found.mask_preds[:, 0].sigmoid()
    if head.with_keypoint:
        heatmaps = found.heatmaps.to(detections.bboxes)
        outputs['keypoints'], outputs['keypoint_scores'] = head.keypoint_head.codec.decode(
            heatmaps, detections.bboxes
        )
    for name, values in found.branches.items():
        outputs[head.branches[name].field] = values
    return {name: values.numpy() for name, values in outputs.items()}


def compare_outputs(found: Outputs, expected: Outputs) -> dict[str, Difference]:
    """Pair the instances of two runs and compare their outputs.

    Args:
        found (dict[str, np.ndarray]): See :func:`predict_outputs`.
        expected (dict[str, np.ndarray]): Those that count as right.

    Returns:
        dict[str, Difference]: By output. Boxes, scores and masks are compared by instance,
        keypoints and their scores one by one.
    """
    # (N, N'), largest distance of a coordinate
    distance = np.abs(found['boxes'][:, None] - expected['boxes'][None]).max(-1)
    score_gap = np.abs(found['scores'][:, None] - expected['scores'])
    is_near = (distance < TOLERANCES['boxes']) & (score_gap < TOLERANCES['scores'])
    distance = np.where(is_near, distance, np.inf)
    total = max(distance.shape)
    # Greedy: the nearest pair first, each instance once.
    pairs = []
    while distance.size and np.isfinite(distance).any():
        row, column = np.unravel_index(distance.argmin(), distance.shape)
        distance[row], distance[:, column] = np.inf, np.inf
        pairs.append((row, column))
    here, there = np.array(sorted(pairs), int).reshape(-1, 2).T
    differences = {}
    for name, values in expected.items():
        gap = np.abs(found[name][here] - values[there])
        if name in ('boxes', 'scores'):
            largest = float(gap.max(initial=0))
            differences[name] = Difference(largest, total - len(here), total)
            continue
        if name == 'masks':
            gap = gap.max((1, 2), initial=0)  # (N, M, M) -> (N)
        elif name in ('keypoints', 'keypoints_visible_probs'):
            gap = gap.max(-1).flatten()  # (N, K, 2 or 3) -> (NK)
        else:
            gap = (gap / np.maximum(1, np.abs(values[there]))).flatten()
        is_same = gap < TOLERANCES[name]
        largest = float(gap[is_same].max(initial=0))
        differences[name] = Difference(largest, int((~is_same).sum()), len(gap))
    return differences


def check_parity(graph: Any, model: nn.Module) -> dict[str, Difference]:
    """Compare graph and model on a drawn image.

    The score threshold is set to 0 in both, so that any image has instances.

    Args:
        graph (onnx.ModelProto): The exported graph; is not modified.
        model (nn.Module): The model. Its score threshold remains 0.

    Returns:
        dict[str, Difference]: By output.

    Raises:
        ExportError: If they differ by more than rounding does.
    """
    import onnx

    generator = torch.Generator().manual_seed(0)
    noise = torch.rand(1, 3, 12, 16, generator=generator) * 255
    image = F.interpolate(noise, _IMAGE_SIZE, mode='bicubic').clamp(0, 255)
    model.roi_head.test_cfg.score_thr = 0.0
    graph_copy = onnx.ModelProto()
    graph_copy.CopyFrom(graph)
    # Only the NMS of the box head has a score threshold, its fifth input.
    (threshold,) = [
        node.input[4]
        for node in graph_copy.graph.node
        if node.op_type == 'NonMaxSuppression' and len(node.input) == 5
    ]
    (constant,) = [node for node in graph_copy.graph.node if threshold in node.output]
    zero = onnx.numpy_helper.from_array(np.zeros(1, np.float32))
    constant.attribute[0].t.CopyFrom(zero)
    differences = compare_outputs(
        run_onnx(graph_copy.SerializeToString(), image.numpy()), predict_outputs(model, image[0])
    )
    raise_if_different(differences)
    return differences


def raise_if_different(differences: dict[str, Difference]) -> None:
    """Refuse more differences than rounding explains.

    Args:
        differences (dict[str, Difference]): From :func:`compare_outputs`.

    Raises:
        ExportError: Names the output, how many differ and of how many.
    """
    for name, (_, mismatched, total) in differences.items():
        if mismatched > TIES * total:
            raise ExportError(
                f'The exported graph does not compute what the model does: {name} of '
                f'{mismatched} of {total} differ by more than {TOLERANCES[name]}. Nothing was '
                'written.'
            )


def run_onnx(content: bytes, image: np.ndarray) -> Outputs:
    """Run a serialized ONNX model with onnxruntime.

    Args:
        content (bytes): The ONNX file's content.
        image (np.ndarray): BGR, 0 to 255, float32, shape (1, 3, H, W).

    Returns:
        dict[str, np.ndarray]: By name of the output.

    Raises:
        ExportError: If onnxruntime is too old for the graph.
    """
    import onnxruntime

    try:
        session = onnxruntime.InferenceSession(content, providers=['CPUExecutionProvider'])
    except Exception as error:  # the errors of onnxruntime have no common base
        raise ExportError(
            f'onnxruntime {onnxruntime.__version__} cannot run the graph; deformable '
            'convolutions need 1.25 or later, which needs Python 3.11. It says: '
            f'{error}'
        ) from None
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(None, dict(image=image)), strict=True))
