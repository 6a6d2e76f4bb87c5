"""Save and stop at a scheduler's signal, so that the run can be resumed."""

import os
import signal
import threading
from pathlib import Path
from types import FrameType

import torch
from mmdet.registry import HOOKS
from mmengine.dist import get_world_size
from mmengine.hooks import CheckpointHook, Hook
from mmengine.runner import Runner
from torch import distributed

from .checkpoint_hook import is_optimizer_step

EX_TEMPFAIL = 75  # of sysexits.h: try again later
SIGNALS = (signal.SIGTERM, signal.SIGUSR1)
# torchrun and srun may exit with another status than their processes. tools/launch.sh names
# a file here, into which a stopped training writes.
STATUS_FILE = 'MULTITASK_STATUS_FILE'


@HOOKS.register_module()
class PreemptionHook(Hook):
    """Save a checkpoint and exit with status 75 after SIGTERM or SIGUSR1.

    The signal handler only sets a flag. The current iteration is finished, and with
    accumulated gradients those until the next optimizer step. A single process checks the flag
    after each iteration of training and validation. Several ranks agree every ``interval``
    iterations of training, over gloo so that no GPU synchronizes; one signalled rank is
    enough. Further signals have no effect. Before and after the training, and in one without
    a checkpoint hook, signals have their default effect.

    Args:
        interval (int): Iterations between two agreements of several ranks. Defaults to 10.
    """

    # After all other hooks, including the checkpoint hook.
    priority = 'LOWEST'

    def __init__(self, interval: int = 10) -> None:
        self.interval = interval
        self._signal: int | None = None
        self._agreed = False
        self._former: dict = {}
        self._group = None

    def before_train(self, runner: Runner) -> None:
        """Install the signal handlers."""
        self._checkpoint_hook = next(
            (hook for hook in runner.hooks if isinstance(hook, CheckpointHook)), None
        )
        if self._checkpoint_hook is None:
            runner.logger.warning(
                'default_hooks.checkpoint is None: no checkpoint is written, '
                'neither during training nor at a signal, which ends the process '
                'as usual.'
            )
            return
        if get_world_size() > 1:
            self._group = distributed.new_group(backend='gloo')
        if threading.current_thread() is threading.main_thread():
            self._former = {sign: signal.signal(sign, self._set_flag) for sign in SIGNALS}
            # Forked loader workers inherit the handlers, and would only set a flag of their own.
            os.register_at_fork(after_in_child=self._reset_in_worker)

    def after_train(self, runner: Runner) -> None:
        """Restore the former signal handlers."""
        for sign, handler in self._former.items():
            signal.signal(sign, handler)

    def after_train_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: dict | None = None,
        outputs: dict | None = None,
    ) -> None:
        """Stop after an optimizer step if a signal was received."""
        done = runner.iter + 1
        if self._group is None or done % self.interval == 0:
            self._agreed = self._any_rank_signalled()  # in the same iteration on all ranks
        if self._agreed and done < runner.max_iters and is_optimizer_step(runner, done):
            self._stop(runner, done)

    def after_val_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: dict | None = None,
        outputs: list | None = None,
    ) -> None:
        """Stop a validation of a single process if a signal was received."""
        # Ranks may have different numbers of batches: they finish the validation.
        if self._group is None and self._signal and is_optimizer_step(runner, runner.iter):
            self._stop(runner, runner.iter)

    def _set_flag(self, sign: int, frame: FrameType | None) -> None:
        self._signal = sign

    def _reset_in_worker(self) -> None:
        """Let loader workers end at their parent's SIGTERM and ignore SIGUSR1.

        SIGUSR1 may go to the whole process group, but the parent still needs its batches.
        """
        if signal.getsignal(signal.SIGTERM) == self._set_flag:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            signal.signal(signal.SIGUSR1, signal.SIG_IGN)

    def _any_rank_signalled(self) -> bool:
        if self._group is None:
            return self._signal is not None
        found = torch.tensor(self._signal or 0)
        distributed.all_reduce(found, distributed.ReduceOp.MAX, self._group)  # 0: no signal
        if found:  # otherwise keep a signal that was received in the meantime
            self._signal = int(found)
        return bool(found)

    def _stop(self, runner: Runner, done: int) -> None:
        """Save the state after ``done`` iterations, unless it is saved, and exit."""
        runner.call_hook('before_stop')  # on all ranks: some hooks communicate
        hook = self._checkpoint_hook
        if not hook.last_ckpt or Path(hook.last_ckpt).name != hook.filename_tmpl.format(done):
            hook._save_checkpoint_with_step(runner, done, dict(epoch=runner.epoch, iter=done))
        runner.logger.warning(
            f'Stopped by {signal.Signals(self._signal).name} after {done} iterations. '
            f'{hook.last_ckpt} is written; continue with the same command and --resume. '
            f'The exit status is {EX_TEMPFAIL}.'
        )
        if self._group is not None:
            # A launcher kills the other ranks when the first one exits.
            distributed.barrier(self._group)
        if STATUS_FILE in os.environ:
            with open(os.environ[STATUS_FILE], 'a') as file:
                file.write('stopped\n')
        raise SystemExit(EX_TEMPFAIL)
