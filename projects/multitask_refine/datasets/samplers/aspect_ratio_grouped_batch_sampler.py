"""Batches of images of like shape."""

from typing import Dict, Iterator, List

from mmdet.registry import DATA_SAMPLERS
from torch.utils.data import BatchSampler, Sampler


@DATA_SAMPLERS.register_module()
class AspectRatioGroupedBatchSampler(BatchSampler):
    """Group tall and wide images, so that batches need little padding.

    The batches are those of mmdet's ``AspectRatioBatchSampler``, which reads
    all annotations of an image each time that it comes up. Here it is done
    once an image, so that a resumed run finds its place in the order of the
    images in seconds.

    Args:
        sampler (Sampler): Has the data set as ``dataset``.
        batch_size (int): Images in a batch.
        drop_last (bool): Leave out what does not fill a batch at the end of
            the sampler. Defaults to False.
    """

    def __init__(self, sampler: Sampler, batch_size: int, drop_last: bool = False) -> None:
        super().__init__(sampler, batch_size, drop_last)
        self._tall: Dict[int, bool] = {}

    def __iter__(self) -> Iterator[List[int]]:
        groups = ([], [])
        for index in self.sampler:
            group = groups[self._is_tall(index)]
            group.append(index)
            if len(group) == self.batch_size:
                yield group[:]
                group.clear()
        if not self.drop_last:
            yield from filter(None, groups)

    def _is_tall(self, index: int) -> bool:
        if index not in self._tall:
            info = self.sampler.dataset.get_data_info(index)
            self._tall[index] = info['height'] > info['width']
        return self._tall[index]
