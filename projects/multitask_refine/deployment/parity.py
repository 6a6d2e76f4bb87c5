"""An exported graph beside PyTorch, on a drawn picture.

Shape letters: N people, K joints, M x M cells of a mask.
"""

from typing import Dict, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from mmdet.structures import DetDataSample
from torch import Tensor, nn

from .support import ExportError

People = Dict[str, np.ndarray]
_SIZE = (203, 267)
# How far outputs may be apart: pixels, else shares of 1 or of the value.
LIMITS = dict(boxes=0.1, scores=1e-3, masks=1e-3, keypoints=0.1, keypoint_scores=1e-3)
# Boxes that are equally good, or cells that are equally high: rounding
# decides between them. So large a share may be others.
TIES = 0.1


class Difference(NamedTuple):
    """How an output of the graph differs from PyTorch's.

    Attributes:
        largest: Among the people or joints that both found.
        others: Number of them that only one found.
        total: Number of all.
    """

    largest: float
    others: int
    total: int


@torch.no_grad()
def find_people(model: nn.Module, image: Tensor) -> People:
    """What the network finds, as an exported file gives it.

    Args:
        model (nn.Module): The network, in eval mode.
        image (Tensor): BGR, 0 to 255, shape (3, H, W).

    Returns:
        dict[str, np.ndarray]: ``boxes`` (N, 4), ``scores`` (N) and, of the
        heads that are there, ``masks`` (N, M, M) as probabilities,
        ``keypoints`` (N, K, 2) and ``keypoint_scores`` (N, K), in pixels of
        the image.
    """
    size = tuple(image.shape[1:])
    sample = DetDataSample(metainfo=dict(img_shape=size, ori_shape=size, scale_factor=(1.0, 1.0)))
    batch = model.data_preprocessor(dict(inputs=[image], data_samples=[sample]), False)
    x, samples = model.extract_feat(batch['inputs']), batch['data_samples']
    rois = [model.rpn_head.predict(x, samples, rescale=False)[0].bboxes]
    head = model.roi_head
    found = head.predict_bbox(
        *head.bbox_forward(x, rois), rois, [each.metainfo for each in samples]
    )[0]
    people = dict(boxes=found.bboxes, scores=found.scores)
    feats = head.extract_instance_feats(x, [found.bboxes])
    if head.with_mask:
        people['masks'] = head.mask_head(feats)[:, 0].sigmoid()
    if head.with_keypoint:
        heatmaps = head.keypoint_head.refined_heatmaps(feats).to(found.bboxes)
        people['keypoints'], people['keypoint_scores'] = head.keypoint_head.codec.decode(
            heatmaps, found.bboxes
        )
    return {name: values.numpy() for name, values in people.items()}


def compare(found: People, expected: People) -> Dict[str, Difference]:
    """Pair the people that two runs found, and compare them.

    Args:
        found, expected (dict[str, np.ndarray]): See :func:`find_people`.
    """
    apart = np.abs(found['boxes'][:, None] - expected['boxes'][None]).max(-1)
    ranks = np.abs(found['scores'][:, None] - expected['scores'])
    near = (apart < LIMITS['boxes']) & (ranks < LIMITS['scores'])
    partner = np.where(near, apart, np.inf)
    here, there = _pair(partner)
    total = max(near.shape)
    differences = {
        name: Difference(
            _largest(found[name][here] - expected[name][there]), total - len(here), total
        )
        for name in ('boxes', 'scores')
    }
    for name in expected.keys() - differences.keys():
        differences[name] = _compare_parts(name, found[name][here], expected[name][there])
    return {name: differences[name] for name in expected}


def _pair(apart: np.ndarray) -> np.ndarray:
    """Rows and columns, (2, P), of the nearest pairs of finite distance, each
    used once."""
    pairs = []
    while apart.size and np.isfinite(apart).any():
        row, column = np.unravel_index(apart.argmin(), apart.shape)
        apart[row], apart[:, column] = np.inf, np.inf
        pairs.append((row, column))
    return np.array(sorted(pairs), int).reshape(-1, 2).T


def _compare_parts(name: str, found: np.ndarray, expected: np.ndarray) -> Difference:
    """Masks person by person, joints and their scores one by one."""
    apart = np.abs(found - expected)
    if name == 'masks':
        apart = apart.max((1, 2), initial=0)
    elif name == 'keypoints':
        apart = apart.max(-1).flatten()
    else:
        apart = (apart / np.maximum(1, np.abs(expected))).flatten()
    same = apart < LIMITS[name]
    return Difference(_largest(apart[same]), int((~same).sum()), len(apart))


def _largest(differences: np.ndarray) -> float:
    return float(np.abs(differences).max(initial=0))


def check_parity(graph, model: nn.Module) -> Dict[str, Difference]:
    """Run a graph and the network on a drawn picture.

    The least score is set to 0 in both, so that people are found in any
    picture.

    Args:
        graph (onnx.ModelProto): The exported graph; left as it is.
        model (nn.Module): The network. Its least score stays 0.

    Raises:
        ExportError: If they differ by more than rounding does.
    """
    generator = torch.Generator().manual_seed(0)
    grains = torch.rand(1, 3, 12, 16, generator=generator) * 255
    image = F.interpolate(grains, _SIZE, mode='bicubic').clamp(0, 255)
    model.roi_head.test_cfg.score_thr = 0.0
    differences = compare(
        run_graph(_without_least_score(graph), image.numpy()), find_people(model, image[0])
    )
    refuse_others(differences)
    return differences


def refuse_others(differences: Dict[str, Difference]) -> None:
    """Refuse more differences than rounding explains.

    Raises:
        ExportError: Names the output, how many differ and of how many.
    """
    for name, (_, others, total) in differences.items():
        if others > TIES * total:
            raise ExportError(
                f'The exported graph does not compute what the network does: '
                f'{name} of {others} of {total} differ by more than '
                f'{LIMITS[name]}. Nothing was written.'
            )


def run_graph(content: bytes, image: np.ndarray) -> People:
    """Run an ONNX file's content on an image (1, 3, H, W) by onnxruntime.

    Raises:
        ExportError: If onnxruntime is too old for it.
    """
    import onnxruntime

    try:
        session = onnxruntime.InferenceSession(content, providers=['CPUExecutionProvider'])
    except Exception as error:  # onnxruntime's have no common base
        raise ExportError(
            f'onnxruntime {onnxruntime.__version__} cannot run the graph; '
            'deformable convolutions need 1.25 or later, which needs Python '
            f'3.11. It says: {error}'
        ) from None
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(None, dict(image=image))))


def _without_least_score(graph) -> bytes:
    import onnx

    changed = onnx.ModelProto()
    changed.CopyFrom(graph)
    (least,) = [
        node.input[4]
        for node in changed.graph.node
        if node.op_type == 'NonMaxSuppression' and len(node.input) == 5
    ]
    (constant,) = [node for node in changed.graph.node if least in node.output]
    zero = onnx.numpy_helper.from_array(np.zeros(1, np.float32))
    constant.attribute[0].t.CopyFrom(zero)
    return changed.SerializeToString()
