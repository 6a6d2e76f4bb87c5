"""Articulated 3D skeleton, its poses, and its projection into the image.

Body frame, meters: x to the left of the person, y up, z forward; the origin is the middle of the
hips. Image frame, pixels: x right, y down, z to the viewer.
"""

from dataclasses import dataclass

import numpy as np

KEYPOINTS = (
    'nose',
    'left_eye',
    'right_eye',
    'left_ear',
    'right_ear',
    'left_shoulder',
    'right_shoulder',
    'left_elbow',
    'right_elbow',
    'left_wrist',
    'right_wrist',
    'left_hip',
    'right_hip',
    'left_knee',
    'right_knee',
    'left_ankle',
    'right_ankle',
)

SIDES = (('left', 1.0), ('right', -1.0))

# Limits of the angles in degrees. Those of a limb hold for both sides: "out" is away from the
# body, "twist" turns inwards.
TRUNK_LIMITS = dict(
    root_pitch=(-95, 95),
    root_roll=(-95, 95),
    spine_bend=(-25, 80),
    spine_lean=(-25, 25),
    spine_twist=(-40, 40),
    head_pitch=(-35, 45),
    head_turn=(-65, 65),
    head_tilt=(-25, 25),
)
LIMB_LIMITS = dict(
    shoulder_flex=(-50, 175),
    shoulder_out=(-15, 175),
    shoulder_twist=(-30, 95),
    elbow=(0, 145),
    hip_flex=(-30, 120),
    hip_out=(-10, 60),
    hip_twist=(-40, 40),
    knee=(0, 140),
    ankle=(-45, 25),
)
# Trunk angles that change their sign in a flip.
SIDEWAYS = ('root_roll', 'spine_lean', 'spine_twist', 'head_turn', 'head_tilt')

RELAXED = dict(
    root_pitch=(0, 0),
    root_roll=(0, 0),
    spine_bend=(-4, 10),
    spine_lean=(-5, 5),
    spine_twist=(-10, 10),
    head_pitch=(-12, 18),
    head_turn=(-35, 35),
    head_tilt=(-8, 8),
    shoulder_flex=(-12, 20),
    shoulder_out=(5, 18),
    shoulder_twist=(0, 40),
    elbow=(5, 35),
    hip_flex=(-5, 8),
    hip_out=(2, 9),
    hip_twist=(-15, 5),
    knee=(0, 8),
    ankle=(-5, 5),
)

# Frequency of each family of poses, and the ranges that differ from RELAXED. A name without a
# side is drawn for each side independently.
FAMILIES = {
    'stand': (30, {}),
    'walk': (
        26,
        dict(
            left_hip_flex=(15, 35),
            right_hip_flex=(-25, -8),
            left_knee=(3, 20),
            right_knee=(8, 45),
            left_shoulder_flex=(-35, -10),
            elbow=(10, 50),
            right_shoulder_flex=(10, 35),
            right_ankle=(-30, -5),
        ),
    ),
    'run': (
        8,
        dict(
            left_hip_flex=(40, 75),
            right_hip_flex=(-28, -5),
            left_knee=(40, 90),
            right_knee=(20, 95),
            left_shoulder_flex=(-45, -20),
            elbow=(70, 110),
            right_shoulder_flex=(20, 55),
            spine_bend=(5, 20),
            root_pitch=(3, 12),
            ankle=(-35, 0),
        ),
    ),
    'cheer': (7, dict(shoulder_out=(105, 165), elbow=(0, 60), shoulder_twist=(-20, 20))),
    'wave': (
        8,
        dict(left_shoulder_out=(75, 150), left_elbow=(20, 110), left_shoulder_twist=(-30, 20)),
    ),
    'akimbo': (
        6,
        dict(
            shoulder_out=(35, 50),
            shoulder_flex=(-28, -12),
            shoulder_twist=(65, 90),
            elbow=(80, 105),
        ),
    ),
    'fold': (5, dict(shoulder_flex=(20, 40), shoulder_twist=(45, 70), elbow=(85, 110))),
    'reach': (
        6,
        dict(
            left_shoulder_flex=(55, 110),
            elbow=(5, 40),
            right_shoulder_flex=(-10, 95),
            spine_bend=(0, 25),
        ),
    ),
    'phone': (
        4,
        dict(left_shoulder_flex=(20, 45), left_elbow=(115, 140), left_shoulder_out=(15, 35)),
    ),
    'kick': (
        3,
        dict(left_hip_flex=(35, 80), left_knee=(0, 45), shoulder_out=(25, 80), right_knee=(0, 20)),
    ),
    'star': (4, dict(shoulder_out=(60, 140), hip_out=(18, 38), knee=(0, 45), ankle=(-40, -10))),
    'sit': (
        8,
        dict(
            hip_flex=(72, 95),
            knee=(65, 95),
            hip_out=(3, 15),
            shoulder_flex=(10, 45),
            elbow=(20, 80),
        ),
    ),
    'squat': (
        2,
        dict(
            hip_flex=(85, 115),
            knee=(95, 130),
            hip_out=(5, 25),
            root_pitch=(10, 25),
            shoulder_flex=(30, 80),
            ankle=(5, 25),
        ),
    ),
    'bend': (
        2,
        dict(root_pitch=(25, 50), hip_flex=(25, 50), spine_bend=(20, 45), shoulder_flex=(20, 80)),
    ),
    'lie': (2, dict(root_roll=(78, 92), hip_flex=(0, 50), knee=(0, 70), shoulder_flex=(0, 90))),
}

