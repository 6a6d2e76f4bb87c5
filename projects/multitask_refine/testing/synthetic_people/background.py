"""What is not a person: grounds and walls, and things that stand about."""

import cv2
import numpy as np

from .canvas import Canvas
from .person import SKINS, Cloth, random_cloth, random_colour


def texture(rng: np.random.Generator, height: int, width: int, strength: float) -> np.ndarray:
    """(H, W, 1) float32 noise of several grain sizes about 0."""
    total = np.zeros((height, width), np.float32)
    for grain in (4, 12, 40):
        grid = rng.normal(0, 1, (height // grain + 2, width // grain + 2))
        total += cv2.resize(
            grid.astype(np.float32), (width, height), interpolation=cv2.INTER_CUBIC
        )
    return total[..., None] * np.float32(strength / 2)


def _gradient(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    top, bottom = random_colour(rng), random_colour(rng) * 0.5 + 60
    share = np.linspace(0, 1, height)[:, None, None]
    plain = (1 - share) * top + share * bottom
    return np.broadcast_to(plain, (height, width, 3)).astype(np.float32)


def _bricks(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    tall, wide = rng.integers(5, 18), rng.integers(12, 40)
    y, x = np.arange(height)[:, None], np.arange(width)[None]
    rows = y // tall
    x = x + rows % 2 * (wide // 2)
    cols = x // wide
    tones = rng.normal(0, 12, (rows.max() + 1, cols.max() + 1, 1))
    joints = (y % tall == 0) | (x % wide == 0)
    wall = random_colour(rng) + tones[rows, cols]
    return np.where(joints[..., None], random_colour(rng), wall).astype(np.float32)


def _blocks(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """Buildings with windows before a sky."""
    picture = _gradient(rng, height, width).copy()
    for _ in range(rng.integers(3, 9)):
        wide = int(rng.integers(width // 10, width // 3))
        left = int(rng.integers(-wide // 2, width))
        top = int(rng.integers(0, height * 2 // 3))
        wall, pane = random_colour(rng), random_colour(rng)
        cv2.rectangle(picture, (left, top), (left + wide, height), wall.tolist(), -1)
        step = int(rng.integers(8, 20))
        for x in range(left + step // 2, left + wide - step // 2, step):
            for y in range(top + step // 2, height, step):
                cv2.rectangle(picture, (x, y), (x + step // 2, y + step // 2), pane.tolist(), -1)
    return picture


def _grass(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    picture = _gradient(rng, height, width).copy()
    horizon = int(rng.integers(height // 5, height * 2 // 3))
    green = np.array([60.0, 130.0, 90.0]) * rng.uniform(0.6, 1.3)
    picture[horizon:] = green
    blades = rng.normal(0, 25, (height - horizon, width)).astype(np.float32)
    picture[horizon:] += cv2.blur(blades, (1, 7))[..., None] * 2
    return picture


def _rings(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """Lights and leaves out of focus."""
    picture = _gradient(rng, height, width).copy()
    for _ in range(rng.integers(10, 50)):
        centre = (int(rng.integers(width)), int(rng.integers(height)))
        cv2.circle(picture, centre, int(rng.integers(3, 26)), random_colour(rng).tolist(), -1)
    return cv2.GaussianBlur(picture, (0, 0), rng.uniform(0.6, 4))


# Shares of the background's contrast that are left.
HAZE = (0.2, 0.6)
WALLS = (_gradient, _bricks, _blocks, _grass, _rings)


def background(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """(H, W, 3) uint8 picture of a place without things in it."""
    paint = WALLS[rng.integers(len(WALLS))]
    picture = paint(rng, height, width)
    if paint in (_gradient, _bricks, _rings) and rng.random() < 0.6:
        floor = int(rng.uniform(0.55, 0.9) * height)
        picture[floor:] = random_colour(rng)
    picture = picture + texture(rng, height, width, rng.uniform(4, 22))
    # Haze: what is far keeps a part of its contrast only.
    haze = rng.uniform(90, 190)
    picture = haze + rng.uniform(*HAZE) * (picture - haze)
    return np.clip(picture, 0, 255).astype(np.uint8)


def draw_pole(canvas: Canvas, rng: np.random.Generator, x: float, y: float, size: float) -> None:
    """A post, at times with a ball on it like a lamp, y its foot."""
    cloth, radius = random_cloth(rng, 0.8), size * rng.uniform(0.015, 0.035)
    top = np.array([x, y - size * rng.uniform(0.8, 1.3), 0])
    canvas.cone((x, y, 0), top, radius, radius, cloth, scale=size)
    if rng.random() < 0.4:
        canvas.ellipsoid(top, np.eye(3) * size, (0.07, 0.07, 0.07), Cloth(random_colour(rng)))


def draw_bush(canvas: Canvas, rng: np.random.Generator, x: float, y: float, size: float) -> None:
    """A heap of leaves, or a tree where it has a trunk, y its foot."""
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
    """A crate, a sign or a wall's end, y its foot."""
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
    """A seat or table on legs, with or without a back, y its feet."""
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
    """A ball or balloon in any colour, skin tones among them."""
    tone = SKINS[rng.integers(len(SKINS))] if rng.random() < 0.3 else random_colour(rng)
    radii = size * rng.uniform(0.05, 0.13) * rng.uniform(0.8, 1.2, 3)
    canvas.ellipsoid(np.array([x, y - radii[1], 0]), np.eye(3), radii, Cloth(tone))


def draw_rods(canvas: Canvas, rng: np.random.Generator, x: float, y: float, size: float) -> None:
    """Loose rods of the colours and widths of limbs."""
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
    """A shirt on a stand: a trunk without head, arms and legs, y its foot."""
    cloth = random_cloth(rng)
    canvas.cone(
        (x, y, 0), (x, y - 0.5 * size, 0), 0.012 * size, 0.012 * size, Cloth(random_colour(rng))
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
    """A sunshade on a post, y its foot."""
    top, cloth = y - size * rng.uniform(0.9, 1.3), random_cloth(rng, 0.3)
    canvas.cone((x, y, 0), (x, top, 0), 0.014 * size, 0.014 * size, Cloth(random_colour(rng)))
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


THINGS = {
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
    """The picture as a camera takes it: blur, contrast, tint and noise.

    image: (H, W, 3) uint8. Returns the same shape and type.
    """
    sigma = rng.uniform(0, 0.6)
    if sigma > 0.25:
        image = cv2.GaussianBlur(image, (0, 0), sigma)
    taken = image.astype(np.float32) - 128
    taken = taken * rng.uniform(0.7, 1.1) + 128 + rng.uniform(-20, 20)
    taken *= rng.uniform(0.92, 1.08, 3).astype(np.float32)
    grain = rng.standard_normal(image.shape, np.float32)
    taken += grain * np.float32(rng.uniform(1, 5))
    return np.clip(taken, 0, 255).astype(np.uint8)
