"""Anchors as torchvision generates them."""

import torch
from mmdet.models.task_modules.prior_generators import AnchorGenerator
from mmdet.registry import TASK_UTILS
from torch import Tensor


@TASK_UTILS.register_module()
class TorchvisionAnchorGenerator(AnchorGenerator):
    """Anchor generator that agrees with torchvision's ``AnchorGenerator``.

    The corners of the anchors are rounded to whole pixels. The step between anchors is the size of
    the image divided by that of the feature map, rounded down: where the size of a map is odd, the
    next level's is rounded up, and the step there is less than the level's stride.

    Arguments as in mmdet's ``AnchorGenerator``; ``strides`` begins with the finest level, whose
    maps must divide the (padded) image exactly.
    """

    def gen_single_level_base_anchors(self, *args, **kwargs) -> Tensor:
        """Generate the anchors at the origin in image pixels, shape (A, 4)."""
        return super().gen_single_level_base_anchors(*args, **kwargs).round()

    def grid_priors(
        self,
        featmap_sizes: list[tuple[int, int]],
        dtype: torch.dtype = torch.float32,
        device: str | torch.device = 'cuda',
    ) -> list[Tensor]:
        """Generate the anchors of all levels.

        Args:
            featmap_sizes (list[tuple[int, int]]): Height and width of each level's map.
            dtype (torch.dtype): Defaults to float32.
            device (str | torch.device): Defaults to 'cuda'.

        Returns:
            list[Tensor]: Boxes xyxy in image pixels, shape (H W A, 4) each.
        """
        # Size of the image, from the finest level.
        width, height = (
            stride * size
            for stride, size in zip(self.strides[0], featmap_sizes[0][::-1], strict=True)
        )
        anchors = []
        for base, size in zip(self.base_anchors, featmap_sizes, strict=True):
            y = torch.arange(size[0], device=device) * (height // size[0])
            x = torch.arange(size[1], device=device) * (width // size[1])
            y, x = torch.meshgrid(y, x, indexing='ij')
            shifts = torch.stack([x, y, x, y], -1).reshape(-1, 1, 4)
            # (H W, 1, 4) + (A, 4)
            anchors.append((shifts + base.to(device, dtype)).reshape(-1, 4))
        return anchors
