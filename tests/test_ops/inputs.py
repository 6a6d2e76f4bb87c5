"""Random inputs of the operators."""

import torch


def random_tensor(*shape, scale=1.0):
    return (scale * torch.randn(*shape, dtype=torch.double)).requires_grad_()


def random_rois(count):
    """Boxes on three images of 80 x 80 pixels that may leave them, shape (count, 5)."""
    corners = 90 * torch.rand(count, 2, dtype=torch.double) - 10
    return torch.cat(
        [
            torch.randint(0, 3, (count, 1)).double(),
            corners,
            corners + 60 * torch.rand(count, 2, dtype=torch.double),
        ],
        1,
    )
