#!/usr/bin/env python
"""Find graph breaks of torch.compile, and what prevents CUDA graphs, in each part of a network.

    python -m benchmarks.cuda.compilation --json docs/results/performance/compilation.json

No GPU is needed: torch._dynamo.explain traces each part, with the implementations that CUDA uses
(mmcv's operators), and the simulated device counts what the host would wait for, which a CUDA
graph cannot contain. The results file has a list of ``parts``: ``network``, ``part``, number of
``graphs``, ``breaks`` (``reason`` and ``place``) and ``waits``.
"""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch._dynamo
from mmdet.registry import MODELS
from mmdet.utils import register_all_modules
from mmengine.config import Config
from mmengine.structures import InstanceData
from torch import nn

from multitask_refine.engine import write_record
from multitask_refine.ops import set_fast_cpu_ops
from multitask_refine.testing.simulated_device import SimulatedDevice

ROOT = Path(__file__).resolve().parents[2]
NETWORKS = {
    name: f'sample/multitask-rcnn_r26-w16_fpn-ms_{variant}_1xb8-1500_sample.py'
    for name, variant in dict(regular='regular', rb_h='rb-h').items()
}
SIZE, ROIS = 96, 3
Parts = dict[str, tuple[Callable[..., Any], tuple]]


def list_parts(model: nn.Module, device: torch.device | str) -> Parts:
    """Return the parts of a network in evaluation mode, with their arguments."""
    head = model.roi_head
    image = torch.rand(1, 3, SIZE, SIZE, device=device)
    maps = model.backbone(image)
    pyramid = model.neck(maps)
    scores = model.rpn_head(pyramid)
    meta = dict(img_shape=(SIZE, SIZE), scale_factor=(1.0, 1.0))
    corners = 30 * torch.rand(ROIS, 2, device=device)
    boxes = torch.cat([corners, corners + 40], 1)
    rois = torch.cat([torch.zeros_like(boxes[:, :1]), boxes], 1)
    extractor = head.instance_roi_extractor
    feats = extractor(pyramid[: extractor.num_inputs], rois)
    box_feats = head.bbox_roi_extractor(pyramid[: head.bbox_roi_extractor.num_inputs], rois)
    heatmaps = head.keypoint_head.refined_heatmaps(feats)
    results = [InstanceData(bboxes=boxes)]
    return {
        'backbone': (model.backbone, (image,)),
        'FPN': (model.neck, (maps,)),
        'RPN': (model.rpn_head, (pyramid,)),
        'proposals': (
            lambda *found: model.rpn_head.predict_by_feat(*found, batch_img_metas=[meta]),
            scores,
        ),
        'RoI pooling': (extractor, (pyramid[: extractor.num_inputs], rois)),
        'box head': (head.bbox_head, (box_feats,)),
        'mask head': (head.mask_head, (feats,)),
        'keypoint head': (head.keypoint_head.refined_heatmaps, (feats,)),
        'keypoint decoding': (
            lambda each: head.keypoint_head.predict_by_feat(
                (each,), results, [meta], None, rescale=True
            ),
            (heatmaps,),
        ),
    }


def explain(part: Callable[..., Any], args: tuple) -> dict:
    """Return the number of graphs and the breaks between them."""
    torch._dynamo.reset()
    found = torch._dynamo.explain(part)(*args)
    breaks = {
        (_first_sentence(each.reason), _place(each.user_stack)): None
        for each in found.break_reasons
    }
    return dict(
        graphs=found.graph_count,
        breaks=[dict(reason=reason, place=place) for reason, place in breaks],
    )


def _first_sentence(reason: object) -> str:
    return str(reason).strip().splitlines()[0]


def _place(stack: list) -> str:
    """Return module and function of the innermost frame."""
    path = Path(stack[-1].filename)
    for root in (ROOT / 'projects', *map(Path, sys.path)):
        if path.is_relative_to(root) and root != Path():
            path = path.relative_to(root)
            break
    return f'{".".join(path.with_suffix("").parts)}.{stack[-1].name}'


def examine(name: str) -> list[dict]:
    """Examine every part of a network."""
    cfg = Config.fromfile(ROOT / 'configs' / NETWORKS[name])
    model = MODELS.build(cfg.model).eval()
    set_fast_cpu_ops(model, False)
    rows = []
    with torch.no_grad():
        for part, (call, args) in list_parts(model, 'cpu').items():
            rows.append(dict(network=name, part=part, **explain(call, args)))
            print(rows[-1], file=sys.stderr, flush=True)
        with SimulatedDevice() as device:
            model.to(device.device)
            for row, (call, args) in zip(
                rows, list_parts(model, device.device).values(), strict=True
            ):
                device.synchronizations.clear()
                call(*args)
                row['waits'] = len(device.synchronizations)
    return rows


def main(argv: list[str] | None = None) -> int:
    """Run the tool; return its exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--json', required=True, help='results file')
    args = parser.parse_args(argv)
    register_all_modules(init_default_scope=True)
    torch.manual_seed(0)
    parts = [row for name in NETWORKS for row in examine(name)]
    write_record(args.json, dict(parts=parts))
    return 0


if __name__ == '__main__':
    sys.exit(main())
