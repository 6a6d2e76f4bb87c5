"""The demos with a network of PyTorch."""

from argparse import Namespace
from typing import Union

from multitask_refine.utils.errors import explained_errors
from multitask_runtime.command_line import run_inferencer

from .inferencer import MultitaskInferencer


@explained_errors()
def run_checkpoint(inputs: Union[str, int], args: Namespace, **options) -> int:
    """Look at the inputs with a config and its weights.

    Arguments, what is returned and raised: see ``run`` of
    ``multitask_runtime.command_line``.
    """
    return run_inferencer(
        inputs,
        args,
        lambda: MultitaskInferencer(args.config, args.checkpoint, args.device),
        **options,
    )
