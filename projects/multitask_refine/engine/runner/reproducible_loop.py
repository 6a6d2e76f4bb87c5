"""Training that goes on after a stop as if there had been none.

Nothing random is carried from one iteration to the next, so there is no
random state to save. The seed alone gives the order of the images. Each image
drawn has a running number, and seed and number give the randomness of its
augmentation, whatever process loads it. Seed, iteration and rank give the
randomness inside the network.
"""

import itertools
import random
from collections import deque
from typing import Iterator, List, Optional, Tuple, Union

import numpy as np
import torch
from mmdet.registry import LOOPS
from mmengine.dist import broadcast_object_list, get_dist_info, get_rank, get_world_size
from mmengine.runner import IterBasedTrainLoop, Runner
from torch.utils.data import BatchSampler, DataLoader, Dataset

from multitask_refine.models.losses.finite import NonFiniteLossError
from multitask_refine.utils.errors import ConfigError

from .non_finite import explain_non_finite
from .worker_restart import RestartedBatches

_IMAGE, _STEP = 0, 1  # two families of random numbers
_KEPT = (
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
    """Start the random numbers of Python, NumPy and PyTorch anew.

    Args:
        key (int): Numbers of 0 or more; another key, other random numbers.
    """
    words = np.random.SeedSequence(key).generate_state(3, np.uint64)
    random.seed(int(words[0]))
    np.random.seed(words[1:2].view(np.uint32))
    torch.manual_seed(int(words[2]))


class _SeededDataset(Dataset):
    """A data set whose items are drawn by (index, running number)."""

    def __init__(self, dataset: Dataset) -> None:
        self.dataset = dataset
        self.seed = 0

    @property
    def metainfo(self) -> dict:
        return self.dataset.metainfo

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, visit: Tuple[int, int]) -> dict:
        index, number = visit
        seed_everything(self.seed, _IMAGE, number)
        return self.dataset[index]


class ResumableBatchSampler:
    """Batches without end of (index, running number), from ``start`` on.

    The batches before are gone through by their indices alone. A sampler
    need not start anew for a second loader: that one gets once more what the
    first has drawn and not delivered.
    """

    def __init__(self, batches: BatchSampler) -> None:
        self.batches = batches
        self.sampler = batches.sampler
        self.start = 0
        self._to_come: Optional[Iterator] = None
        self._undelivered: deque = deque()

    def __iter__(self) -> Iterator[List[Tuple[int, int]]]:
        if self._to_come is None:
            self._to_come = self._from_start()
        yield from tuple(self._undelivered)
        for visits in self._to_come:
            self._undelivered.append(visits)
            yield visits

    def delivered(self) -> None:
        """The oldest batch that was drawn has been loaded."""
        self._undelivered.popleft()

    def _from_start(self) -> Iterator[List[Tuple[int, int]]]:
        # The ranks take turns, as they do in the samplers: N ranks draw what
        # one rank with N times the batch draws, under the same numbers.
        numbers = itertools.count(*get_dist_info())
        visits = ([(index, next(numbers)) for index in batch] for batch in self._without_end())
        return itertools.islice(visits, self.start, None)

    def __len__(self) -> int:
        return len(self.batches)

    def _without_end(self) -> Iterator[List[int]]:
        for epoch in itertools.count():
            if hasattr(self.sampler, 'set_epoch'):
                self.sampler.set_epoch(epoch)
            batch = None
            for batch in self.batches:
                yield batch
            if batch is None:
                raise ConfigError(
                    'train_dataloader: expected as many images as fill a '
                    f'batch of {self.batches.batch_size}, or drop_last=False, '
                    f'found {len(self.sampler)} images a process and '
                    'drop_last=True. Take a smaller batch_size, or '
                    'drop_last=False, also of batch_sampler.'
                )


