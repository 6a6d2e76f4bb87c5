"""Draw clothes, skin and hair of a posed figure."""

from dataclasses import dataclass
from functools import partial

import numpy as np

from .canvas import Canvas
from .skeleton import KEYPOINTS, SIDES, Figure

# Part numbers in the part buffer of the canvas.
HEAD, HAIR, TRUNK, SKIRT = 1, 2, 3, 4
UPPER_ARM, LOWER_ARM, THIGH, SHIN, FOOT = ({'left': 10 + i, 'right': 20 + i} for i in range(5))

# Half width and half depth of the trunk from hips to neck in meters.
TRUNK_WIDTH = (0.150, 0.162, 0.158, 0.145, 0.138, 0.140, 0.148, 0.156, 0.162, 0.160, 0.128, 0.070)
TRUNK_DEPTH = (0.100, 0.112, 0.108, 0.100, 0.097, 0.099, 0.104, 0.108, 0.106, 0.098, 0.080, 0.058)

# Half height of the slices of trunk and skirt in meters.
SLICE = 0.08

SKINS = np.array(
    [
        (188, 205, 240),
        (160, 185, 228),
        (130, 160, 210),
        (95, 130, 185),
        (70, 100, 150),
        (48, 68, 105),
    ],
    float,
)
HAIRS = np.array(
    [(25, 25, 30), (35, 50, 75), (45, 75, 120), (90, 150, 195), (140, 140, 140), (40, 60, 150)],
    float,
)


@dataclass(frozen=True)
class Cloth:
    """A material with one or two colors.

    Attributes:
        base: (3,) BGR color.
        other: (3,) BGR color of the pattern.
        pattern: 'plain', 'stripes' (along the limb), 'hoops' (around it), 'checks' or 'dots'.
        period: Period of the pattern in meters.
    """

    base: np.ndarray
    other: np.ndarray | None = None
    pattern: str = 'plain'
    period: float = 0.1

    def __call__(self, local: np.ndarray) -> np.ndarray:
        """Return (N, 3) colors at (N, 3) positions."""
        if self.pattern == 'plain' or self.other is None:
            return np.broadcast_to(self.base, local.shape)
        across, along = (local[:, :2] / self.period % 1.0 < 0.5).T
        if self.pattern == 'dots':
            offset = local[:, :2] / self.period % 1.0 - 0.5
            is_other = (offset**2).sum(1) < 0.08
        else:
            is_other = {'stripes': across, 'hoops': along, 'checks': across ^ along}[self.pattern]
        return np.where(is_other[:, None], self.other, self.base)


@dataclass(frozen=True)
class Outfit:
    """Appearance of a person.

    Attributes:
        skin: Material of the skin.
        hair: Material of the hair.
        top: Material of the upper clothes.
        bottom: Material of trousers or skirt.
        shoes: Material of shoes and cap.
        sleeve: Number of covered bones of an arm, 0 to 2.
        leg: Number of covered bones of a leg, 0 to 2.
        skirt: Length in meters, 0 for none.
        style: 'short', 'long', 'bald' or 'cap'.
        girth: Factor of the trunk width.
        emblem: Material of a square on the chest, None for none.
    """

    skin: Cloth
    hair: Cloth
    top: Cloth
    bottom: Cloth
    shoes: Cloth
    sleeve: float
    leg: float
    skirt: float
    style: str
    girth: float
    emblem: Cloth | None


def random_color(rng: np.random.Generator) -> np.ndarray:
    """Draw a (3,) BGR color; gray and dark colors are as frequent as bright ones."""
    value = rng.uniform(25, 245)
    tint = rng.uniform(0, 1, 3)
    return value * (1 - rng.beta(1.0, 1.2) * (1 - tint / tint.max()))


def random_cloth(rng: np.random.Generator, plain: float = 0.75) -> Cloth:
    """Draw a material that is plain with the given probability."""
    if rng.random() < plain:
        return Cloth(random_color(rng))
    pattern = str(rng.choice(['stripes', 'hoops', 'checks', 'dots']))
    return Cloth(random_color(rng), random_color(rng), pattern, rng.uniform(0.05, 0.16))


