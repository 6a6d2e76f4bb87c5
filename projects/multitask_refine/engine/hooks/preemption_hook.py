"""Stop at a scheduler's signal so that the run can be resumed."""

import os
import signal
import threading
from pathlib import Path
from types import FrameType
from typing import Optional

import torch
from mmdet.registry import HOOKS
from mmengine.dist import get_world_size
from mmengine.hooks import CheckpointHook, Hook
from mmengine.runner import Runner
from torch import distributed

from .checkpoint_hook import is_whole_step

EX_TEMPFAIL = 75  # EX_TEMPFAIL of sysexits.h
SIGNALS = (signal.SIGTERM, signal.SIGUSR1)
# tools/launch.sh names a file here, because torchrun and srun may end with
# another status than their processes: what is stopped writes into it.
STATUS_FILE = 'MULTITASK_STATUS_FILE'


@HOOKS.register_module()
class PreemptionHook(Hook):
    """Save a checkpoint and end with status 75 after SIGTERM or SIGUSR1.

    The signal only sets a flag; the iteration is finished, and if gradients
    are accumulated, those until the optimizer's step. A single process
    looks at the flag after each iteration, of training and of validation.
    Several look together, every ``interval`` iterations of training, over
    the CPU so that no GPU is waited for: it is enough that one of them got
    the signal. Further signals change nothing. Before the training begins and
    after its end, and in one without a checkpoint hook, a signal does what
    it always does.

    Args:
        interval (int): How many iterations apart several ranks agree.
            Defaults to 10.
    """

    # After all other hooks, the one that writes checkpoints included.
    priority = 'LOWEST'

    def __init__(self, interval: int = 10) -> None:
        self.interval = interval
        self._signal: Optional[int] = None
        self._agreed = False
        self._former: dict = {}
        self._group = None

    def before_train(self, runner: Runner) -> None:
        self._checkpoints = next(
            (hook for hook in runner.hooks if isinstance(hook, CheckpointHook)), None
        )
        if self._checkpoints is None:
            runner.logger.warning(
                'default_hooks.checkpoint is None: no checkpoint is written, '
                'neither in the training nor at a signal, which ends it as it '
                'ends any process.'
            )
            return
        if get_world_size() > 1:
            self._group = distributed.new_group(backend='gloo')
        if threading.current_thread() is threading.main_thread():
            self._former = {sign: signal.signal(sign, self._note) for sign in SIGNALS}
            os.register_at_fork(after_in_child=self._let_go)

    def after_train(self, runner: Runner) -> None:
        for sign, handler in self._former.items():
            signal.signal(sign, handler)

    def after_train_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: Optional[dict] = None,
        outputs: Optional[dict] = None,
    ) -> None:
        done = runner.iter + 1
        if self._group is None or done % self.interval == 0:
            self._agreed = self._agree()
        if self._agreed and done < runner.max_iters and is_whole_step(runner, done):
            self._stop(runner, done)

    def after_val_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: Optional[dict] = None,
        outputs: Optional[list] = None,
    ) -> None:
        # Ranks may have different numbers of batches: they wait for the end.
        if self._group is None and self._signal and is_whole_step(runner, runner.iter):
            self._stop(runner, runner.iter)

    def _note(self, sign: int, frame: Optional[FrameType]) -> None:
        self._signal = sign

    def _let_go(self) -> None:
        """In a loader worker: it must end when its parent says so, and a
        signal to the whole process group must not take away the batches
        that the parent still needs."""
        if signal.getsignal(signal.SIGTERM) == self._note:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            signal.signal(signal.SIGUSR1, signal.SIG_IGN)

    def _agree(self) -> bool:
        if self._group is None:
            return self._signal is not None
        found = torch.tensor(self._signal or 0)
        distributed.all_reduce(found, distributed.ReduceOp.MAX, self._group)
        if found:  # else a signal may have come in the meantime
            self._signal = int(found)
        return bool(found)

    def _stop(self, runner: Runner, done: int) -> None:
        runner.call_hook('before_stop')  # on all ranks, for what they count
        path = _save(self._checkpoints, runner, done)
        name = signal.Signals(self._signal).name
        runner.logger.warning(
            f'Stopped by {name} after {done} iterations. {path} is written; '
            'go on by the same command with --resume. The exit status is '
            f'{EX_TEMPFAIL}.'
        )
        if self._group is not None:
            # A launcher kills the rest when the first process has ended.
            distributed.barrier(self._group)
        if STATUS_FILE in os.environ:
            with open(os.environ[STATUS_FILE], 'a') as file:
                file.write('stopped\n')
        raise SystemExit(EX_TEMPFAIL)


def _save(hook: CheckpointHook, runner: Runner, done: int) -> str:
    """Save the state after an iteration, unless it is saved; its path."""
    name = hook.filename_tmpl.format(done)
    if not hook.last_ckpt or Path(hook.last_ckpt).name != name:
        hook._save_checkpoint_with_step(runner, done, dict(epoch=runner.epoch, iter=done))
    return hook.last_ckpt
