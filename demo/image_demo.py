#!/usr/bin/env python
"""Find people in pictures: boxes, masks and joints.

    python demo/image_demo.py photo.jpg CONFIG CHECKPOINT
    python demo/image_demo.py folder CONFIG CHECKPOINT --out-dir pictures
    python demo/image_demo.py 'photos/*.jpg' CONFIG CHECKPOINT
    python demo/image_demo.py photo.jpg MODEL.onnx

MODEL.onnx is an exported network; it needs onnxruntime, but no PyTorch.
"""

import argparse
import sys
from typing import List, Optional

from multitask_runtime.command_line import add_options, run


def parse_args(argv: Optional[List[str]]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument(
        'inputs',
        help='a picture, a folder (its pictures and those of its '
        'subfolders are taken), or a glob pattern in quotes',
    )
    add_options(parser)
    return parser.parse_intermixed_args(argv)


def main(argv: Optional[List[str]] = None) -> int:
    args = parse_args(argv)
    return run(args.inputs, args)


if __name__ == '__main__':
    sys.exit(main())
