"""Losses on the validation set, beside its metrics."""

import copy
from collections import Counter
from typing import Optional

import torch
from mmdet.registry import HOOKS
from mmengine.config import ConfigDict
from mmengine.dist import all_reduce_dict
from mmengine.hooks import Hook
from mmengine.model import BaseModel, is_model_wrapper
from mmengine.runner import Runner

from multitask_refine.utils.errors import ExplainedError


class ValLossError(ExplainedError, ValueError):
    """A validation set of which no losses can be computed."""


@HOOKS.register_module()
class ValLossHook(Hook):
    """Log the losses on the validation set after each validation.

    They appear beside the metrics as ``val/loss`` and ``val/loss_*``, and
    ``save_best='loss', rule='less'`` keeps the checkpoint with the lowest.
    The network is in eval mode, and the samplers of RoIs draw the same random
    numbers each time. The training is not touched: it ends with the same
    weights as without this hook.

    Args:
        dataloader (dict, optional): Loads images with annotations in the
            network's input. Defaults to ``val_dataloader``, whose pipeline
            loads the annotations before the resize instead of after it.

    Raises:
        ValLossError: If ``val_dataloader`` cannot be used that way.
    """

    # Before MMEngine's RuntimeInfoHook takes the metrics for the log.
    priority = 'HIGHEST'

    def __init__(self, dataloader: Optional[dict] = None) -> None:
        self._dataloader = dataloader
        self._built = None

    @torch.no_grad()
    def after_val_epoch(self, runner: Runner, metrics: dict) -> None:
        if self._built is None:
            self._built = runner.build_dataloader(
                self._dataloader or _annotations_first(runner.cfg.val_dataloader)
            )
        model = runner.model
        model = model.module if is_model_wrapper(model) else model
        sums = Counter()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            for batch in self._built:
                # In training mode it pads masks as it pads images.
                data = model.data_preprocessor(batch, training=True)
                losses = BaseModel.parse_losses(model, model._run_forward(data, mode='loss'))[1]
                size = len(data['inputs'])
                sums['images'] += size
                sums.update(
                    {
                        name: value.double() * size
                        for name, value in losses.items()
                        if 'loss' in name
                    }
                )
        sums = {name: torch.as_tensor(value).double() for name, value in sums.items()}
        all_reduce_dict(sums)
        images = sums.pop('images')
        metrics.update({name: float(value / images) for name, value in sums.items()})


def _annotations_first(dataloader: ConfigDict) -> ConfigDict:
    """Return a loader's config whose images and annotations are resized.

    Raises:
        ValLossError: If its pipeline does not load annotations.
    """
    dataloader = copy.deepcopy(dataloader)
    steps = dataloader.dataset.get('pipeline', ())
    where = [index for index, step in enumerate(steps) if 'Annotations' in str(step['type'])]
    if not where:
        raise ValLossError(
            'val_dataloader.dataset.pipeline: expected a step that loads '
            'annotations, for the losses on the validation set, found none. '
            'Give ValLossHook a dataloader of its own.'
        )
    steps.insert(1, steps.pop(where[0]))
    return dataloader
