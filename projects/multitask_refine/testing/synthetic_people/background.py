"""Draw backgrounds and objects that are no people."""

import cv2
import numpy as np

from .canvas import Canvas
from .person import SKINS, Cloth, random_cloth, random_color


def texture(rng: np.random.Generator, height: int, width: int, strength: float) -> np.ndarray:
    """Draw (H, W, 1) float32 noise of several grain sizes with mean 0."""
    total = np.zeros((height, width), np.float32)
    for grain in (4, 12, 40):
        # One value for each grain; the cubic interpolation makes them smooth.
        grid = rng.normal(0, 1, (height // grain + 2, width // grain + 2))
        total += cv2.resize(
            grid.astype(np.float32), (width, height), interpolation=cv2.INTER_CUBIC
        )
    return total[..., None] * np.float32(strength / 2)


def paint_gradient(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """Paint a vertical color gradient."""
    top, bottom = random_color(rng), random_color(rng) * 0.5 + 60
    share = np.linspace(0, 1, height)[:, None, None]  # (H, 1, 1)
    plain = (1 - share) * top + share * bottom
    return np.broadcast_to(plain, (height, width, 3)).astype(np.float32)


def paint_bricks(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """Paint a brick wall."""
    tall, wide = rng.integers(5, 18), rng.integers(12, 40)
    y, x = np.arange(height)[:, None], np.arange(width)[None]
    rows = y // tall
    x = x + rows % 2 * (wide // 2)  # every other row is shifted by half a brick: (H, W)
    cols = x // wide
    tones = rng.normal(0, 12, (rows.max() + 1, cols.max() + 1, 1))
    is_mortar = (y % tall == 0) | (x % wide == 0)
    wall = random_color(rng) + tones[rows, cols]  # (H, W, 3)
    return np.where(is_mortar[..., None], random_color(rng), wall).astype(np.float32)


def paint_buildings(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """Paint buildings with windows in front of the sky."""
    image = paint_gradient(rng, height, width).copy()
    for _ in range(rng.integers(3, 9)):
        wide = int(rng.integers(width // 10, width // 3))
        left = int(rng.integers(-wide // 2, width))
        top = int(rng.integers(0, height * 2 // 3))
        wall, pane = random_color(rng), random_color(rng)
        cv2.rectangle(image, (left, top), (left + wide, height), wall.tolist(), -1)
        step = int(rng.integers(8, 20))
        for x in range(left + step // 2, left + wide - step // 2, step):
            for y in range(top + step // 2, height, step):
                cv2.rectangle(image, (x, y), (x + step // 2, y + step // 2), pane.tolist(), -1)
    return image


def paint_grass(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """Paint a lawn up to a horizon."""
    image = paint_gradient(rng, height, width).copy()
    horizon = int(rng.integers(height // 5, height * 2 // 3))
    green = np.array([60.0, 130.0, 90.0]) * rng.uniform(0.6, 1.3)
    image[horizon:] = green
    blades = rng.normal(0, 25, (height - horizon, width)).astype(np.float32)
    image[horizon:] += cv2.blur(blades, (1, 7))[..., None] * 2
    return image


def paint_bokeh(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """Paint lights out of focus."""
    image = paint_gradient(rng, height, width).copy()
    for _ in range(rng.integers(10, 50)):
        center = (int(rng.integers(width)), int(rng.integers(height)))
        cv2.circle(image, center, int(rng.integers(3, 26)), random_color(rng).tolist(), -1)
    return cv2.GaussianBlur(image, (0, 0), rng.uniform(0.6, 4))


# Range of the contrast factor of the background.
HAZE = (0.2, 0.6)
BACKGROUNDS = (paint_gradient, paint_bricks, paint_buildings, paint_grass, paint_bokeh)


def background(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """Draw an (H, W, 3) uint8 background."""
    paint = BACKGROUNDS[rng.integers(len(BACKGROUNDS))]
    image = paint(rng, height, width)
    if paint in (paint_gradient, paint_bricks, paint_bokeh) and rng.random() < 0.6:
        floor = int(rng.uniform(0.55, 0.9) * height)
        image[floor:] = random_color(rng)
    image = image + texture(rng, height, width, rng.uniform(4, 22))
    # Haze reduces the contrast of what is far.
    haze = rng.uniform(90, 190)
    image = haze + rng.uniform(*HAZE) * (image - haze)
    return np.clip(image, 0, 255).astype(np.uint8)


def draw_pole(canvas: Canvas, rng: np.random.Generator, x: float, y: float, size: float) -> None:
    """Draw a post with or without a lamp; x, y is its foot."""
    cloth, radius = random_cloth(rng, 0.8), size * rng.uniform(0.015, 0.035)
    top = np.array([x, y - size * rng.uniform(0.8, 1.3), 0])
    canvas.cone((x, y, 0), top, radius, radius, cloth, scale=size)
    if rng.random() < 0.4:
        canvas.ellipsoid(top, np.eye(3) * size, (0.07, 0.07, 0.07), Cloth(random_color(rng)))


def draw_bush(canvas: Canvas, rng: np.random.Generator, x: float, y: float, size: float) -> None:
    """Draw a bush or a tree; x, y is its foot."""
    green = np.array([50.0, 110.0, 70.0]) * rng.uniform(0.5, 1.5)
    rise = 0.0
    if rng.random() < 0.5:
        rise = size * 0.6
        canvas.cone(
            (x, y, 0),
            (x, y - rise, 0),
            size * 0.05,
            size * 0.035,
            Cloth(np.array([40.0, 70.0, 100.0])),
        )
    for _ in range(rng.integers(5, 12)):
        dx, dy = rng.normal(0, 0.16, 2) * size
        radii = rng.uniform(0.06, 0.17, 3)
        canvas.ellipsoid(
            np.array([x + dx, y - rise - abs(dy), dx * 0.1]),
            np.eye(3) * size,
            radii,
            Cloth(green * rng.uniform(0.75, 1.25)),
        )


def draw_box(canvas: Canvas, rng: np.random.Generator, x: float, y: float, size: float) -> None:
    """Draw a crate; x, y is its foot."""
    w, h = size * rng.uniform(0.12, 0.4), size * rng.uniform(0.15, 0.5)
    lean = size * rng.uniform(-0.04, 0.04)
    corners = [
        (x - w / 2, y),
        (x + w / 2, y),
        (x + w / 2 + lean, y - h),
        (x - w / 2 + lean, y - h),
    ]
    canvas.polygon(np.array(corners), random_cloth(rng), scale=size / 2)


def draw_chair(canvas: Canvas, rng: np.random.Generator, x: float, y: float, size: float) -> None:
    """Draw a chair or table; x, y is its foot."""
    cloth, seat = random_cloth(rng, 0.8), size * rng.uniform(0.22, 0.32)
    w, thick = size * rng.uniform(0.12, 0.3), size * 0.018
    for side in (-1, 1):
        canvas.cone((x + side * w, y, 0), (x + side * w, y - seat, 0), thick, thick, cloth)
    canvas.cone(
        (x - w, y - seat, 0), (x + w, y - seat, 0), 1.6 * thick, 1.6 * thick, cloth, scale=size
    )
    if rng.random() < 0.5:
        canvas.cone((x - w, y - seat, 0), (x - w, y - 2 * seat, 0), thick, thick, cloth)


def draw_ball(canvas: Canvas, rng: np.random.Generator, x: float, y: float, size: float) -> None:
    """Draw a ball, at times in a skin color; x, y is its lowest point."""
    tone = SKINS[rng.integers(len(SKINS))] if rng.random() < 0.3 else random_color(rng)
    radii = size * rng.uniform(0.05, 0.13) * rng.uniform(0.8, 1.2, 3)
    canvas.ellipsoid(np.array([x, y - radii[1], 0]), np.eye(3), radii, Cloth(tone))


def draw_rods(canvas: Canvas, rng: np.random.Generator, x: float, y: float, size: float) -> None:
    """Draw rods of the colors and widths of limbs around x, y."""
    for _ in range(rng.integers(1, 4)):
        dx, dy = rng.normal(0, 0.1, 2) * size
        start = np.array([x + dx, y + dy, 0])
        angle = rng.uniform(0, 2 * np.pi)
        length = size * rng.uniform(0.1, 0.35)
        end = start + length * np.array([np.cos(angle), np.sin(angle), 0])
        cloth = Cloth(SKINS[rng.integers(len(SKINS))]) if rng.random() < 0.5 else random_cloth(rng)
        radius = size * rng.uniform(0.02, 0.045)
        canvas.cone(start, end, radius, radius * rng.uniform(0.6, 1), cloth, scale=size / 1.7)


def draw_torso(canvas: Canvas, rng: np.random.Generator, x: float, y: float, size: float) -> None:
    """Draw a shirt on a stand, a torso without limbs; x, y is its foot."""
    cloth = random_cloth(rng)
    canvas.cone(
        (x, y, 0), (x, y - 0.5 * size, 0), 0.012 * size, 0.012 * size, Cloth(random_color(rng))
    )
    canvas.cone(
        (x, y - 0.48 * size, 0),
        (x, y - 0.74 * size, 0),
        0.075 * size,
        rng.uniform(0.07, 0.1) * size,
        cloth,
        scale=size / 1.7,
    )


def draw_umbrella(
    canvas: Canvas, rng: np.random.Generator, x: float, y: float, size: float
) -> None:
    """Draw a sunshade; x, y is its foot."""
    top, cloth = y - size * rng.uniform(0.9, 1.3), random_cloth(rng, 0.3)
    canvas.cone((x, y, 0), (x, top, 0), 0.014 * size, 0.014 * size, Cloth(random_color(rng)))
    canvas.polygon(
        np.array(
            [
                (x - 0.4 * size, top + 0.13 * size),
                (x, top - 0.08 * size),
                (x + 0.4 * size, top + 0.13 * size),
            ]
        ),
        cloth,
        scale=size / 1.7,
    )


OBJECTS = {
    'pole': draw_pole,
    'bush': draw_bush,
    'box': draw_box,
    'chair': draw_chair,
    'ball': draw_ball,
    'rods': draw_rods,
    'torso': draw_torso,
    'umbrella': draw_umbrella,
}


def finish(rng: np.random.Generator, image: np.ndarray) -> np.ndarray:
    """Apply blur, contrast, tint and noise of a camera to an (H, W, 3) uint8 image."""
    sigma = rng.uniform(0, 0.6)
    if sigma > 0.25:
        image = cv2.GaussianBlur(image, (0, 0), sigma)
    image = image.astype(np.float32) - 128
    image = image * rng.uniform(0.7, 1.1) + 128 + rng.uniform(-20, 20)
    image *= rng.uniform(0.92, 1.08, 3).astype(np.float32)
    grain = rng.standard_normal(image.shape, np.float32)
    image += grain * np.float32(rng.uniform(1, 5))
    return np.clip(image, 0, 255).astype(np.uint8)
