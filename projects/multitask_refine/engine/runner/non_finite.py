"""Save the state before a training step whose loss is not finite."""

import json
from pathlib import Path

from mmengine.dist import get_rank
from mmengine.runner import Runner

from multitask_refine.engine.hooks.checkpoint_hook import ATOMIC
from multitask_refine.models.losses.finite import NonFiniteLossError
from multitask_refine.utils.errors import NonFiniteTrainingError
from multitask_refine.utils.results_file import command_line


def dump_non_finite_step(
    runner: Runner, error: NonFiniteLossError, data_batch: dict, seed: int
) -> NonFiniteTrainingError:
    """Save the state before the step, so that the step can be reproduced.

    The loss is checked before the backward pass, so weights and optimizer are those of before
    the step; only running statistics of batch norm are already updated.

    Args:
        runner (Runner): The runner, in the middle of an iteration.
        error (NonFiniteLossError): The loss terms.
        data_batch (dict): The batch, as loaded.
        seed (int): The seed of the run.

    Returns:
        NonFiniteTrainingError: To be raised; it names the terms, the iteration, the images and
        the command that reproduces the step.
    """
    rank = get_rank()
    images = [
        str(sample.get('img_path', sample.get('img_id')))
        for sample in (data_batch if isinstance(data_batch, dict) else {}).get('data_samples', [])
    ]
    name = f'iter_{runner.iter}' + (f'_rank_{rank}' if rank else '')
    folder = Path(runner.work_dir) / 'non_finite'
    # The undecorated method, because MMEngine lets rank 0 alone save; the images are those of
    # this rank.
    type(runner).save_checkpoint.__wrapped__(
        runner,
        str(folder),
        f'{name}.pth',
        by_epoch=False,
        meta=dict(epoch=runner.epoch, iter=runner.iter),
        backend_args=ATOMIC,
    )
    record = dict(
        terms={key: str(value) for key, value in error.terms.items()},
        iteration=runner.iter + 1,
        seed=seed,
        rank=rank,
        images=images,
    )
    (folder / f'{name}.json').write_text(json.dumps(record, indent=2))
    return NonFiniteTrainingError(
        f'{error} in iteration {runner.iter + 1}, on rank {rank}, with the '
        f'images {", ".join(images) or "of this batch"}. The weights are those of '
        'before the step. Check the annotations of these images, lower the '
        'learning rate, or clip the gradients (--cfg-options '
        f'optim_wrapper.clip_grad.max_norm=35). {folder}/{name}.json has '
        'the details. To reproduce the step:\n'
        f'    {command_line()} --resume {folder}/{name}.pth'
    )