Pose = dict[str, float]


@dataclass(frozen=True)
class Build:
    """Proportions of a person relative to an average adult."""

    girth: float = 1.0
    shoulders: float = 1.0
    legs: float = 1.0
    head: float = 1.0


@dataclass
class Figure:
    """A posed body in body or image frame.

    Attributes:
        points: (3,) position by name.
        frames: (3, 3) left, up and forward axes of a part as columns, by its name, each one meter
            long; those of the head are scaled with it.
        spine: (S, 3) centers of the slices of the trunk, from hips to neck.
        spine_frames: (S, 3, 3) axes of the slices.
        scale: Length of a meter.
    """

    points: dict[str, np.ndarray]
    frames: dict[str, np.ndarray]
    spine: np.ndarray
    spine_frames: np.ndarray
    scale: float = 1.0

    def transform(self, matrix: np.ndarray, origin: np.ndarray, scale: float) -> 'Figure':
        """Return the figure after ``x -> matrix @ x + origin``."""
        return Figure(
            {name: matrix @ p + origin for name, p in self.points.items()},
            {name: matrix @ f for name, f in self.frames.items()},
            self.spine @ matrix.T + origin,
            matrix @ self.spine_frames,
            scale,
        )

    def keypoints(self) -> np.ndarray:
        """Return the (17, 3) keypoints in the order of COCO."""
        return np.stack([self.points[name] for name in KEYPOINTS])

    def extent(self) -> np.ndarray:
        """Return the (4,) box x0, y0, x1, y1 around all points, with a margin for the limbs."""
        points = np.stack(list(self.points.values()))[:, :2]
        margin = 0.06 * self.scale
        return np.concatenate([points.min(0) - margin, points.max(0) + margin])


def rotation(axis: str, degrees: float) -> np.ndarray:
    """Return the (3, 3) right-handed rotation about the x, y or z axis."""
    # The plane in which the axis rotates, in cyclic order: z to x about y
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    i, j = {'x': (1, 2), 'y': (2, 0), 'z': (0, 1)}[axis]
    matrix = np.eye(3)
    matrix[i, i], matrix[i, j], matrix[j, i], matrix[j, j] = c, -s, s, c
    return matrix


def random_pose(rng: np.random.Generator, family: str | None = None) -> Pose:
    """Draw the angles of a pose within their limits, in degrees."""
    if family is None:
        weights = np.array([weight for weight, _ in FAMILIES.values()], float)
        family = str(rng.choice(list(FAMILIES), p=weights / weights.sum()))
    ranges = RELAXED | FAMILIES[family][1]
    pose = {}
    for name, limits in TRUNK_LIMITS.items():
        pose[name] = _draw(rng, ranges[name], limits)
    for side, _ in SIDES:
        for name, limits in LIMB_LIMITS.items():
            key = f'{side}_{name}'
            pose[key] = _draw(rng, ranges.get(key, ranges[name]), limits)
    return mirror_pose(pose) if rng.random() < 0.5 else pose


def _draw(
    rng: np.random.Generator, span: tuple[float, float], limits: tuple[float, float]
) -> float:
    if span[0] == span[1]:
        return float(span[0])
    # Families of poses overlap a little.
    return float(np.clip(rng.uniform(*span) + rng.normal(0, 4), *limits))


def mirror_pose(pose: Pose) -> Pose:
    """Flip a pose horizontally."""
    other = {'left': 'right', 'right': 'left'}
    mirrored = {}
    for name, angle in pose.items():
        side, _, rest = name.partition('_')
        if side in other:
            mirrored[f'{other[side]}_{rest}'] = angle
        else:
            mirrored[name] = -angle if name in SIDEWAYS else angle  # of the trunk and the head
    return mirrored


def random_build(rng: np.random.Generator) -> Build:
    """Draw proportions of slim and stout adults, and of some children."""
    child = rng.random() < 0.12
    return Build(
        girth=rng.uniform(0.85, 1.3),
        shoulders=rng.uniform(0.9, 1.12),
        legs=rng.uniform(0.92, 1.06) * (0.88 if child else 1),
        head=rng.uniform(0.95, 1.1) * (1.3 if child else 1),
    )