def random_outfit(rng: np.random.Generator, *, girth: float = 1.0, skirts: bool = True) -> Outfit:
    """Draw the appearance of a body of the given girth."""
    top = random_cloth(rng)
    skirted = skirts and rng.random() < 0.18
    skirt = rng.uniform(0.25, 0.6) if skirted else 0.0
    bottom = top if skirt and rng.random() < 0.5 else random_cloth(rng, 0.9)
    jitter = rng.uniform(0.9, 1.08)
    return Outfit(
        skin=Cloth(SKINS[rng.integers(len(SKINS))] * jitter),
        hair=Cloth(HAIRS[rng.integers(len(HAIRS))] * jitter),
        top=top,
        bottom=bottom,
        shoes=Cloth(random_color(rng)),
        sleeve=float(rng.choice([0.0, 0.6, 1.3, 2.0], p=[0.15, 0.4, 0.1, 0.35])),
        leg=0.0 if skirt else float(rng.choice([0.6, 1.2, 2.0], p=[0.2, 0.15, 0.65])),
        skirt=skirt,
        style=str(rng.choice(['short', 'long', 'bald', 'cap'], p=[0.5, 0.28, 0.07, 0.15])),
        girth=girth,
        emblem=Cloth(random_color(rng)) if rng.random() < 0.35 else None,
    )


def draw_person(canvas: Canvas, figure: Figure, outfit: Outfit) -> np.ndarray:
    """Draw a person as the current object of the canvas.

    Args:
        canvas: Canvas.
        figure: Figure in the image frame.
        outfit: Appearance.

    Returns:
        (17,) bool, True for keypoints that the body does not occlude itself.
    """
    _draw_trunk(canvas, figure, outfit)
    _draw_head(canvas, figure, outfit)
    for side, _ in SIDES:
        _draw_arm(canvas, figure, outfit, side)
        _draw_leg(canvas, figure, outfit, side)
    if outfit.skirt:
        _draw_skirt(canvas, figure, outfit)
    return own_visibility(canvas, figure)


def _draw_trunk(canvas: Canvas, figure: Figure, outfit: Outfit) -> None:
    shares = np.linspace(0, 1, len(figure.spine))
    nodes = np.linspace(0, 1, len(TRUNK_WIDTH))
    widths = np.interp(shares, nodes, TRUNK_WIDTH) * outfit.girth
    depths = np.interp(shares, nodes, TRUNK_DEPTH) * outfit.girth
    heights = shares * np.linalg.norm(np.diff(figure.spine, axis=0), axis=1).sum() / figure.scale
    for i, height in enumerate(heights):
        canvas.ellipsoid(
            figure.spine[i],
            figure.spine_frames[i],
            (widths[i], SLICE, depths[i]),
            partial(_trunk_colors, outfit, height),
            TRUNK,
            tube=True,
        )
    neck = figure.points['neck']
    canvas.cone(
        neck,
        neck + figure.spine_frames[-1][:, 1] * 0.09,
        0.052 * figure.scale,
        0.05 * figure.scale,
        outfit.skin,
        TRUNK,
        scale=figure.scale,
    )


def _trunk_colors(outfit: Outfit, height: float, local: np.ndarray) -> np.ndarray:
    """Return the colors of the slice of the trunk at a height in meters above the hips."""
    if height < 0.07:
        return outfit.bottom(local)
    place = local + np.float32([0, height, 0])
    if outfit.emblem is None:
        return outfit.top(place)
    front = (
        (abs(local[:, 0]) < 0.07) & (local[:, 2] > 0) & (place[:, 1] > 0.27) & (place[:, 1] < 0.38)
    )
    return np.where(front[:, None], outfit.emblem(local), outfit.top(place))


