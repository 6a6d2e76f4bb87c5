"""Load a part of the weights that a training starts from."""

from collections.abc import Sequence

from mmdet.registry import HOOKS
from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.runner import BaseLoop, Runner

from multitask_refine.utils.errors import ConfigError


@HOOKS.register_module()
class PartialLoadHook(Hook):
    """Skip modules of ``load_from``.

    They start as initialized, and may have another architecture than those of the checkpoint.
    Resuming and testing are not affected.

    Args:
        skip (Sequence[str]): Names of the modules, such as ``['neck', 'rpn_head.rpn_cls']``.

    Raises:
        ConfigError: If the checkpoint has no weights of a module.
    """

    # Before ConsistencyHook compares.
    priority = 'HIGHEST'

    def __init__(self, skip: Sequence[str]) -> None:
        self.skip = [skip] if isinstance(skip, str) else list(skip)

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Replace the weights in the loaded checkpoint by those of the model."""
        if not isinstance(runner._train_loop, BaseLoop) or runner._resume:
            return
        weights = checkpoint.get('state_dict', checkpoint)
        model = runner.model.module if is_model_wrapper(runner.model) else runner.model
        initial = model.state_dict()
        for module in self.skip:
            skipped = [name for name in weights if name.startswith(f'{module}.')]
            if not skipped:
                depth = module.count('.') + 1
                modules = sorted({'.'.join(name.split('.')[:depth]) for name in weights})
                raise ConfigError(
                    'PartialLoadHook.skip: expected names of modules of the checkpoint, found '
                    f'{module!r}; the checkpoint has {", ".join(modules)}. Correct the name.'
                )
            for name in skipped:
                del weights[name]
            weights |= {name: initial[name] for name in initial if name.startswith(f'{module}.')}
        runner.logger.info(f'Newly initialized: {", ".join(self.skip)}')
