"""Images that had to be replaced in training: named, counted, and too many of
them an error."""

from typing import Dict, List, Sequence, Tuple

from mmdet.registry import HOOKS
from mmengine.dist import all_gather_object
from mmengine.hooks import Hook
from mmengine.logging import MMLogger
from mmengine.runner import Runner

from multitask_refine.utils.errors import ConfigError, ExplainedError

_MOST_NAMED = 1000
_MOST_A_ROUND = 100
_KEY = 'bad_images'


class TooManyBadImagesError(ExplainedError, RuntimeError):
    """More images than allowed cannot be read."""


@HOOKS.register_module()
class BadImagesHook(Hook):
    """Name and count the images that the data set replaced by others.

    All ranks add up what they saw every ``interval`` iterations, so that all
    stop together, and before a :class:`PreemptionHook` stops them. The totals
    are in the checkpoints and go on when a run is resumed.

    Args:
        max_share (float): The most that may be replaced of all images drawn.
            Defaults to 0.01.
        at_least (int): Up to so many are replaced whatever their share.
            Defaults to 10.
        interval (int): Iterations from one sum to the next. Defaults to 50.

    Raises:
        TooManyBadImagesError: In the training, on all ranks.
        ConfigError: If ``max_share`` is no share.
    """

    def __init__(self, max_share: float = 0.01, at_least: int = 10, interval: int = 50) -> None:
        if not 0 <= max_share <= 1:
            raise ConfigError(
                'default_hooks.bad_images.max_share: expected a '
                f'share from 0 to 1, found {max_share}'
            )
        self.max_share = max_share
        self.at_least = at_least
        self.interval = interval
        self._named = set()
        self._start_round()

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: dict, outputs: dict = None
    ) -> None:
        for sample in data_batch['data_samples']:
            replaced = sample.get('replaced_images', ())
            self._drawn += 1 + len(replaced)
            self._bad += len(replaced)
            self._remember(replaced)
        if self.every_n_train_iters(runner, self.interval):
            bad, drawn = self._add_up(runner)
            if bad > self.at_least and bad > self.max_share * drawn:
                raise TooManyBadImagesError(self._explain(bad, drawn))

    def before_stop(self, runner: Runner) -> None:
        self._add_up(runner)

    def after_train(self, runner: Runner) -> None:
        bad, drawn = self._add_up(runner)
        if bad:
            runner.logger.warning(
                f'{bad} of {drawn} images drawn could not be used and were '
                'replaced by others; the log names them. '
                'tools/dataset/check_coco.py ANNOTATIONS --images FOLDER '
                'looks at all images.'
            )

    def _start_round(self) -> None:
        self._bad = self._drawn = 0
        self._fresh: Dict[str, str] = {}

    def _remember(self, replaced: Sequence[Tuple[str, str]]) -> None:
        """Keep what is to be named; no more than there is room for."""
        for path, reason in replaced:
            if path not in self._named and len(self._fresh) < _MOST_A_ROUND:
                self._fresh[path] = reason

    def _add_up(self, runner: Runner) -> List[int]:
        """Images replaced and drawn so far, by all ranks."""
        rounds = all_gather_object((self._bad, self._drawn, self._fresh))
        self._start_round()
        totals = runner.message_hub.get_info(_KEY, [0, 0])
        totals = [
            before + sum(each[part] for each in rounds) for part, before in enumerate(totals)
        ]
        runner.message_hub.update_info(_KEY, totals)
        for rank, (_, _, fresh) in enumerate(rounds):
            self._name(rank, fresh)
        return totals

    def _name(self, rank: int, fresh: Dict[str, str]) -> None:
        log = MMLogger.get_current_instance()
        for path, reason in fresh.items():
            if path in self._named or len(self._named) >= _MOST_NAMED:
                continue
            self._named.add(path)
            log.warning(f'rank {rank}: {path}: {reason}. Another image was taken in its place.')
            if len(self._named) == _MOST_NAMED:
                log.warning('Further images that are replaced are counted and not named.')

    def _explain(self, bad: int, drawn: int) -> str:
        return (
            f'{bad} of {drawn} images drawn could not be used '
            f'({100 * bad / drawn:.1f} %, expected at most '
            f'{100 * self.max_share:g} %), such as '
            f'{", ".join(sorted(self._named)[:3])}; the log names them with '
            'their reasons. See to the storage, or take them out: python '
            'tools/dataset/check_coco.py ANNOTATIONS --images FOLDER --fix '
            'OUT.json. To allow more: --cfg-options '
            'default_hooks.bad_images.max_share=0.05. Then go on with '
            '--resume.'
        )