def _draw_head(canvas: Canvas, figure: Figure, outfit: Outfit) -> None:
    points, frame = figure.points, figure.frames['head']
    back, line = {
        'short': (-0.2, 0.55),
        'long': (0.0, 0.5),
        'bald': (-2, 2),
        'cap': (-0.45, 0.35),
    }[outfit.style]
    cover = outfit.shoes if outfit.style == 'cap' else outfit.hair
    radii = (0.082, 0.125, 0.102)

    def material(local: np.ndarray) -> np.ndarray:
        up, forward = local[:, 1] / radii[1], local[:, 2] / radii[2]
        haired = (up > line) | ((forward < back) & (up > -0.55))
        return np.where(haired[:, None], cover(local), outfit.skin(local))

    canvas.ellipsoid(points['head'], frame, radii, material, HEAD)
    white, dark = Cloth(np.full(3, 235.0)), Cloth(np.array([30.0, 28.0, 30.0]))
    lips = Cloth(outfit.skin.base * [0.55, 0.5, 0.85])
    for side, _ in SIDES:
        eye = points[f'{side}_eye']
        canvas.ellipsoid(eye, frame, (0.021, 0.014, 0.014), white, HEAD)
        canvas.ellipsoid(eye, frame, (0.012, 0.013, 0.017), dark, HEAD)
        canvas.ellipsoid(
            eye + frame @ [0, 0.03, 0], frame, (0.024, 0.007, 0.014), outfit.hair, HEAD
        )
        canvas.ellipsoid(points[f'{side}_ear'], frame, (0.018, 0.034, 0.022), outfit.skin, HEAD)
    canvas.ellipsoid(points['mouth'], frame, (0.034, 0.012, 0.018), lips, HEAD)
    canvas.cone(
        points['nose'] + frame @ [0, 0.04, -0.02],
        points['nose'] - frame[:, 2] * 0.012,
        0.012 * figure.scale,
        0.019 * figure.scale,
        Cloth(outfit.skin.base * 0.9),
        HEAD,
    )
    if outfit.style == 'long':
        canvas.ellipsoid(
            points['head'] + frame @ [0, -0.08, -0.055],
            frame,
            (0.1, 0.17, 0.06),
            outfit.hair,
            HAIR,
        )
    if outfit.style == 'cap':
        canvas.ellipsoid(
            points['head'] + frame @ [0, 0.055, 0.1], frame, (0.07, 0.012, 0.075), cover, HAIR
        )


def _draw_arm(canvas: Canvas, figure: Figure, outfit: Outfit, side: str) -> None:
    points, scale = figure.points, figure.scale
    ends = [points[f'{side}_{name}'] for name in ('shoulder', 'elbow', 'wrist')]
    _draw_limb(
        canvas,
        ends,
        (0.052, 0.042, 0.031),
        outfit.skin,
        outfit.top,
        outfit.sleeve,
        (UPPER_ARM[side], LOWER_ARM[side]),
        scale,
        outfit.girth,
    )
    canvas.ellipsoid(
        points[f'{side}_hand'],
        figure.frames[f'{side}_hand'],
        (0.03, 0.075, 0.045),
        outfit.skin,
        LOWER_ARM[side],
    )


def _draw_leg(canvas: Canvas, figure: Figure, outfit: Outfit, side: str) -> None:
    points, scale = figure.points, figure.scale
    ends = [points[f'{side}_{name}'] for name in ('hip', 'knee', 'ankle')]
    _draw_limb(
        canvas,
        ends,
        (0.082, 0.06, 0.042),
        outfit.skin,
        outfit.bottom,
        outfit.leg,
        (THIGH[side], SHIN[side]),
        scale,
        outfit.girth,
    )
    canvas.cone(
        points[f'{side}_heel'],
        points[f'{side}_toe'],
        0.044 * scale,
        0.036 * scale,
        outfit.shoes,
        FOOT[side],
        scale=scale,
    )
    canvas.cone(
        points[f'{side}_ankle'],
        points[f'{side}_heel'],
        0.044 * scale,
        0.044 * scale,
        outfit.shoes,
        FOOT[side],
        scale=scale,
    )


