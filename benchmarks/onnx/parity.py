#!/usr/bin/env python
"""Compare exported networks with PyTorch on images.

    python -m benchmarks.onnx.parity --images data/tiny_coco/val2017 \
        --network CONFIG CHECKPOINT --json docs/results/onnx/parity.json

Beside the trained networks that are given, one of each kind is compared with
weights drawn from a seed. Images are made smaller where they are larger
than --side. How far PyTorch's float32 is from its own float64 is written, too:
what rounding decides, such as which of two equal cells is the highest, differs
there as well.
"""

import argparse
import sys
import tempfile
from pathlib import Path

import numpy as np
import onnxruntime
import torch
from mmdet.registry import MODELS
from mmengine.config import Config
from mmengine.registry import init_default_scope
from torch import nn

import multitask_refine  # noqa: F401
from multitask_refine.deployment.export import load_model, to_onnx
from multitask_refine.deployment.parity import (
    TOLERANCES,
    Difference,
    compare_outputs,
    predict_outputs,
)
from multitask_refine.engine import write_record
from multitask_refine.evaluation.predictions import file_sha256
from multitask_refine.testing.synthetic_weights import draw_state_dict
from multitask_refine.utils.config import read_config
from multitask_runtime.io.image_file import ImageFile
from multitask_runtime.io.inputs import collect
from multitask_runtime.io.resize import Resizer

CONFIGS = Path(__file__).resolve().parents[2] / 'configs'
HEAD = 'model.roi_head.keypoint_head'
# Kind of network: its config, and what is changed in it.
KINDS = {
    'regular': ('r26-w16_fpn-ms_regular_1xb8-1500_sample', {}),
    'RB': ('r26-w16_fpn-ms_rb_1xb4-1500_sample', {}),
    'RB+H': ('r26-w16_fpn-ms_rb-h_1xb8-1500_sample', {}),
    'RB+H, modulated (v2)': (
        'r26-w16_fpn-ms_rb-h_1xb8-1500_sample',
        {'model.backbone.dcn.modulated': True, f'{HEAD}.conv_cfg.modulated': True},
    ),
    'RB+H, keypoints only': ('r26-w16_fpn-ms_rb-h-kps_1xb4-1500_sample', {}),
    'RB+H, single-scale': ('r26-w16_fpn-ss_rb-h_1xb4-1500_sample', {}),
    'RB+H without offsets': ('r26-w16_fpn-ms_rb-h-no-offset_1xb4-1500_sample', {}),
    'softmax': ('r26-w16_fpn-ms_softmax_1xb8-1500_sample', {}),
    'softmax, RB+H': ('r26-w16_fpn-ms_softmax-rb-h_1xb8-500_sample', {}),
    "Detectron2's layout": ('r50_fpn_detectron2_8xb2-90k_coco', {}),
    "torchvision's layout": ('r50_fpn_torchvision_8xb2-90k_coco', {}),
    'C4, RB+H': ('r50_c4_rb-h_4xb3-90k_coco', {}),
}
# So that the large ones take seconds an image, and people are always found.
FEWER = {
    'model.test_cfg.rpn.max_per_img': 200,
    'model.test_cfg.rcnn.max_per_img': 5,
    'model.test_cfg.rcnn.score_thr': 0.0,
}
SEED = 7
# Drawn scores are nearly equal, so that rounding decides who is best; so many
# times larger they are less so. (Logits of the RPN stay small: where their
# sigmoid is 1 in float32, anchors tie.)
GAINS = dict(fc_cls=3, heatmap_pred=3)


def draw_checkpoint(cfg: Config, image: torch.Tensor, folder: str) -> str:
    """Write weights that find people, drawn from a seed.

    Args:
        cfg (Config): The network's config.
        image (Tensor): What the batch norms of a small network are set by,
            BGR (3, H, W).
        folder (str): Where to write.

    Returns:
        str: The checkpoint.
    """
    init_default_scope('mmdet')
    torch.manual_seed(SEED)
    model = MODELS.build(cfg.model)
    if cfg.model.backbone.get('depth') == 50:
        model.load_state_dict(draw_state_dict(model, SEED), strict=False)
    else:  # whose layers have other names
        with torch.no_grad():
            for name, module in model.named_modules():
                gain = GAINS.get(name.split('.')[-1])
                if gain:
                    module.weight *= gain
        _set_norms(model, image)
    path = str(Path(folder) / 'drawn.pth')
    torch.save(dict(state_dict=model.state_dict()), path)
    return path


def _set_norms(model: nn.Module, image: torch.Tensor) -> None:
    """Let each batch norm see what it normalises, as in training."""
    model.eval()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.train().momentum = 1.0
    predict_outputs(model, image)


