"""A loss that is not finite: save what is needed to repeat the step."""

import json
from pathlib import Path
from typing import List

from mmengine.dist import get_rank
from mmengine.runner import Runner

from multitask_refine.models.losses.finite import NonFiniteLossError
from multitask_refine.utils.errors import ExplainedError
from multitask_refine.utils.results_file import command_line


class NonFiniteTrainingError(ExplainedError, ArithmeticError):
    """A training that a loss of NaN or infinity has stopped."""


def explain_non_finite(
    runner: Runner, error: NonFiniteLossError, data_batch: dict, seed: int
) -> Exception:
    """Save the state before the step, and say how to repeat it.

    The loss is looked at before the backward pass, so weights and optimizer
    are those of before the step; only the running statistics of a batch norm
    that is trained have seen it.

    Args:
        runner (Runner): In the middle of an iteration.
        error (NonFiniteLossError): Its terms.
        data_batch (dict): What was loaded.
        seed (int): Of the run.

    Returns:
        NonFiniteTrainingError: To be raised; it names the terms, the
        iteration, the images and the command that repeats it.
    """
    rank, images = get_rank(), _image_paths(data_batch)
    name = f'iter_{runner.iter}' + (f'_rank_{rank}' if rank else '')
    folder = Path(runner.work_dir) / 'non_finite'
    # MMEngine lets only rank 0 save; the images are those of this rank.
    type(runner).save_checkpoint.__wrapped__(
        runner,
        str(folder),
        f'{name}.pth',
        by_epoch=False,
        meta=dict(epoch=runner.epoch, iter=runner.iter),
    )
    terms = {key: str(value) for key, value in error.terms.items()}
    (folder / f'{name}.json').write_text(
        json.dumps(
            dict(terms=terms, iteration=runner.iter + 1, seed=seed, rank=rank, images=images),
            indent=2,
        )
    )
    return NonFiniteTrainingError(
        f'{error} in iteration {runner.iter + 1}, on rank {rank}, with the '
        f'images {", ".join(images) or "of this batch"}. The weights are as '
        "before the step. Look at these images' annotations, lower the "
        'learning rate, or clip the gradients (--cfg-options '
        f'optim_wrapper.clip_grad.max_norm=35). {folder}/{name}.json says '
        'more. To repeat the step:\n'
        f'    {command_line()} --resume {folder}/{name}.pth'
    )


def _image_paths(data_batch: dict) -> List[str]:
    if not isinstance(data_batch, dict):
        return []
    return [
        str(sample.get('img_path', sample.get('img_id')))
        for sample in data_batch.get('data_samples', [])
    ]
