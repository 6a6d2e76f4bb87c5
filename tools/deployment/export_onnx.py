#!/usr/bin/env python
"""Export a trained model as one ONNX file: from an image to boxes, masks and keypoints."""

import argparse
import sys

from multitask_refine.deployment import export
from multitask_refine.engine import SettingsAction, explained_errors, read_config, require_settings


def parse_args(argv: list[str] | None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('config', help='config that the model was trained with')
    parser.add_argument('checkpoint', help='checkpoint of the model')
    parser.add_argument('out', help='file to write, .onnx')
    parser.add_argument(
        '--opset', type=int, default=19, help='opset version, 19 or 20 (default: 19)'
    )
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=SettingsAction,
        help='settings that override the config, e.g. model.test_cfg.rcnn.score_thr=0.3',
    )
    return parser.parse_args(argv)


@explained_errors()
def main(argv: list[str] | None = None) -> int:
    """Export the model and print its differences from PyTorch."""
    args = parse_args(argv)
    cfg = read_config(args.config, args.cfg_options)
    require_settings(cfg, 'model', 'test_dataloader')
    differences = export(cfg, args.checkpoint, args.out, args.opset)
    print('Largest difference from PyTorch on a drawn image:')
    for name, (largest, mismatched, total) in differences.items():
        print(
            f'  {name}: {largest:.2g} ({total} compared; {mismatched} differ by more than '
            'rounding)'
        )
    print(f'Written: {args.out}')
    return 0


if __name__ == '__main__':
    sys.exit(main())
