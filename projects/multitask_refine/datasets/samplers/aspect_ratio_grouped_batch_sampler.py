"""Batch sampler that groups images by their aspect ratio."""

from bisect import bisect_right
from collections.abc import Iterator, Sequence

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
        boundaries (Sequence[float], optional): Height divided by width at which one group ends
            and the next begins, in ascending order. ``[1.0]`` is Detectron2's grouping, square
            images with tall ones; torchvision has ``2 ** linspace(-1, 1, 7)``. Defaults to
            mmdet's, square images with wide ones.
    """

    def __init__(
        self,
        sampler: Sampler,
        batch_size: int,
        drop_last: bool = False,
        boundaries: Sequence[float] | None = None,
    ) -> None:
        super().__init__(sampler, batch_size, drop_last)
        self.boundaries = boundaries
        self._group_of: dict[int, int] = {}

    def __iter__(self) -> Iterator[list[int]]:
        num_groups = 2 if self.boundaries is None else len(self.boundaries) + 1
        groups: list[list[int]] = [[] for _ in range(num_groups)]
        for index in self.sampler:
            if index not in self._group_of:
                info = self.sampler.dataset.get_data_info(index)
                height, width = info['height'], info['width']
                self._group_of[index] = (
                    int(height > width)
                    if self.boundaries is None
                    else bisect_right(self.boundaries, height / width)
                )
            group = groups[self._group_of[index]]
            group.append(index)
            if len(group) == self.batch_size:
                yield group[:]
                group.clear()
        if not self.drop_last:
            yield from filter(None, groups)
