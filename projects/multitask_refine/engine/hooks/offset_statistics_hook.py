"""How far the learned offsets reach, in every layer and over the training."""

from functools import partial
from typing import Dict, Optional

import torch
from mmdet.registry import HOOKS
from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.runner import Runner
from torch import Tensor, nn

from multitask_refine.engine.optimizers import OFFSET_LAYERS
from multitask_refine.ops import bound_offsets


@HOOKS.register_module()
class OffsetStatisticsHook(Hook):
    """Record the mean and the largest offset of every layer, in cells.

    The length of an offset counts, in cells of the map that it samples:
    feature pixels for convolutions, bins for RoI poolings, heatmap pixels for
    the keypoint head. Every ``interval`` iterations they go to the
    visualizer's backends as ``offsets/<layer>/mean`` and
    ``offsets/<layer>/max`` (``vis_data/scalars.json`` in the work dir), with
    the number of layers that leave their map as ``offsets/outside``. A
    warning names the layers whose largest offset is longer than the longer
    side of its map: what they read there is zero. Public code that met such
    offsets mended them by a lower rate (``dcn_offset_lr_mult``).

    Rank 0 records its own batch. Models without offsets record nothing.

    Args:
        interval (int): Iterations between two records. Defaults to 50.
    """

    def __init__(self, interval: int = 50) -> None:
        self.interval = interval
        self._scalars: Optional[Dict[str, float]] = None

    def before_train(self, runner: Runner) -> None:
        """Attach a forward hook to every layer that predicts offsets."""
        model = runner.model
        model = model.module if is_model_wrapper(model) else model
        self._handles = [
            getattr(module, layer).register_forward_hook(
                partial(self._record, f'{name}.{layer}', module)
            )
            for name, module in model.named_modules()
            for layer in OFFSET_LAYERS
            if isinstance(getattr(module, layer, None), nn.Module)
        ]

    def before_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Optional[dict] = None
    ) -> None:
        """Record this iteration if its turn has come."""
        if (runner.iter + 1) % self.interval == 0 and runner.rank == 0:
            self._scalars, self._outside = {}, []

    def after_train_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: Optional[dict] = None,
        outputs: Optional[dict] = None,
    ) -> None:
        """Hand the record on and warn of offsets that leave their map."""
        if not self._scalars:
            self._scalars = None
            return
        self._scalars['offsets/outside'] = len(self._outside)
        runner.visualizer.add_scalars(self._scalars, step=runner.iter + 1)
        if self._outside:
            runner.logger.warning(
                'The offsets leave the map, where zeros are read, in '
                f'{"; ".join(self._outside)}. Lower their rate '
                '(optim_wrapper.paramwise_cfg.dcn_offset_lr_mult) or the base '
                'rate, or clip the gradient.'
            )
        self._scalars = None

    def after_train(self, runner: Runner) -> None:
        """Detach from the model."""
        for handle in self._handles:
            handle.remove()

    @torch.no_grad()
    def _record(
        self, name: str, module: nn.Module, _: nn.Module, inputs: tuple, output: Tensor
    ) -> None:
        """Add one layer's prediction, (B, 2N or 3N, H, W), to the record."""
        if self._scalars is None or not output.numel():
            return
        if getattr(module, 'modulated', False):
            output = output[:, : output.shape[1] * 2 // 3]
        side = max(output.shape[-2:])
        output = bound_offsets(output.float(), getattr(module, 'max_offset', None))
        lengths = output.unflatten(1, (-1, 2)).norm(dim=2)
        if hasattr(module, 'gamma'):
            # In shares of the RoI's size, of which a bin is one in P.
            lengths = lengths * module.gamma * module.output_size[0]
        if hasattr(module, 'codec'):
            # Of a heatmap of S x S, whatever the layer's own size.
            side = module.codec.heatmap_size
        mean, longest = lengths.mean().item(), lengths.max().item()
        self._scalars.update({f'offsets/{name}/mean': mean, f'offsets/{name}/max': longest})
        if longest > side:
            self._outside.append(f'{name} (largest {longest:.1f} cells, map {side})')
