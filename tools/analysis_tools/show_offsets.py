#!/usr/bin/env python
"""Show what a trained network's offsets do to one person of a picture.

Writes PNG files: where the deformable kernels of conv3 to conv5 and of the
keypoint head look, and a joint's heatmap before and after its refinement.
"""

import argparse
import sys
from pathlib import Path
from typing import List, Optional

from mmengine.dataset import pseudo_collate

from multitask_refine.apis import MultitaskInferencer
from multitask_refine.utils.errors import ConfigError, explained_errors
from multitask_refine.visualization import analyze_offsets
from multitask_refine.visualization.offset_figures import make_panels, save_panels


def parse_args(argv: Optional[List[str]]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('image', help='picture with people')
    parser.add_argument('config', help='config file of a refined network')
    parser.add_argument('checkpoint', help='its weights')
    parser.add_argument(
        '--point',
        type=float,
        nargs=2,
        metavar=('X', 'Y'),
        help='pixel that conv3 to conv5 are asked about (default: the middle of the person)',
    )
    parser.add_argument(
        '--joint', metavar='NAME', help='joint, e.g. left_wrist (default: the surest one)'
    )
    parser.add_argument(
        '--person',
        type=int,
        default=1,
        metavar='N',
        help='the person with the N-th highest score (default: 1)',
    )
    parser.add_argument(
        '--out-dir', default='offsets', help='folder of the pictures (default: offsets)'
    )
    parser.add_argument('--device', default='auto', help='cpu or cuda')
    return parser.parse_args(argv)


def find_joint(name: str, names: dict) -> int:
    """Index of a joint.

    Args:
        name (str): Its name.
        names (dict[str, int]): Of all joints.

    Raises:
        ValueError: If there is none of that name.
    """
    if name not in names:
        raise ConfigError(f'--joint: expected one of {", ".join(names)}, got {name!r}')
    return names[name]


def run(args: argparse.Namespace) -> List[Path]:
    """Load the network, look at the picture, and draw.

    Returns:
        list[Path]: The pictures' files.
    """
    inferencer = MultitaskInferencer(
        args.config, args.checkpoint, args.device, show_progress=False
    )
    names = inferencer.dataset_meta['keypoint_name2id']
    image = inferencer.read_image(args.image)
    data = pseudo_collate([inferencer.pipeline(dict(img=image, img_id=0))])
    joint = args.joint and find_joint(args.joint, names)
    study = analyze_offsets(inferencer.model, data, args.person, args.point, joint)
    for part in study.left_out:
        print(f'{part}: has no offsets in this network, left out')
    joint_name = '' if study.joint is None else list(names)[study.joint]
    panels = make_panels(image[..., ::-1], study, joint_name)
    return save_panels(panels, Path(args.out_dir))


@explained_errors()
def main(argv: Optional[List[str]] = None) -> int:
    args = parse_args(argv)
    for path in run(args):
        print(path)
    return 0


if __name__ == '__main__':
    sys.exit(main())
