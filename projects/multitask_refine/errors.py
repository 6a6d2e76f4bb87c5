"""Errors that say all a user has to know, and how a tool says them."""
from contextlib import contextmanager
from typing import Iterator

import torch

_NO_MEMORY = (
    'The GPU has not enough memory ({reason}). What helps, the first before '
    'the rest: fewer images at once '
    '(--cfg-options train_dataloader.batch_size=1 with --auto-scale-lr; '
    'test_dataloader.batch_size=1; --batch-size 1 of the demos), training '
    'with --amp, smaller images (scale of the Resize steps in the pipelines), '
    'fewer people at once (model.train_cfg.rcnn.sampler.num, '
    'model.test_cfg.rcnn.max_per_img), and no other program on the same GPU '
    '(nvidia-smi lists them).')
_NO_CUDA_OPERATORS = (
    'mmcv was built without CUDA operators, but the network is on CUDA '
    '({reason}). Compile it where nvcc is: make setup '
    'PYTHON=/path/to/bin/python with a CUDA build of torch '
    '(docs/install.md), or run on the CPU: CUDA_VISIBLE_DEVICES= before the '
    'command.')


class ExplainedError(Exception):
    """An error whose message is all that a user has to know.

    Tools print the message alone and end with status 1. Another error of that
    kind only has to inherit from this class too.
    """


@contextmanager
def explained_errors() -> Iterator[None]:
    """Let explained errors and common failures end a tool by a sentence.

    Raises:
        SystemExit: With the sentence, in place of an :class:`ExplainedError`,
            a missing file, CUDA without memory, or mmcv without CUDA
            operators.
    """
    try:
        yield
    except (ExplainedError, FileNotFoundError) as error:
        raise SystemExit(str(error)) from None
    except torch.OutOfMemoryError as error:
        raise SystemExit(_NO_MEMORY.format(reason=_first(error))) from None
    except RuntimeError as error:
        if 'ot compiled with GPU support' not in str(error):
            raise
        raise SystemExit(
            _NO_CUDA_OPERATORS.format(reason=_first(error))) from None


def _first(error: Exception) -> str:
    """The first sentence of PyTorch's message, which may have a stack."""
    return str(error).splitlines()[0].split('. ')[0].rstrip('.')
