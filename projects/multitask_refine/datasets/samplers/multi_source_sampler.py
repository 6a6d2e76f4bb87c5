"""Sampling from several data sets by weights."""

from typing import Iterator, List, Optional, Sequence

import torch
from mmdet.registry import DATA_SAMPLERS
from mmengine.dataset import ConcatDataset, InfiniteSampler

from multitask_refine.utils.errors import ConfigError

_BLOCK = 1024  # draws of a data set that are made at a time


@DATA_SAMPLERS.register_module()
class MultiSourceInfiniteSampler(InfiniteSampler):
    """Sample without end from the sets of a ``ConcatDataset`` by weights.

    Each image comes from a set drawn by the weights. Within a set all images
    come once, in random order, before one comes again. Seed and weights alone
    give the order, and the ranks take turns, as in MMEngine's
    ``InfiniteSampler``. Unlike mmdet's ``MultiSourceSampler`` it needs no
    batch size, and no weight is rounded to images of a batch.

    Args:
        dataset (ConcatDataset): The S sets.
        weights (Sequence[float]): Share of the images that come from each
            set, in any unit; 0 leaves a set out. Length S.
        shuffle (bool): Shuffle the images of each set. Defaults to True.
        seed (int, optional): As in MMEngine's ``InfiniteSampler``.

    Raises:
        ConfigError: If the weights are not those of the sets, or a set that
            is to be sampled has no image.
    """

    def __init__(
        self,
        dataset: ConcatDataset,
        weights: Sequence[float],
        shuffle: bool = True,
        seed: Optional[int] = None,
    ) -> None:
        setting = 'train_dataloader.sampler.weights'
        if not isinstance(dataset, ConcatDataset):
            raise ConfigError(
                f'{setting}: expected a ConcatDataset as '
                f'train_dataloader.dataset, found {type(dataset).__name__}. '
                'Use InfiniteSampler for one data set.'
            )
        sizes = [len(each) for each in dataset.datasets]
        if len(weights) != len(sizes) or min(weights) < 0 or not any(weights):
            raise ConfigError(
                f'{setting}: expected {len(sizes)} numbers of 0 or more, not '
                f'all 0, one for each data set, found {list(weights)}. Give '
                'the share of the images that come from each.'
            )
        for index, (size, weight) in enumerate(zip(sizes, weights)):
            if weight and not size:
                raise ConfigError(
                    f'{setting}: expected images in data set {index}, which '
                    f'has the weight {weight}, found none. See to its '
                    'ann_file and filter_cfg, or give it the weight 0.'
                )
        super().__init__(dataset, shuffle, seed)
        self.weights = [float(weight) for weight in weights]

    def _infinite_indices(self) -> Iterator[int]:
        generator = torch.Generator()
        generator.manual_seed(self.seed)
        images = self._draw_images(generator)
        weights = torch.tensor(self.weights, dtype=torch.float64)
        while True:
            sources = torch.multinomial(weights, _BLOCK, replacement=True, generator=generator)
            for source in sources.tolist():
                yield next(images[source])

    def _draw_images(self, generator: torch.Generator) -> List[Iterator[int]]:
        """The images of each set, without end, as indices of the whole."""

        def draw(start: int, size: int) -> Iterator[int]:
            while True:
                order = (
                    torch.randperm(size, generator=generator)
                    if self.shuffle
                    else torch.arange(size)
                )
                yield from (order + start).tolist()

        ends = self.dataset.cumulative_sizes
        return [draw(start, end - start) for start, end in zip([0, *ends], ends)]
