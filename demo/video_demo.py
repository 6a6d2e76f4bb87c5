#!/usr/bin/env python
"""Detect people in a video: boxes, masks and keypoints, with --track also track ids.

    python demo/video_demo.py video.mp4 CONFIG CHECKPOINT --track
    python demo/video_demo.py 0 CONFIG CHECKPOINT --show --out-dir ''
    python demo/video_demo.py rtsp://user:password@camera/stream MODEL.onnx
    python demo/video_demo.py video.mp4 MODEL.onnx --track

MODEL.onnx is an exported model; it needs onnxruntime, but not PyTorch.
"""

import argparse
import sys
from pathlib import Path

from multitask_runtime.command_line import add_options, needs_pytorch


def parse_args(argv: list[str] | None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument(
        'video',
        help='a video file, the index of a camera, or the URL of a stream (http, https, rtsp, '
        'rtsps); cameras and live streams run until Ctrl-C, Esc or q',
    )
    add_options(parser)
    parser.add_argument(
        '--track',
        action='store_true',
        help='track the instances: each keeps its id throughout the video',
    )
    return parser.parse_intermixed_args(argv)


def main(argv: list[str] | None = None) -> int:
    """Run the demo and return its exit status."""
    args = parse_args(argv)
    if needs_pytorch(args):
        from multitask_refine.apis.command_line import run
    else:
        from multitask_runtime.command_line import run
    is_camera = args.video.isdecimal() and not Path(args.video).exists()
    return run(int(args.video) if is_camera else args.video, args, track=args.track)


if __name__ == '__main__':
    sys.exit(main())