def pose_figure(pose: Pose, build: Build, slices: int = 18) -> Figure:
    """Compute the positions of a posed body in the body frame.

    Args:
        pose: Angles in degrees.
        build: Proportions.
        slices: Number of slices of the trunk.
    """
    root = rotation('z', pose['root_roll']) @ rotation('x', pose['root_pitch'])
    # The bend of the spine is distributed over its length of 0.51 m.
    spine_frames, spine, center = [], [], np.zeros(3)
    for share in np.linspace(0, 1, slices):
        frame = (
            root
            @ rotation('y', share * pose['spine_twist'])
            @ rotation('z', share * pose['spine_lean'])
            @ rotation('x', share * pose['spine_bend'])
        )
        spine.append(center)
        spine_frames.append(frame)
        center = center + frame[:, 1] * (0.51 / (slices - 1))  # along the slice's own up axis
    spine, spine_frames = np.stack(spine), np.stack(spine_frames)  # (S, 3), (S, 3, 3)

    points, frames = _place_head(pose, build, spine[-1], spine_frames[-1])
    points['neck'] = spine[-1]
    for side, sign in SIDES:
        angle = {name: pose[f'{side}_{name}'] for name in LIMB_LIMITS}
        # The shoulders sit below the neck, the hips at the first slice.
        _place_arm(points, frames, angle, build, side, sign, spine[-3], spine_frames[-3])
        _place_leg(points, frames, angle, build, side, sign, root)
    return Figure(points, frames, spine, spine_frames)


def _place_head(
    pose: Pose, build: Build, neck: np.ndarray, frame: np.ndarray
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    head = (
        frame
        @ rotation('y', pose['head_turn'])
        @ rotation('z', pose['head_tilt'])
        @ rotation('x', pose['head_pitch'])
    ) * build.head
    center = neck + frame[:, 1] * 0.06 + head @ [0, 0.13, 0.015]
    local = {
        'head': (0, 0, 0),
        'crown': (0, 0.12, 0),
        'nose': (0, -0.015, 0.115),
        'mouth': (0, -0.058, 0.087),
        'left_eye': (0.036, 0.022, 0.084),
        'left_ear': (0.085, 0, -0.005),
        'right_eye': (-0.036, 0.022, 0.084),
        'right_ear': (-0.085, 0, -0.005),
    }
    return ({name: center + head @ p for name, p in local.items()}, {'head': head})


def _place_arm(
    points: dict,
    frames: dict,
    angle: Pose,
    build: Build,
    side: str,
    sign: float,
    chest: np.ndarray,
    frame: np.ndarray,
) -> None:
    upper = (
        frame
        @ rotation('z', sign * angle['shoulder_out'])
        @ rotation('x', -angle['shoulder_flex'])
        @ rotation('y', -sign * angle['shoulder_twist'])
    )
    lower = upper @ rotation('x', -angle['elbow'])
    # A raised arm lifts the shoulder.
    lift = 0.05 * max(0, max(angle['shoulder_out'], angle['shoulder_flex']) - 60) / 110
    shoulder = chest + frame @ [sign * 0.175 * build.shoulders, lift, 0]
    points[f'{side}_shoulder'] = shoulder
    points[f'{side}_elbow'] = elbow = shoulder - upper[:, 1] * 0.29
    points[f'{side}_wrist'] = wrist = elbow - lower[:, 1] * 0.25
    points[f'{side}_hand'] = wrist - lower[:, 1] * 0.07
    frames[f'{side}_hand'] = lower


def _place_leg(
    points: dict, frames: dict, angle: Pose, build: Build, side: str, sign: float, root: np.ndarray
) -> None:
    upper = (
        root
        @ rotation('z', sign * angle['hip_out'])
        @ rotation('x', -angle['hip_flex'])
        @ rotation('y', -sign * angle['hip_twist'])
    )
    lower = upper @ rotation('x', angle['knee'])
    foot = lower @ rotation('x', -angle['ankle'])
    points[f'{side}_hip'] = hip = root @ [sign * 0.095, 0, 0]
    points[f'{side}_knee'] = knee = hip - upper[:, 1] * 0.43 * build.legs
    points[f'{side}_ankle'] = ankle = knee - lower[:, 1] * 0.42 * build.legs
    points[f'{side}_heel'] = ankle + foot @ [0, -0.045, -0.035]
    points[f'{side}_toe'] = ankle + foot @ [0, -0.06, 0.15]
    frames[f'{side}_foot'] = foot


def view_figure(
    figure: Figure, *, yaw: float, elevation: float, roll: float, scale: float
) -> Figure:
    """Project a figure orthographically, with its origin at that of the image.

    Args:
        figure: Figure in the body frame.
        yaw: Degrees; 0 faces the viewer, 90 turns the face to the right of the image.
        elevation: Degrees by which the camera looks down.
        roll: Degrees by which the camera is tilted.
        scale: Pixels per meter.

    Returns:
        Figure in the image frame.
    """
    turn = rotation('z', roll) @ rotation('x', elevation) @ rotation('y', yaw)
    matrix = scale * np.diag([1.0, -1.0, 1.0]) @ turn  # y of the body is up, of the image down
    return figure.transform(matrix, np.zeros(3), scale)