class ReproducibleLoader(DataLoader):
    """The batches of a loader, without end, from any iteration on.

    Args:
        loader (DataLoader): Must not have been iterated over.

    Raises:
        ConfigError: If there is nothing to load, or, with the first batch,
            if the images do not fill one and ``drop_last`` leaves them out.
    """

    def __init__(self, loader: DataLoader) -> None:
        if len(loader.dataset) == 0:
            raise ConfigError(
                'train_dataloader.dataset: expected at least one image, found '
                'none. See whether its ann_file has annotations of its '
                'classes, and what its filter_cfg leaves of them.'
            )
        super().__init__(
            _SeededDataset(loader.dataset),
            batch_sampler=ResumableBatchSampler(loader.batch_sampler),
            **{name: getattr(loader, name) for name in _KEPT},
        )

    def __iter__(self) -> Iterator:
        # As a generator it starts its workers with the first batch, when it
        # is known where to start.
        for batch in RestartedBatches(self._start, self.batch_sampler.start):
            self.batch_sampler.delivered()
            yield batch

    def _start(self) -> Iterator:
        self._iterator = None  # of persistent workers, one of which is dead
        return super().__iter__()

    def start_at(self, iteration: int, seed: int) -> None:
        """Say where to start. Call it before the first batch.

        Args:
            iteration (int): How many batches to leave out.
            seed (int): The same on all ranks.
        """
        self.batch_sampler.start = iteration
        self.batch_sampler.sampler.seed = seed
        self.dataset.seed = seed

    def describe(self) -> str:
        """What the order of the images depends on beside the seed."""
        batch = self.batch_sampler.batches.batch_size
        weights = getattr(self.batch_sampler.sampler, 'weights', None)
        return f'{get_world_size()} x {batch} images a step out of {len(self.dataset)}' + (
            f' with the weights {weights}' if weights else ''
        )


@LOOPS.register_module()
class ReproducibleTrainLoop(IterBasedTrainLoop):
    """MMEngine's loop over iterations, resumed exactly and at once.

    A resumed run sees the same images with the same augmentation and ends
    with the same weights as one that was never stopped, with any number of
    loader workers. No image is read to get there. A loader worker that is
    killed is replaced. A loss that is not finite ends the training, after
    what repeats the step has been saved.

    Args:
        runner (Runner): The runner.
        dataloader (DataLoader or dict): Any sampler will do whose order
            depends on its ``seed`` and epoch only.
        kwargs: As in MMEngine's ``IterBasedTrainLoop``.
    """

    def __init__(self, runner: Runner, dataloader: Union[DataLoader, dict], **kwargs) -> None:
        loader = runner.build_dataloader(dataloader, seed=runner.seed)
        super().__init__(runner, ReproducibleLoader(loader), **kwargs)

    def run(self) -> torch.nn.Module:
        """Train, from where a checkpoint left off if one was resumed."""
        # Only now is the seed known: a checkpoint brings its own.
        seeds = [self.runner.seed]
        broadcast_object_list(seeds)
        self._seed = seeds[0]
        self._compare_order()
        self.dataloader.start_at(self._iter, self._seed)
        # The base class throws away as many batches as were trained on: they
        # need not be loaded.
        self.dataloader_iterator = itertools.chain(
            itertools.repeat(None, self._iter), self.dataloader
        )
        return super().run()

    def run_iter(self, data_batch: dict) -> None:
        """One step, with random numbers of its own."""
        seed_everything(self._seed, _STEP, self._iter, get_rank())
        try:
            super().run_iter(data_batch)
        except NonFiniteLossError as error:
            raise explain_non_finite(self.runner, error, data_batch, self._seed) from None

    def _compare_order(self) -> None:
        hub, now = self.runner.message_hub, self.dataloader.describe()
        before = hub.get_info('order_of_images', 'another training loop')
        if self._iter > 0 and before != now:
            self.runner.logger.warning(
                f'The checkpoint was trained with {before}, and this run goes '
                f'on with {now}. Iteration and learning rate are kept, but '
                'the images come in another order: the result will not be '
                'that of an unbroken run.'
            )
        hub.update_info('order_of_images', now)
