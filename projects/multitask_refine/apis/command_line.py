"""Command line of the demos with PyTorch models."""

from argparse import Namespace
from typing import Any

from multitask_refine.utils.errors import explained_errors
from multitask_runtime.command_line import run_inferencer

from .inferencer import MultitaskInferencer


@explained_errors()
def run(inputs: str | int, args: Namespace, **options: Any) -> int:
    """Run a demo with a config and a checkpoint.

    Args:
        inputs (str | int): As in ``BaseInferencer.stream``.
        args (Namespace): Parsed options of ``multitask_runtime.command_line.add_options``.
        options: Further ones of ``BaseInferencer.stream``.

    Returns:
        int: Exit status as in ``run_inferencer``.

    Raises:
        SystemExit: With a sentence about what is wrong.
    """
    return run_inferencer(
        inputs,
        args,
        lambda: MultitaskInferencer(args.config, args.checkpoint, args.device),
        **options,
    )
