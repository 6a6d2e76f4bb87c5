#!/usr/bin/env python
"""Show what the learned offsets of a model do to one instance of an image.

Writes PNG files: sampling points of the deformable convolutions in conv3 to conv5 and in
the keypoint head, and the heatmap of a keypoint before and after its refinement.
"""

import argparse
import sys
from pathlib import Path

from multitask_refine.apis import MultitaskInferencer
from multitask_refine.apis.offsets import analyze_image
from multitask_refine.utils.errors import explained_errors
from multitask_refine.visualization.offset_figures import save_panels


def parse_args(argv: list[str] | None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('image', help='image with people')
    parser.add_argument('config', help='config of a refined model')
    parser.add_argument('checkpoint', help='checkpoint of the model')
    parser.add_argument(
        '--point',
        type=float,
        nargs=2,
        metavar=('X', 'Y'),
        help='pixel at which conv3 to conv5 are analyzed (default: center of the box)',
    )
    parser.add_argument(
        '--keypoint',
        '--joint',
        metavar='NAME',
        help='keypoint, e.g. left_wrist (default: the one with the highest score)',
    )
    parser.add_argument(
        '--instance',
        '--person',
        type=int,
        default=1,
        metavar='N',
        help='the instance with the N-th highest score (default: 1)',
    )
    parser.add_argument(
        '--out-dir', default='offsets', help='folder of the figures (default: offsets)'
    )
    parser.add_argument('--device', default='auto', help='cpu or cuda')
    return parser.parse_args(argv)


@explained_errors()
def main(argv: list[str] | None = None) -> int:
    """Load the model, analyze the image and save the figures."""
    args = parse_args(argv)
    inferencer = MultitaskInferencer(
        args.config, args.checkpoint, args.device, show_progress=False
    )
    analysis, panels = analyze_image(
        inferencer, inferencer.read_image(args.image), args.instance, args.point, args.keypoint
    )
    for part in analysis.missing:
        print(f'{part}: has no offsets in this model, left out')
    for path in save_panels(panels, Path(args.out_dir)):
        print(path)
    return 0


if __name__ == '__main__':
    sys.exit(main())
