"""Sampler for several data sets with weights."""

from collections.abc import Iterator, Sequence

import torch
from mmdet.registry import DATA_SAMPLERS
from mmengine.dataset import ConcatDataset, InfiniteSampler

from multitask_refine.utils.errors import ConfigError

_DRAWS_PER_BLOCK = 1024


@DATA_SAMPLERS.register_module()
class MultiSourceInfiniteSampler(InfiniteSampler):
    """Sample from the data sets of a ``ConcatDataset`` by weights, infinitely.

    For each image a data set is drawn by the weights. Within a data set all images come once, in
    random order, before one repeats. Seed and weights alone determine the order, and ranks take
    turns as in MMEngine's ``InfiniteSampler``. Unlike mmdet's ``MultiSourceSampler`` it needs no
    batch size, and weights are not rounded to images of a batch.

    Args:
        dataset (ConcatDataset): The S data sets.
        weights (Sequence[float]): Relative number of images from each of the S data sets; 0
            leaves one out.
        shuffle (bool): Shuffle the images of each data set. Defaults to True.
        seed (int, optional): As in MMEngine's ``InfiniteSampler``.

    Raises:
        ConfigError: If the weights do not fit the data sets, or a data set to sample from has no
            image.
    """

    def __init__(
        self,
        dataset: ConcatDataset,
        weights: Sequence[float],
        shuffle: bool = True,
        seed: int | None = None,
    ) -> None:
        setting = 'train_dataloader.sampler.weights'
        if not isinstance(dataset, ConcatDataset):
            raise ConfigError(
                f'{setting}: expected a ConcatDataset as train_dataloader.dataset, found '
                f'{type(dataset).__name__}. Use InfiniteSampler for one data set.'
            )
        sizes = [len(each) for each in dataset.datasets]
        if len(weights) != len(sizes) or min(weights) < 0 or not any(weights):
            raise ConfigError(
                f'{setting}: expected {len(sizes)} numbers of 0 or more, not all 0, one for each '
                f'data set, found {list(weights)}. Give the relative number of images from each.'
            )
        for index, (size, weight) in enumerate(zip(sizes, weights, strict=True)):
            if weight and not size:
                raise ConfigError(
                    f'{setting}: expected images in data set {index}, which has the weight '
                    f'{weight}, found none. Check its ann_file and filter_cfg, or set the weight '
                    'to 0.'
                )
        super().__init__(dataset, shuffle, seed)
        self.weights = [float(weight) for weight in weights]

    def _infinite_indices(self) -> Iterator[int]:
        generator = torch.Generator()
        generator.manual_seed(self.seed)

        def draw_images(start: int, size: int) -> Iterator[int]:
            """Yield indices into the concatenated data set, infinitely."""
            while True:
                order = (
                    torch.randperm(size, generator=generator)
                    if self.shuffle
                    else torch.arange(size)
                )
                yield from (order + start).tolist()

        ends = self.dataset.cumulative_sizes  # where each data set ends in the concatenation
        images = [
            draw_images(start, end - start) for start, end in zip([0, *ends], ends, strict=False)
        ]
        weights = torch.tensor(self.weights, dtype=torch.float64)
        while True:
            # Indices of data sets; in blocks, because a draw of one is slow
            sources = torch.multinomial(
                weights, _DRAWS_PER_BLOCK, replacement=True, generator=generator
            )
            for source in sources.tolist():
                yield next(images[source])
