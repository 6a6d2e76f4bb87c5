"""Command line of the demos: options, the run and its errors."""

import importlib.util
import signal
import threading
from argparse import ArgumentParser, Namespace
from collections.abc import Callable
from typing import Any

from .base_inferencer import BaseInferencer
from .io.image_viewer import ImageViewer
from .onnx.inferencer import OnnxInferencer
from .onnx.session import is_onnx
from .utils.errors import InputError, NoWindowError, OnnxError


def add_options(parser: ArgumentParser) -> None:
    """Add the model and the options that all demos share."""
    parser.add_argument(
        'config',
        help='config of the model; or MODEL.onnx alone, an exported model, which does '
        'not need PyTorch',
    )
    parser.add_argument('checkpoint', nargs='?', help='checkpoint of the model, or MODEL.onnx')
    parser.add_argument(
        '--out-dir',
        default='outputs',
        help='folder for visualized images and videos, under the names of the inputs, and '
        "for predictions.json; '' writes nothing (default: outputs)",
    )
    parser.add_argument(
        '--score-thr',
        '--pred-score-thr',
        type=float,
        default=0.3,
        help='instances with a lower score are not drawn (default: 0.3)',
    )
    parser.add_argument(
        '--kpt-thr',
        type=float,
        help="keypoints with a lower score are not drawn (default: the config's, else 0.2)",
    )
    parser.add_argument(
        '--device',
        default='auto',
        help='cpu, cuda or cuda:1; auto is cuda where available (default: auto)',
    )
    parser.add_argument(
        '--batch-size',
        type=int,
        default=1,
        help='images of one size that go through the model at once (default: 1)',
    )
    parser.add_argument(
        '--show', action='store_true', help='show them in a window; Esc or q ends the run'
    )


def needs_pytorch(args: Namespace) -> bool:
    """Return whether the model is a checkpoint and not an ONNX file.

    Args:
        args (Namespace): Parsed options of :func:`add_options`.

    Raises:
        SystemExit: If there is neither, or PyTorch is needed and not installed.
    """
    if is_onnx(args.checkpoint or args.config):
        return False
    if not args.checkpoint:
        raise SystemExit(
            f'{args.config}: expected a config and a checkpoint, or a file that ends in '
            '.onnx alone'
        )
    if importlib.util.find_spec('torch') is None:
        raise SystemExit(
            'PyTorch is needed for a config and a checkpoint, and is not installed in this '
            'environment. Set one up by make setup (docs/installation.md), or give an exported '
            'MODEL.onnx.'
        )
    return True


def run(inputs: str | int, args: Namespace, **options: Any) -> int:
    """Run a demo with an ONNX file.

    Args:
        inputs (str | int): As in ``BaseInferencer.stream``.
        args (Namespace): Parsed options of :func:`add_options`.
        options: Further ones of ``BaseInferencer.stream``.

    Returns:
        int: Exit status as in :func:`run_inferencer`.

    Raises:
        SystemExit: With a sentence about what is wrong.
    """
    model = args.checkpoint or args.config
    return run_inferencer(inputs, args, lambda: OnnxInferencer(model, args.device), **options)


def run_inferencer(
    inputs: str | int, args: Namespace, load: Callable[[], BaseInferencer], **options: Any
) -> int:
    """Run an inferencer on the inputs until they, or a signal, end it.

    Args:
        inputs (str | int): As in ``BaseInferencer.stream``.
        args (Namespace): Parsed options of :func:`add_options`.
        load (Callable): Loads the inferencer.
        options: Further ones of ``BaseInferencer.stream``.

    Returns:
        int: Exit status: 0; 1 if an input was skipped; 130 or 143 if the run was
        interrupted by Ctrl-C or SIGTERM, with complete files of what was done before.

    Raises:
        SystemExit: With a sentence about what is wrong.
    """
    try:
        if args.show:
            ImageViewer().close()  # reports a missing screen before the model is loaded
        inferencer = load()
        results = inferencer.stream(
            inputs,
            batch_size=args.batch_size,
            score_thr=args.score_thr,
            kpt_thr=args.kpt_thr,
            out_dir=args.out_dir or None,
            show=args.show,
            **options,
        )
    except (OSError, ValueError, NoWindowError) as error:
        raise SystemExit(str(error)) from None
    # SIGTERM ends the run like Ctrl-C, so that schedulers get complete files, too.
    status = 0
    received = []

    def stop(number: int, _: object) -> None:
        received.append(number)
        raise KeyboardInterrupt

    # Python sets signal handlers in the main thread only.
    is_main = threading.current_thread() is threading.main_thread()
    before = signal.signal(signal.SIGTERM, stop) if is_main else None
    try:
        for _ in results:
            pass
    except (OSError, InputError, OnnxError) as error:
        raise SystemExit(str(error)) from None
    except KeyboardInterrupt:
        print('Stopped.')
        status = 128 + (received[0] if received else signal.SIGINT)
    finally:
        if is_main:
            signal.signal(signal.SIGTERM, before)
    if args.out_dir:
        print(f'Results: {args.out_dir}')
    return status or int(bool(inferencer.skipped))
