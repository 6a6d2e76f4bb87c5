"""What the demos have in common: options, the run and its errors."""

import signal
import threading
from argparse import ArgumentParser, Namespace
from typing import Callable, Iterator, Union

from .base_inferencer import BaseInferencer
from .io.image_viewer import ImageViewer, NoWindowError
from .io.inputs import InputError
from .onnx.inferencer import OnnxInferencer
from .onnx.metadata import OnnxError
from .onnx.session import is_onnx


def add_options(parser: ArgumentParser) -> None:
    """Add the network, and the options that all demos share."""
    parser.add_argument(
        'config',
        help='config that the network has; or MODEL.onnx alone, an exported '
        'network, which needs no PyTorch',
    )
    parser.add_argument('checkpoint', nargs='?', help='its weights, or MODEL.onnx')
    parser.add_argument(
        '--out-dir',
        default='outputs',
        help='folder for what is drawn, under the names of the inputs, and '
        "for predictions.json; '' writes nothing (default: outputs)",
    )
    parser.add_argument(
        '--score-thr',
        '--pred-score-thr',
        type=float,
        default=0.3,
        help='people with a lower score are not drawn (default: 0.3)',
    )
    parser.add_argument(
        '--kpt-thr',
        type=float,
        help="joints with a lower score are not drawn (default: the config's, else 0.2)",
    )
    parser.add_argument(
        '--device',
        default='auto',
        help='cpu, cuda or cuda:1; auto takes cuda where there is one (default: auto)',
    )
    parser.add_argument(
        '--batch-size',
        type=int,
        default=1,
        help='images of one size that go through at once (default: 1)',
    )
    parser.add_argument(
        '--show', action='store_true', help='show them in a window; Esc or q ends it'
    )


def run(inputs: Union[str, int], args: Namespace, **options) -> int:
    """Look at the inputs as the options say.

    Args:
        inputs (str | int): As ``MultitaskInferencer`` takes them.
        args (Namespace): Has what :func:`add_options` adds.
        options: Further ones of ``BaseInferencer.stream``.

    Returns:
        int: 0; 1 if an input was skipped; 130 or 143 if it was stopped by
        Ctrl-C or SIGTERM, with whole files of what was done before.

    Raises:
        SystemExit: With a sentence that says what was wrong.
    """
    model = args.checkpoint or args.config
    if is_onnx(model):
        return look(inputs, args, lambda: OnnxInferencer(model, args.device), **options)
    if not args.checkpoint:
        raise SystemExit(
            f'{args.config}: expected a config and a checkpoint, '
            'or a file that ends in .onnx alone'
        )
    try:
        # The only import of what needs PyTorch, and only for networks in it.
        from multitask_refine.apis.command_line import run_checkpoint
    except ModuleNotFoundError as error:
        if error.name != 'torch':
            raise
        raise SystemExit(
            'PyTorch is needed for a config and a checkpoint, and is not '
            'installed in this environment. Set one up by make setup '
            '(docs/installation.md), or give an exported MODEL.onnx.'
        ) from None
    return run_checkpoint(inputs, args, **options)


def look(
    inputs: Union[str, int], args: Namespace, load: Callable[[], BaseInferencer], **options
) -> int:
    """Look at the inputs with a network.

    Args:
        load (Callable): Loads it.

    The other arguments, what is returned and raised: see :func:`run`.
    """
    try:
        if args.show:
            ImageViewer().close()  # says that there is none before all the work
        finder = load()
        results = finder.stream(
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
    stopped = _use_up(results)
    if args.out_dir:
        print(f'Results: {args.out_dir}')
    return stopped or int(bool(finder.skipped))


def _use_up(results: Iterator[dict]) -> int:
    """Run to the end, or until a signal; its exit status, else 0."""
    received = []

    def stop(number: int, _) -> None:
        received.append(number)
        raise KeyboardInterrupt

    is_main = threading.current_thread() is threading.main_thread()
    before = signal.signal(signal.SIGTERM, stop) if is_main else None
    try:
        for _ in results:
            pass
    except (OSError, InputError, OnnxError) as error:
        raise SystemExit(str(error)) from None
    except KeyboardInterrupt:
        print('Stopped.')
        return 128 + (received[0] if received else signal.SIGINT)
    finally:
        if is_main:
            signal.signal(signal.SIGTERM, before)
    return 0