def _draw_limb(
    canvas: Canvas,
    ends: list[np.ndarray],
    radii: tuple[float, float, float],
    skin: Cloth,
    cloth: Cloth,
    covered: float,
    parts: tuple[int, int],
    scale: float,
    girth: float,
) -> None:
    """Draw two bones in skin, and cloth over the first ``covered`` of them."""
    radii = np.asarray(radii) * scale * (0.5 + 0.5 * girth)
    for i, part in enumerate(parts):
        start, end = ends[i : i + 2]
        canvas.cone(start, end, radii[i], radii[i + 1], skin, part, scale=scale)
        share = np.clip(covered - i, 0, 0.97)
        if share > 0:
            # Cloth is thicker than the limb.
            thick = radii[i : i + 2] * 1.06 + 0.009 * scale
            canvas.cone(
                start,
                start + share * (end - start),
                thick[0],
                thick[0] + share * (thick[1] - thick[0]),
                cloth,
                part,
                scale=scale,
            )


def _draw_skirt(canvas: Canvas, figure: Figure, outfit: Outfit, slices: int = 14) -> None:
    points, scale = figure.points, figure.scale
    center = (points['left_hip'] + points['right_hip']) / 2
    down = (points['left_knee'] + points['right_knee']) / 2 - center
    down /= np.linalg.norm(down) + 1e-9
    left = figure.spine_frames[0][:, 0] / scale
    left = left - (left @ down) * down
    left /= np.linalg.norm(left) + 1e-9
    forward = np.cross(left, down)
    stride = (points['left_knee'] - points['right_knee']) / scale
    # Half width and half depth at the knees, wide enough for the stride.
    wide = max(0.24 * outfit.girth, 0.08 + abs(stride @ left) / 2)
    deep = max(0.18 * outfit.girth, 0.08 + abs(stride @ forward) / 2)
    frame = np.stack([left, -down, forward], 1) * scale
    for fallen in np.linspace(0, outfit.skirt, slices):
        share = fallen / 0.43
        radii = (
            0.155 * outfit.girth * (1 - share) + wide * share,
            SLICE,
            0.115 * outfit.girth * (1 - share) + deep * share,
        )
        offset = np.float32([0, -fallen, 0])
        canvas.ellipsoid(
            center + frame @ offset,
            frame,
            radii,
            lambda local, offset=offset: outfit.bottom(local + offset),
            SKIRT,
            tube=True,
        )


def _showing_parts() -> list[tuple[int, ...]]:
    """Return the parts that show each of the 17 keypoints."""
    by_name = {
        'shoulder': (UPPER_ARM,),
        'elbow': (UPPER_ARM, LOWER_ARM),
        'wrist': (LOWER_ARM,),
        'hip': (THIGH,),
        'knee': (THIGH, SHIN),
        'ankle': (SHIN, FOOT),
    }
    shared = {'shoulder': (TRUNK,), 'hip': (TRUNK, SKIRT), 'knee': (SKIRT,)}
    parts = [(HEAD,)] * 5
    for name in KEYPOINTS[5:]:
        side, kind = name.split('_')
        parts.append(tuple(part[side] for part in by_name[kind]) + shared.get(kind, ()))
    return parts


SHOWING_PARTS = _showing_parts()
# Depth in meters of each keypoint below the visible surface: those of the head lie on the skin,
# shoulders and hips deep inside.
KEYPOINT_DEPTHS = np.repeat([0.045, 0.15, 0.08, 0.075, 0.19, 0.12, 0.1], [5, 2, 2, 2, 2, 2, 2])


def own_visibility(canvas: Canvas, figure: Figure) -> np.ndarray:
    """Return (17,) bool, True for keypoints at which the current object shows the right part.

    The surface may lie in front of the keypoint by :data:`KEYPOINT_DEPTHS`.
    """
    visible = np.zeros(len(KEYPOINTS), bool)
    for k, (x, y, z) in enumerate(figure.keypoints()):
        at = canvas.sample(x, y)
        if at is None or canvas.part[at] not in SHOWING_PARTS[k]:
            continue
        visible[k] = canvas.depth[at] - z < KEYPOINT_DEPTHS[k] * figure.scale
    return visible