def compare_network(cfg: Config, checkpoint: str, images: list[torch.Tensor], folder: str) -> dict:
    """Record a network as ONNX and run it, PyTorch and its float64.

    Returns:
        dict: ``people``, the numbers that PyTorch and ONNX find in each
        image; ``onnx`` and ``float64``, how PyTorch's float32 differs from
        them: see :func:`summarise`.
    """
    path = Path(folder) / 'model.onnx'
    path.write_bytes(to_onnx(load_model(cfg, checkpoint), 19))
    session = onnxruntime.InferenceSession(path)
    names = [output.name for output in session.get_outputs()]
    model = load_model(cfg, checkpoint)
    exact = load_model(cfg, checkpoint).double()
    people: dict[str, list[int]] = dict(pytorch=[], onnx=[])
    rows: dict[str, list] = dict(onnx=[], float64=[])
    for image in images:
        expected = predict_outputs(model, image)
        feed = dict(image=image[None].float().numpy())
        found = dict(zip(names, session.run(None, feed), strict=False))
        people['pytorch'].append(len(expected['boxes']))
        people['onnx'].append(len(found['boxes']))
        rows['onnx'].append(compare_outputs(found, expected))
        rows['float64'].append(compare_outputs(predict_outputs(exact, image), expected))
    return dict(
        config=Path(cfg.filename).name,
        people=people,
        **{name: summarise(each) for name, each in rows.items()},
    )


def summarise(rows: list[dict[str, Difference]]) -> dict[str, dict]:
    """Of each output over all images: ``largest``, the largest difference
    of those within the limit, and how many are ``beyond`` it, of how many
    (``total``)."""
    return {
        name: dict(
            largest=max(row[name].largest for row in rows),
            beyond=sum(row[name].mismatched for row in rows),
            total=sum(row[name].total for row in rows),
        )
        for name in rows[0]
    }


def read_images(folder: str, count: int, side: int) -> list[torch.Tensor]:
    """The first images of a folder, and a grey one: BGR (3, H, W).

    Args:
        folder (str): Where they are.
        count (int): How many of them.
        side (int): The longer side of larger ones, in pixels.
    """
    read, found = ImageFile(), []
    shrink = Resizer(dict(type='Resize', scale=[side, side], keep_ratio=True))
    for source in collect(folder).sources[:count]:
        image = read(source.value)
        found.append(shrink(image) if max(image.shape) > side else image)
    found.append(np.full((side // 2, side, 3), 127, np.uint8))
    return [torch.from_numpy(image).permute(2, 0, 1) for image in found]


def _sizes(images: list[torch.Tensor]) -> list[list[int]]:
    """Width and height of each."""
    return [list(image.shape[:0:-1]) for image in images]


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--images', required=True, metavar='FOLDER')
    parser.add_argument(
        '--more',
        metavar='FOLDER',
        help='images for trained networks alone, such as they were trained on',
    )
    parser.add_argument('--count', type=int, default=10, help='of each folder')
    parser.add_argument('--side', type=int, default=320, help='in pixels')
    parser.add_argument(
        '--network',
        nargs=2,
        action='append',
        default=[],
        metavar=('CONFIG', 'CHECKPOINT'),
        help='a trained network',
    )
    parser.add_argument('--kinds', nargs='*', default=list(KINDS), choices=list(KINDS))
    parser.add_argument('--json', required=True, help='results file')
    args = parser.parse_args(argv)
    images = read_images(args.images, args.count, args.side)
    more = read_images(args.more, args.count, args.side) if args.more else []
    trained, drawn = [], {}
    with tempfile.TemporaryDirectory() as folder:
        for config, checkpoint in args.network:
            row = compare_network(read_config(config), checkpoint, images + more, folder)
            trained.append(dict(row, checkpoint_sha256=file_sha256(checkpoint)))
            print(row, file=sys.stderr)
        for kind in args.kinds:
            name, options = KINDS[kind]
            cfg = read_config(CONFIGS / f'sample/multitask-rcnn_{name}.py')
            cfg.merge_from_dict(dict(FEWER, **options))
            weights = draw_checkpoint(cfg, images[0], folder)
            drawn[kind] = compare_network(cfg, weights, images, folder)
            print(kind, drawn[kind], file=sys.stderr)
    write_record(
        args.json,
        dict(
            pictures=_sizes(images),
            more=_sizes(more),
            limits=TOLERANCES,
            trained=trained,
            drawn=drawn,
        ),
    )
    print(f'Results file: {args.json}')
    return 0


if __name__ == '__main__':
    sys.exit(main())
