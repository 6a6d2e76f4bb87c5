#!/usr/bin/env python
r"""Check the parity of exported networks with PyTorch on images.

    python -m benchmarks.onnx.parity --images data/tiny_coco/val2017 \
        --network CONFIG CHECKPOINT --json docs/results/onnx/parity.json

Besides the given trained networks, one network of each kind is checked with random weights.
Larger images are resized to --side. The differences between PyTorch's float32 and its own
float64 are in the results file, too: what rounding decides, such as which of two equal cells is
the maximum, differs there as well.
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

import multitask_refine  # noqa: F401 (registers the networks)
from multitask_refine.deployment.export import load_model, to_onnx
from multitask_refine.deployment.parity import (
    TOLERANCES,
    Difference,
    compare_outputs,
    predict_outputs,
)
from multitask_refine.engine import explained_errors, write_record
from multitask_refine.testing.synthetic_weights import draw_state_dict
from multitask_refine.utils.config import read_config
from multitask_runtime.io.image_file import ImageFile
from multitask_runtime.io.inputs import collect
from multitask_runtime.io.resize import Resizer
from multitask_runtime.utils.files import file_sha256

CONFIGS = Path(__file__).resolve().parents[2] / 'configs'
OPSET = 19
HEAD = 'model.roi_head.keypoint_head'
# Kind of network: its config and settings.
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
# Large networks take seconds per image, and people are always detected.
SETTINGS = {
    'model.test_cfg.rpn.max_per_img': 200,
    'model.test_cfg.rcnn.max_per_img': 5,
    'model.test_cfg.rcnn.score_thr': 0.0,
}
SEED = 7
# Random scores are nearly equal, so that rounding decides their order; scaled by these gains they
# are less so. (Logits of the RPN stay small: where their sigmoid is 1 in float32, anchors tie.)
GAINS = dict(fc_cls=3, heatmap_pred=3)


def draw_checkpoint(cfg: Config, image: torch.Tensor, folder: str) -> str:
    """Save random weights that detect people.

    Args:
        cfg: Config of the network.
        image: BGR (3, H, W), by which the batch norms of a small network are calibrated.
        folder: Folder of the checkpoint.

    Returns:
        Path of the checkpoint.
    """
    init_default_scope('mmdet')
    torch.manual_seed(SEED)
    model = MODELS.build(cfg.model)
    if cfg.model.backbone.get('depth') == 50:
        model.load_state_dict(draw_state_dict(model, SEED), strict=False)
    else:  # synthetic weights are tuned for ResNet-50
        model.eval()
        for name, module in model.named_modules():
            if name.split('.')[-1] in GAINS:
                module.weight.data *= GAINS[name.split('.')[-1]]
            if isinstance(module, nn.BatchNorm2d):
                module.train().momentum = 1.0  # the statistics become those of the image
        predict_outputs(model, image)
    path = str(Path(folder) / 'random.pth')
    torch.save(dict(state_dict=model.state_dict()), path)
    return path


def summarize(rows: list[dict[str, Difference]]) -> dict[str, dict]:
    """Summarize differences over images.

    Args:
        rows: Differences by output, of each image.

    Returns:
        By output: ``largest``, the largest difference of those within the tolerance, and how
        many are ``beyond`` it, of ``total``.
    """
    return {
        name: dict(
            largest=max(row[name].largest for row in rows),
            beyond=sum(row[name].mismatched for row in rows),
            total=sum(row[name].total for row in rows),
        )
        for name in rows[0]
    }


def compare_network(cfg: Config, checkpoint: str, images: list[torch.Tensor], folder: str) -> dict:
    """Export a network, and run the file, PyTorch in float32 and in float64.

    Returns:
        ``people``, the numbers of detections of PyTorch and ONNX by image; ``onnx`` and
        ``float64``, their differences from PyTorch's float32, see :func:`summarize`.
    """
    path = Path(folder) / 'model.onnx'
    path.write_bytes(to_onnx(load_model(cfg, checkpoint), OPSET))
    session = onnxruntime.InferenceSession(path)
    names = [output.name for output in session.get_outputs()]
    model, exact = load_model(cfg, checkpoint), load_model(cfg, checkpoint).double()
    people: dict[str, list[int]] = dict(pytorch=[], onnx=[])
    rows: dict[str, list] = dict(onnx=[], float64=[])
    for image in images:  # uint8 (3, H, W), as large as the network sees them
        expected = predict_outputs(model, image)
        outputs = session.run(None, dict(image=image[None].float().numpy()))
        found = dict(zip(names, outputs, strict=True))
        people['pytorch'].append(len(expected['boxes']))
        people['onnx'].append(len(found['boxes']))
        rows['onnx'].append(compare_outputs(found, expected))
        rows['float64'].append(compare_outputs(predict_outputs(exact, image), expected))
    summaries = {name: summarize(each) for name, each in rows.items()}
    return dict(config=Path(cfg.filename).name, num_instances=people, **summaries)


def read_images(folder: str, count: int, side: int) -> list[torch.Tensor]:
    """Read the first images of a folder, and append a gray one.

    Args:
        folder: The folder.
        count: Number of images to read.
        side: Larger images are resized to this longer side, in pixels.

    Returns:
        BGR, uint8 (3, H, W).
    """
    read, images = ImageFile(), []
    resize = Resizer(dict(type='Resize', scale=[side, side], keep_ratio=True))
    for source in collect(folder).sources[:count]:
        image = read(source.value)
        images.append(resize(image) if max(image.shape) > side else image)
    # An image without people: few or no detections.
    images.append(np.full((side // 2, side, 3), 127, np.uint8))
    return [torch.from_numpy(image).permute(2, 0, 1) for image in images]


@explained_errors()
def main(argv: list[str] | None = None) -> int:
    """Check trained networks and those with random weights."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--images', required=True, metavar='FOLDER')
    parser.add_argument(
        '--more',
        metavar='FOLDER',
        help='images for trained networks only, such as those they were trained on',
    )
    parser.add_argument('--count', type=int, default=10, help='per folder (default: %(default)s)')
    parser.add_argument('--side', type=int, default=320, help='in pixels (default: %(default)s)')
    parser.add_argument(
        '--network',
        nargs=2,
        action='append',
        default=[],
        metavar=('CONFIG', 'CHECKPOINT'),
        help='a trained network; may be repeated',
    )
    parser.add_argument(
        '--kinds',
        nargs='*',
        default=list(KINDS),
        choices=list(KINDS),
        metavar='KIND',
        help=f'networks with random weights (default: all): {", ".join(KINDS)}',
    )
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
            name, settings = KINDS[kind]
            cfg = read_config(next(CONFIGS.glob(f'*/multitask-rcnn_{name}.py')))
            cfg.merge_from_dict(dict(SETTINGS, **settings))
            weights = draw_checkpoint(cfg, images[0], folder)
            drawn[kind] = compare_network(cfg, weights, images, folder)
            print(kind, drawn[kind], file=sys.stderr)
    content = dict(
        image_sizes=[list(image.shape[:0:-1]) for image in images],  # width and height
        drawn_image_sizes=[list(image.shape[:0:-1]) for image in more],
        limits=TOLERANCES,
        trained=trained,
        random_weights=drawn,
    )
    write_record(args.json, content)
    print(f'Results file: {args.json}')
    return 0


if __name__ == '__main__':
    sys.exit(main())
