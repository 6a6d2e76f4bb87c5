"""Draw images from a seed, with the same bits on every machine."""

import numpy as np


def draw_image(seed: int, height: int, width: int) -> np.ndarray:
    """Draw rectangles and discs over noise, all of them textured.

    Only the uniform numbers of ``RandomState`` are used: NumPy guarantees that stream.

    Returns:
        (H, W, 3) uint8.
    """
    random = np.random.RandomState(seed)

    def noise(grain: int) -> np.ndarray:
        """Interpolate a random grid of ``grain`` pixels bilinearly, to (H, W, 3) in [0, 1]."""
        grid = random.random_sample((height // grain + 2, width // grain + 2, 3))
        y, x = np.arange(height) / grain, np.arange(width) / grain
        top, left = y.astype(int), x.astype(int)
        y, x = (y - top)[:, None, None], (x - left)[None, :, None]
        rows = grid[top] * (1 - y) + grid[top + 1] * y  # (H, grid columns, 3)
        return rows[:, left] * (1 - x) + rows[:, left + 1] * x

    image = 60 + 130 * noise(48)
    y, x = np.arange(height)[:, None], np.arange(width)[None]
    for i in range(24):
        center_y, center_x = random.randint(height), random.randint(width)
        shape_height, shape_width = random.randint(10, height // 2, 2)
        if i % 2:
            radius = min(shape_height, shape_width) / 2
            inside = (y - center_y) ** 2 + (x - center_x) ** 2 < radius**2
        else:
            inside = (abs(y - center_y) * 2 < shape_height) & (abs(x - center_x) * 2 < shape_width)
        image[inside] = random.randint(0, 256, 3)
    image += 50 * (noise(3) - 0.5)
    return image.clip(0, 255).astype(np.uint8)
