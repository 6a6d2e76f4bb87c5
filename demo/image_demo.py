#!/usr/bin/env python
"""Detect people in images: boxes, masks and keypoints.

    python demo/image_demo.py photo.jpg CONFIG CHECKPOINT
    python demo/image_demo.py folder CONFIG CHECKPOINT --out-dir outputs
    python demo/image_demo.py 'photos/*.jpg' CONFIG CHECKPOINT
    python demo/image_demo.py photo.jpg MODEL.onnx

MODEL.onnx is an exported model; it needs onnxruntime, but not PyTorch.
"""

import argparse
import sys

from multitask_runtime.command_line import add_options, needs_pytorch


def parse_args(argv: list[str] | None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument(
        'inputs', help='an image, a folder (with its subfolders), or a glob pattern in quotes'
    )
    add_options(parser)
    return parser.parse_intermixed_args(argv)


def main(argv: list[str] | None = None) -> int:
    """Run the demo and return its exit status."""
    args = parse_args(argv)
    if needs_pytorch(args):
        from multitask_refine.apis.command_line import run
    else:
        from multitask_runtime.command_line import run
    return run(args.inputs, args)


if __name__ == '__main__':
    sys.exit(main())
