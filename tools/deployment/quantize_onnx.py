#!/usr/bin/env python
"""Quantize an exported ONNX file to float16 or int8, as an ONNX file or IR of OpenVINO."""

import argparse
import sys

from multitask_refine.deployment.quantize import KINDS, quantize
from multitask_refine.engine import explained_errors
from multitask_runtime.onnx.session import count_bytes


def parse_args(argv: list[str] | None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('model', help='file of export_onnx.py, .onnx')
    parser.add_argument(
        'out', help='file to write: .onnx, or .xml for OpenVINO (int8-static needs nncf)'
    )
    parser.add_argument(
        '--to',
        required=True,
        choices=KINDS,
        help='int8-dynamic (.onnx only) measures ranges in each image, int8-static calibrates '
        'them with the images of a folder',
    )
    parser.add_argument(
        '--images',
        metavar='FOLDER',
        help='images with people to calibrate int8-static; the first 100 are used',
    )
    return parser.parse_args(argv)


@explained_errors()
def main(argv: list[str] | None = None) -> int:
    """Quantize the file and print its size."""
    args = parse_args(argv)
    quantize(args.model, args.out, args.to, args.images)
    sizes = [count_bytes(path) for path in (args.model, args.out)]
    print(f'Written: {args.out}, {sizes[1]} bytes (before: {sizes[0]})')
    return 0


if __name__ == '__main__':
    sys.exit(main())
