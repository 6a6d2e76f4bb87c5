"""Count the images that were replaced during training, and stop at too many of them."""

from mmdet.registry import HOOKS
from mmengine.dist import all_gather_object
from mmengine.hooks import Hook
from mmengine.runner import Runner

from multitask_refine.utils.errors import ConfigError, TooManyBadImagesError

_MAX_NAMED = 1000
_MAX_NAMED_PER_INTERVAL = 100
_TOTALS = 'bad_images'


@HOOKS.register_module()
class BadImagesHook(Hook):
    """Name and count the images that the dataset replaced by others.

    All ranks sum their counts every ``interval`` iterations, so that all stop together, and
    before a :class:`PreemptionHook` stops them. The totals are part of the checkpoints.

    Args:
        max_share (float): Maximum share of replaced images among all images drawn.
            Defaults to 0.01.
        at_least (int): Number of replaced images that is tolerated whatever their share.
            Defaults to 10.
        interval (int): Iterations between two sums. Defaults to 50.

    Raises:
        TooManyBadImagesError: During training, on all ranks.
        ConfigError: If ``max_share`` is not in [0, 1].
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
        self._named: set[str] = set()
        self._reset()

    def _reset(self) -> None:
        self._bad = self._drawn = 0
        self._reasons: dict[str, str] = {}  # by path

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: dict, outputs: dict | None = None
    ) -> None:
        """Count the replaced images of the batch, and sum the counts at every interval."""
        for sample in data_batch['data_samples']:
            replaced = sample.get('replaced_images', ())
            self._drawn += 1 + len(replaced)
            self._bad += len(replaced)
            for path, reason in replaced:
                if path not in self._named and len(self._reasons) < _MAX_NAMED_PER_INTERVAL:
                    self._reasons[path] = reason
        if self.every_n_train_iters(runner, self.interval):
            bad, drawn = self._sum_over_ranks(runner)
            if bad > self.at_least and bad > self.max_share * drawn:
                raise TooManyBadImagesError(
                    f'{bad} of {drawn} images drawn could not be used '
                    f'({100 * bad / drawn:.1f} %, expected at most '
                    f'{100 * self.max_share:g} %), such as '
                    f'{", ".join(sorted(self._named)[:3])}; the log lists them with '
                    'their reasons. Check the storage, or remove the images: python '
                    'tools/dataset/check_coco.py ANNOTATIONS --images FOLDER --fix '
                    'OUT.json. To allow more: --cfg-options '
                    'default_hooks.bad_images.max_share=0.05. Then continue with '
                    '--resume.'
                )

    def before_stop(self, runner: Runner) -> None:
        """Sum the counts before a preempted run is saved."""
        self._sum_over_ranks(runner)

    def after_train(self, runner: Runner) -> None:
        """Log the totals."""
        bad, drawn = self._sum_over_ranks(runner)
        if bad:
            runner.logger.warning(
                f'{bad} of {drawn} images drawn could not be used and were '
                'replaced by others; the log lists them. '
                'tools/dataset/check_coco.py ANNOTATIONS --images FOLDER '
                'checks all images.'
            )

    def _sum_over_ranks(self, runner: Runner) -> list[int]:
        """Add the counts of all ranks to the totals and name new images in the log.

        Returns:
            list[int]: Number of images replaced and drawn since the training began.
        """
        counts = all_gather_object((self._bad, self._drawn, self._reasons))
        self._reset()
        totals = runner.message_hub.get_info(_TOTALS, [0, 0])
        totals = [total + sum(each[i] for each in counts) for i, total in enumerate(totals)]
        runner.message_hub.update_info(_TOTALS, totals)
        for rank, (_, _, reasons) in enumerate(counts):
            for path, reason in reasons.items():
                if path in self._named or len(self._named) >= _MAX_NAMED:
                    continue
                self._named.add(path)
                runner.logger.warning(f'rank {rank}: {path}: {reason}. Replaced by another image.')
                if len(self._named) == _MAX_NAMED:
                    runner.logger.warning('Further replaced images are counted, but not named.')
        return totals
