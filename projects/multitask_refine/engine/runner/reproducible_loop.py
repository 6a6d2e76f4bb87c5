"""Training loop that resumes as if it had not been interrupted.

No random state is carried from one iteration to the next, so none has to be saved. The seed
determines the order of the images. Each image drawn has a running number; seed and number
determine its augmentation, whatever process loads it. Seed, iteration and rank determine the
randomness inside the model.
"""

import itertools
import random
from collections import deque
from collections.abc import Iterator

import numpy as np
import torch
from mmdet.registry import LOOPS
from mmengine.dist import broadcast_object_list, get_dist_info, get_rank, get_world_size
from mmengine.runner import IterBasedTrainLoop, Runner
from torch.utils.data import BatchSampler, DataLoader, Dataset

from multitask_refine.models.losses.finite import NonFiniteLossError
from multitask_refine.utils.errors import ConfigError

from .non_finite import dump_non_finite_step
from .worker_restart import RestartingIterator

_IMAGE, _STEP = 0, 1  # keep the random numbers of images and steps apart
_LOADER_ARGS = (
    'num_workers',
    'collate_fn',
    'pin_memory',
    'timeout',
    'worker_init_fn',
    'multiprocessing_context',
    'prefetch_factor',
    'persistent_workers',
)


def seed_everything(*key: int) -> None:
    """Seed the random number generators of Python, NumPy and PyTorch.

    Args:
        key (int): Non-negative numbers that determine the seeds.
    """
    words = np.random.SeedSequence(key).generate_state(3, np.uint64)
    random.seed(int(words[0]))
    np.random.seed(words[1:2].view(np.uint32))  # 64 bits, as an array of two 32-bit words
    torch.manual_seed(int(words[2]))  # of all devices


class _SeededDataset(Dataset):
    """Dataset that is indexed by (index, running number)."""

    def __init__(self, dataset: Dataset) -> None:
        self.dataset = dataset
        self.seed = 0

    @property
    def metainfo(self) -> dict:
        return self.dataset.metainfo

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, draw: tuple[int, int]) -> dict:
        index, number = draw
        seed_everything(self.seed, _IMAGE, number)
        return self.dataset[index]


class ResumableBatchSampler:
    """Infinite batches of (index, running number), starting at any batch.

    Earlier batches are skipped by drawing their indices alone. When the workers are restarted,
    the batches that were drawn and not delivered are drawn again; the sampler itself continues.

    Args:
        batches (BatchSampler): Batches of one epoch.
    """

    def __init__(self, batches: BatchSampler) -> None:
        self.batches = batches
        self.sampler = batches.sampler
        self.start = 0
        self._draws: Iterator | None = None
        self._undelivered: deque = deque()

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        if self._draws is None:
            # Ranks take turns with the numbers, as they do in samplers: N ranks draw what one
            # rank with N times the batch size draws, under the same numbers.
            numbers = itertools.count(*get_dist_info())
            # lazily
            draws = ([(index, next(numbers)) for index in batch] for batch in self._repeat())
            self._draws = itertools.islice(draws, self.start, None)
        # A copy: delivering a batch removes it from the queue.
        yield from tuple(self._undelivered)
        for batch in self._draws:
            self._undelivered.append(batch)
            yield batch

    def mark_delivered(self) -> None:
        """Forget the oldest batch that was drawn."""
        self._undelivered.popleft()

    def _repeat(self) -> Iterator[list[int]]:
        for epoch in itertools.count():
            # MMEngine's DefaultSampler shuffles by seed and epoch; InfiniteSampler never ends.
            if hasattr(self.sampler, 'set_epoch'):
                self.sampler.set_epoch(epoch)
            batch = None
            for batch in self.batches:
                yield batch
            if batch is None:
                raise ConfigError(
                    'train_dataloader: expected as many images as fill a '
                    f'batch of {self.batches.batch_size}, or drop_last=False, '
                    f'found {len(self.sampler)} images per process and '
                    'drop_last=True. Use a smaller batch_size, or '
                    'drop_last=False, also for batch_sampler.'
                )


