"""Batch sampler that groups images by their aspect ratio."""

from collections.abc import Iterator

from mmdet.registry import DATA_SAMPLERS
from torch.utils.data import BatchSampler, Sampler


@DATA_SAMPLERS.register_module()
class AspectRatioGroupedBatchSampler(BatchSampler):
    """Batch tall images with tall ones and wide with wide ones, for little padding.

    The batches are those of mmdet's ``AspectRatioBatchSampler``, which loads the annotations of
    an image each time it is drawn. Here the ratio is cached, so that a resumed run skips the
    batches that it has seen in seconds.

    Args:
        sampler (Sampler): Sampler with the data set as its ``dataset``.
        batch_size (int): Number of images of a batch.
        drop_last (bool): Drop the incomplete batches at the end. Defaults to False.
    """

    def __init__(self, sampler: Sampler, batch_size: int, drop_last: bool = False) -> None:
        super().__init__(sampler, batch_size, drop_last)
        self._is_tall: dict[int, bool] = {}

    def __iter__(self) -> Iterator[list[int]]:
        groups = ([], [])  # wide, tall
        for index in self.sampler:
            if index not in self._is_tall:
                info = self.sampler.dataset.get_data_info(index)
                self._is_tall[index] = info['height'] > info['width']
            group = groups[self._is_tall[index]]
            group.append(index)
            if len(group) == self.batch_size:
                yield group[:]
                group.clear()
        if not self.drop_last:
            yield from filter(None, groups)
