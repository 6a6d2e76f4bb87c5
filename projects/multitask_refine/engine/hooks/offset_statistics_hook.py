"""Statistics of the learned offsets of every layer during training."""

from functools import partial

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
    """Log mean and maximum offset length of every layer, in cells.

    A cell is that of the map which the offset samples: a feature pixel for convolutions, a bin
    for RoI pooling, a heatmap pixel for the keypoint head. Every ``interval`` iterations the
    visualizer's backends get ``offsets/<layer>/mean`` and ``offsets/<layer>/max``
    (``vis_data/scalars.json`` in the work dir), and the number of layers with offsets longer
    than the longer side of their map as ``offsets/outside``. A warning names these layers:
    they read zeros there. Public implementations avoided such offsets by a lower learning rate
    (``dcn_offset_lr_mult``).

    Rank 0 logs its own batch. Models without offsets log nothing.

    Args:
        interval (int): Iterations between two logs. Defaults to 50.
    """

    def __init__(self, interval: int = 50) -> None:
        self.interval = interval
        self._scalars: dict[str, float] | None = None

    def before_train(self, runner: Runner) -> None:
        """Attach a forward hook to every layer that predicts offsets."""
        model = runner.model.module if is_model_wrapper(runner.model) else runner.model
        self._handles = [
            getattr(module, layer).register_forward_hook(
                partial(self._record, f'{name}.{layer}', module)
            )
            for name, module in model.named_modules()
            for layer in OFFSET_LAYERS
            if isinstance(getattr(module, layer, None), nn.Module)
        ]

    def before_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: dict | None = None
    ) -> None:
        """Start a record if the iteration is to be logged."""
        if (runner.iter + 1) % self.interval == 0 and runner.rank == 0:
            self._scalars, self._outside = {}, []

    def after_train_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: dict | None = None,
        outputs: dict | None = None,
    ) -> None:
        """Log the record, and warn of offsets that leave their map."""
        scalars, self._scalars = self._scalars, None
        if not scalars:
            return
        scalars['offsets/outside'] = len(self._outside)
        runner.visualizer.add_scalars(scalars, step=runner.iter + 1)
        if self._outside:
            runner.logger.warning(
                'Offsets leave their map, where zeros are read, in '
                f'{"; ".join(self._outside)}. Lower their learning rate '
                '(optim_wrapper.paramwise_cfg.dcn_offset_lr_mult) or the base '
                'rate, or clip the gradient.'
            )

    def after_train(self, runner: Runner) -> None:
        """Remove the forward hooks."""
        for handle in self._handles:
            handle.remove()

    @torch.no_grad()
    def _record(
        self, name: str, module: nn.Module, _: nn.Module, inputs: tuple, output: Tensor
    ) -> None:
        """Add the statistics of one layer's output, (B, 2N or 3N, H, W), to the record."""
        if self._scalars is None or not output.numel():
            return
        if getattr(module, 'modulated', False):
            output = output[:, : output.shape[1] * 2 // 3]  # without the masks
        side = max(output.shape[-2:])
        output = bound_offsets(output.float(), getattr(module, 'max_offset', None))
        # The two channels of a point are y and x, or x and y: the length is the same.
        lengths = output.unflatten(1, (-1, 2)).norm(dim=2)  # (B, N, H, W)
        if hasattr(module, 'gamma'):
            # From shares of the RoI size to bins.
            lengths = lengths * module.gamma * module.output_size[0]
        if hasattr(module, 'codec'):
            # The keypoint head's offsets count in heatmap pixels, whatever the layer's size.
            side = module.codec.heatmap_size
        # synchronizes with a GPU: only in iterations that are logged
        mean, longest = lengths.mean().item(), lengths.max().item()
        self._scalars.update({f'offsets/{name}/mean': mean, f'offsets/{name}/max': longest})
        if longest > side:
            self._outside.append(f'{name} (maximum {longest:.1f} cells, map {side})')
