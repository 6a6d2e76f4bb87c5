#!/usr/bin/env python
"""Export a trained network as one ONNX file: from an image to boxes, masks
and joints."""
import argparse
import sys
from pathlib import Path
from typing import List, Optional

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from mmengine.config import DictAction  # noqa: E402

from projects.multitask_refine.apis.settings import (  # noqa: E402
    load_config)
from projects.multitask_refine.deployment import export  # noqa: E402
from projects.multitask_refine.engine import explained_errors  # noqa: E402


def parse_args(argv: Optional[List[str]]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('config', help='config that it was trained with')
    parser.add_argument('checkpoint', help='its weights')
    parser.add_argument('out', help='file to write, .onnx')
    parser.add_argument(
        '--opset',
        type=int,
        default=19,
        help="version of ONNX's operators, 19 or 20 (default: 19)")
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=DictAction,
        help='settings that override the config, e.g. '
        'model.test_cfg.rcnn.score_thr=0.3')
    return parser.parse_args(argv)


def main(argv: Optional[List[str]] = None) -> int:
    args = parse_args(argv)
    with explained_errors():
        cfg = load_config(args.config)
        cfg.merge_from_dict(args.cfg_options or {})
        differences = export(cfg, args.checkpoint, args.out, args.opset)
    print('Largest difference from PyTorch on a drawn picture:')
    for name, (largest, others, total) in differences.items():
        print(f'  {name}: {largest:.2g} ({total} compared; {others} differ '
              'by more than rounding)')
    print(f'Written: {args.out}')
    return 0


if __name__ == '__main__':
    sys.exit(main())