class ReproducibleLoader(DataLoader):
    """Infinite data loader that starts at any iteration.

    Args:
        loader (DataLoader): Must not have been iterated over.

    Raises:
        ConfigError: If the dataset is empty; at the first batch, if the images do not fill a
            batch and ``drop_last`` drops them.
    """

    def __init__(self, loader: DataLoader) -> None:
        if len(loader.dataset) == 0:
            raise ConfigError(
                'train_dataloader.dataset: expected at least one image, found '
                'none. Check whether its ann_file has annotations of its '
                'classes, and what its filter_cfg leaves of them.'
            )
        super().__init__(
            _SeededDataset(loader.dataset),
            batch_sampler=ResumableBatchSampler(loader.batch_sampler),
            **{name: getattr(loader, name) for name in _LOADER_ARGS},
        )

    def start_at(self, iteration: int, seed: int) -> None:
        """Set the first batch; to be called before iterating.

        Args:
            iteration (int): Number of batches to skip.
            seed (int): Seed, the same on all ranks.
        """
        self.batch_sampler.start = iteration
        self.batch_sampler.sampler.seed = seed
        self.dataset.seed = seed

    def __iter__(self) -> Iterator:
        def start() -> Iterator:
            # DataLoader would reuse it.
            self._iterator = None  # of persistent workers, one of which is dead
            return super(ReproducibleLoader, self).__iter__()

        # A generator starts its workers with the first batch, after start_at().
        for batch in RestartingIterator(start, self.batch_sampler.start):
            self.batch_sampler.mark_delivered()
            yield batch

    def describe(self) -> str:
        """Describe what determines the order of the images besides the seed."""
        batch = self.batch_sampler.batches.batch_size
        weights = getattr(self.batch_sampler.sampler, 'weights', None)
        # Checkpoints hold this text: another wording would look like another order.
        return f'{get_world_size()} x {batch} images a step out of {len(self.dataset)}' + (
            f' with the weights {weights}' if weights else ''
        )


@LOOPS.register_module()
class ReproducibleTrainLoop(IterBasedTrainLoop):
    """Iteration-based training loop with bit-exact resume.

    A resumed run sees the same images with the same augmentation and ends with the same weights
    as an uninterrupted one, with any number of loader workers, and without loading the images
    before. A loader worker that is killed is replaced. A loss that is not finite ends the
    training after the state before the step was saved.

    Args:
        runner (Runner): The runner.
        dataloader (DataLoader or dict): The order of its sampler must depend on ``seed`` and
            epoch only.
        kwargs: As in MMEngine's ``IterBasedTrainLoop``.
    """

    def __init__(self, runner: Runner, dataloader: DataLoader | dict, **kwargs) -> None:
        loader = runner.build_dataloader(dataloader, seed=runner.seed)
        super().__init__(runner, ReproducibleLoader(loader), **kwargs)

    def run(self) -> torch.nn.Module:
        """Train, from the iteration of the checkpoint if one was resumed.

        Returns:
            nn.Module: The trained model.
        """
        # The seed is known only now: a checkpoint brings its own.
        seeds = [self.runner.seed]
        broadcast_object_list(seeds)
        self._seed = seeds[0]
        hub, order = self.runner.message_hub, self.dataloader.describe()
        former = hub.get_info('order_of_images', 'another training loop')
        if self._iter > 0 and former != order:
            self.runner.logger.warning(
                f'The checkpoint was trained with {former}, and this run '
                f'continues with {order}. Iteration and learning rate are kept, but '
                'the images come in another order: the result will not be '
                'that of an uninterrupted run.'
            )
        hub.update_info('order_of_images', order)
        self.dataloader.start_at(self._iter, self._seed)
        # The base class discards as many batches as were trained on; they are not loaded.
        self.dataloader_iterator = itertools.chain(
            itertools.repeat(None, self._iter), self.dataloader
        )
        return super().run()

    def run_iter(self, data_batch: dict) -> None:
        """Run one training step with its own random numbers.

        Args:
            data_batch (dict): The batch.

        Raises:
            NonFiniteTrainingError: If the loss is not finite.
        """
        # Ranks differ, or all of them would sample the same RoIs of their images.
        seed_everything(self._seed, _STEP, self._iter, get_rank())
        try:
            super().run_iter(data_batch)
        except NonFiniteLossError as error:
            raise dump_non_finite_step(self.runner, error, data_batch, self._seed) from None
