#!/usr/bin/env python
"""Write an exported ONNX file anew with smaller numbers: float16 or int8."""

import argparse
import sys
from pathlib import Path
from typing import List, Optional

from multitask_refine.deployment.quantize import KINDS, quantize
from multitask_refine.engine import explained_errors


def parse_args(argv: Optional[List[str]]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('model', help='file of export_onnx.py, .onnx')
    parser.add_argument('out', help='file to write, .onnx')
    parser.add_argument(
        '--to',
        required=True,
        choices=KINDS,
        help='int8-dynamic measures ranges anew in each picture, int8-static '
        'beforehand in the pictures of a folder',
    )
    parser.add_argument(
        '--images',
        metavar='FOLDER',
        help='pictures with people for int8-static; the first 100 are taken',
    )
    return parser.parse_args(argv)


@explained_errors()
def main(argv: Optional[List[str]] = None) -> int:
    args = parse_args(argv)
    quantize(args.model, args.out, args.to, args.images)
    sizes = [Path(path).stat().st_size for path in (args.model, args.out)]
    print(f'Written: {args.out}, {sizes[1]} bytes (before: {sizes[0]})')
    return 0


if __name__ == '__main__':
    sys.exit(main())
