"""Losses on the validation set, next to its metrics."""

import copy
from collections import Counter

import torch
from mmdet.registry import HOOKS
from mmengine.config import ConfigDict
from mmengine.dist import all_reduce_dict
from mmengine.hooks import Hook
from mmengine.model import BaseModel, is_model_wrapper
from mmengine.runner import Runner

from multitask_refine.utils.errors import ConfigError


@HOOKS.register_module()
class ValLossHook(Hook):
    """Log the losses on the validation set after each validation.

    They are logged next to the metrics as ``val/loss`` and ``val/loss_*``;
    ``save_best='loss', rule='less'`` keeps the checkpoint with the lowest loss. The model is in
    eval mode, and the RoI samplers draw the same random numbers each time. Training ends with
    the same weights as without this hook.

    Args:
        dataloader (dict, optional): Loader of images with annotations at the model's input
            size. Defaults to ``val_dataloader`` with a pipeline that loads the annotations
            before the resize instead of after it.

    Raises:
        ConfigError: If the pipeline of ``val_dataloader`` loads no annotations.
    """

    # Before MMEngine's RuntimeInfoHook takes the metrics for the log.
    priority = 'HIGHEST'

    def __init__(self, dataloader: dict | None = None) -> None:
        self._cfg = dataloader
        self._dataloader = None

    @torch.no_grad()
    def after_val_epoch(self, runner: Runner, metrics: dict) -> None:
        """Compute the mean losses per image and add them to the metrics."""
        if self._dataloader is None:
            self._dataloader = runner.build_dataloader(
                self._cfg or load_annotations_first(runner.cfg.val_dataloader)
            )
        model = runner.model.module if is_model_wrapper(runner.model) else runner.model
        sums = Counter()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            for batch in self._dataloader:
                # In training mode the preprocessor pads masks like images.
                data = model.data_preprocessor(batch, training=True)
                losses = BaseModel.parse_losses(model, model._run_forward(data, mode='loss'))[1]
                size = len(data['inputs'])
                sums['images'] += size
                for name, value in losses.items():
                    if 'loss' in name:
                        sums[name] += value.double() * size
        sums = {name: torch.as_tensor(value).double() for name, value in sums.items()}
        all_reduce_dict(sums)
        images = sums.pop('images')
        metrics.update({name: float(value / images) for name, value in sums.items()})


def load_annotations_first(dataloader: ConfigDict) -> ConfigDict:
    """Return a validation loader's config whose annotations are resized with the images.

    Args:
        dataloader (ConfigDict): Its pipeline loads annotations at any step.

    Raises:
        ConfigError: If its pipeline loads no annotations.
    """
    dataloader = copy.deepcopy(dataloader)
    pipeline = dataloader.dataset.get('pipeline', ())
    where = [index for index, step in enumerate(pipeline) if 'Annotations' in str(step['type'])]
    if not where:
        raise ConfigError(
            'val_dataloader.dataset.pipeline: expected a transform that loads '
            'annotations, for the losses on the validation set, found none. '
            'Give ValLossHook its own dataloader.'
        )
    pipeline.insert(1, pipeline.pop(where[0]))
    return dataloader
