"""Compose people and objects into an image with ground truth."""

from dataclasses import dataclass, field

import numpy as np

from .background import OBJECTS, background, finish
from .canvas import Canvas
from .person import Outfit, draw_person, random_outfit
from .skeleton import Figure, pose_figure, random_build, random_pose, view_figure

STANDING_METERS = 1.72
EMPTY_FRACTION, CROWD_FRACTION = 0.07, 0.05
COUNT_WEIGHTS = (0.40, 0.32, 0.16, 0.07, 0.03, 0.02)
# Heights of people in pixels of an image 256 wide, drawn log-uniformly.
HEIGHT_RANGES = ((40, 100), (100, 240), (240, 420))
HEIGHT_WEIGHTS = (0.12, 0.64, 0.24)
# A person with fewer visible pixels, or a smaller visible fraction, is left out.
MIN_PIXELS, MIN_FRACTION = 20, 0.2


@dataclass
class Person:
    """A person to draw, ``crowd`` if it belongs to the crowd of the image."""

    figure: Figure
    outfit: Outfit
    height: float
    crowd: bool = False


@dataclass
class Object:
    """An object to draw: kind, seed of its appearance, foot, and size in pixels."""

    kind: str
    seed: int
    x: float
    y: float
    size: float


@dataclass
class Scene:
    """Content of an image from far to near, and the seed of its appearance."""

    height: int
    width: int
    light: np.ndarray
    ambient: float
    seed: int
    layers: list[Person | Object] = field(default_factory=list)


@dataclass
class Instance:
    """Ground truth of a person or a crowd.

    Attributes:
        mask: (H, W) bool.
        keypoints: (17, 2) in continuous pixels, 0 where the visibility is 0.
        visibility: (17,) visibility 0, 1 or 2 of COCO.
        crowd: Whether it is a crowd.
    """

    mask: np.ndarray
    keypoints: np.ndarray
    visibility: np.ndarray
    crowd: bool = False


def random_person(rng: np.random.Generator, height: float) -> Person:
    """Draw a person of some height in pixels at the origin of the image."""
    build = random_build(rng)
    yaw = rng.choice(
        [rng.normal(0, 25), rng.normal(180, 25), rng.uniform(-180, 180)], p=[0.55, 0.25, 0.2]
    )
    pose = random_pose(rng)
    figure = view_figure(
        pose_figure(pose, build),
        yaw=yaw,
        elevation=rng.uniform(0, 22),
        roll=rng.normal(0, 3),
        scale=height / STANDING_METERS,
    )
    # Skirts are drawn around thighs that point down.
    hanging = max(pose['left_hip_flex'], pose['right_hip_flex']) < 45
    outfit = random_outfit(rng, girth=build.girth, skirts=hanging)
    return Person(figure, outfit, height)


def compose(rng: np.random.Generator, height: int, width: int, *, crowded: bool = False) -> Scene:
    """Draw the content of an image; ``crowded``: a group of people who cover each other."""
    light = np.array([rng.uniform(-0.8, 0.8), rng.uniform(-0.9, -0.2), 0.7])
    scene = Scene(height, width, light, rng.uniform(0.35, 0.65), int(rng.integers(2**32)))
    people = []
    if crowded:
        scene.layers = _add_objects(rng, _place_group(rng, height, width), height, width)
        return scene
    if rng.random() >= EMPTY_FRACTION:
        people = _place_people(rng, height, width)
    if people and rng.random() < CROWD_FRACTION:
        people = _place_crowd(rng, height, width) + people[:2]
    scene.layers = _add_objects(rng, people, height, width)
    return scene


def _place_people(rng: np.random.Generator, height: int, width: int) -> list[Person]:
    """Draw people from far to near with limited overlap."""
    unit = max(height, width) / 256
    people, boxes = [], []
    for _ in range(1 + rng.choice(len(COUNT_WEIGHTS), p=COUNT_WEIGHTS)):
        low, high = HEIGHT_RANGES[rng.choice(3, p=HEIGHT_WEIGHTS)]
        # uniform in the logarithm of the size
        tall = np.exp(rng.uniform(np.log(low), np.log(high))) * unit
        person = random_person(rng, tall)
        allowed = 0.12 if rng.random() < 0.8 else 0.55
        for _ in range(12):
            placed = _at_random_place(rng, person, height, width)
            box = np.clip(placed.figure.extent(), 0, [width, height, width, height])
            if all(_overlap(box, other) <= allowed for other in boxes):
                people.append(placed)
                boxes.append(box)
                break
    # Tall people are near, and drawn last.
    return sorted(people, key=lambda p: p.height)


def _at_random_place(rng: np.random.Generator, person: Person, height: int, width: int) -> Person:
    """Move a person to a random position, mostly inside of the image."""
    x0, y0, x1, y1 = person.figure.extent()
    if x1 - x0 < width and y1 - y0 < height and rng.random() < 0.85:
        goal = rng.uniform((-x0, -y0), (width - x1, height - y1))
    else:
        name = rng.choice(['nose', 'neck', 'left_hip', 'left_knee'], p=[0.45, 0.3, 0.15, 0.1])
        place = rng.uniform((0.2, 0.15), (0.8, 0.75)) * (width, height)
        goal = place - person.figure.points[name][:2]
    return _translate(person, goal)


def _translate(person: Person, goal: np.ndarray) -> Person:
    figure = person.figure.transform(np.eye(3), np.append(goal, 0.0), person.figure.scale)
    return Person(figure, person.outfit, person.height, person.crowd)


def _place_crowd(rng: np.random.Generator, height: int, width: int) -> list[Person]:
    """Draw many small people side by side, from far to near."""
    unit = max(height, width) / 256
    tall, count = rng.uniform(22, 42) * unit, rng.integers(8, 18)
    middle = rng.uniform(0.25, 0.75, 2) * (width, height)
    spread = (tall * count * rng.uniform(0.04, 0.08), tall * 0.15)
    people = []
    for _ in range(count):
        person = random_person(rng, tall * rng.uniform(0.85, 1.15))
        people.append(_translate(person, middle + rng.normal(0, 1, 2) * spread))
        people[-1].crowd = True
    return sorted(people, key=lambda p: p.figure.extent()[3])  # by the feet


def _place_group(rng: np.random.Generator, height: int, width: int) -> list[Person]:
    """Draw three to five people of similar height whose boxes overlap, from far to near."""
    unit = max(height, width) / 256
    tall, count = rng.uniform(80, 170) * unit, rng.integers(3, 6)
    steps = tall * rng.uniform(0.08, 0.22, count).cumsum()
    middle = np.array([width, height]) * rng.uniform(0.4, 0.6, 2)
    people = []
    for x in rng.permutation(steps - steps.mean()):
        person = random_person(rng, tall * rng.uniform(0.9, 1.1))
        x0, y0, x1, y1 = person.figure.extent()
        place = middle + (x, tall * rng.normal(0, 0.04))
        people.append(_translate(person, place - ((x0 + x1) / 2, (y0 + y1) / 2)))
    return people


def _add_objects(
    rng: np.random.Generator, people: list[Person], height: int, width: int
) -> list[Person | Object]:
    """Add objects behind, between and in front of the people."""
    layers: list[Person | Object] = []
    side = max(height, width)
    for _ in range(rng.poisson(2)):
        layers.append(
            _random_object(
                rng,
                rng.uniform(0, width),
                rng.uniform(0.4, 1.1) * height,
                side * rng.uniform(0.15, 0.9),
            )
        )
    for person in people:
        layers.append(person)
        if not person.crowd and rng.random() < 0.15:
            x0, _, x1, y1 = person.figure.extent()
            layers.append(
                _random_object(
                    rng,
                    rng.uniform(x0, x1),
                    y1 + rng.uniform(0, 8),
                    person.height * rng.uniform(0.5, 1),
                )
            )
    return layers


def _random_object(rng: np.random.Generator, x: float, y: float, size: float) -> Object:
    return Object(
        str(rng.choice(list(OBJECTS))), int(rng.integers(2**32)), float(x), float(y), float(size)
    )


def _overlap(a: np.ndarray, b: np.ndarray) -> float:
    """Return the intersection of two boxes over the area of the smaller one."""
    sides = np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2])
    smaller = min(np.prod(a[2:] - a[:2]), np.prod(b[2:] - b[:2]))
    return float(np.prod(np.maximum(sides, 0)) / max(smaller, 1e-6))


def render(scene: Scene) -> tuple[np.ndarray, list[Instance]]:
    """Render a scene without people that are almost invisible.

    Returns:
        (H, W, 3) uint8 image and its instances, a crowd last.
    """
    layers = scene.layers
    while True:
        canvas, instances, hidden = _draw(scene, layers)
        if not hidden:
            image = finish(np.random.default_rng([scene.seed, 1]), canvas.image())
            return image, instances
        layers = [item for i, item in enumerate(layers) if i not in hidden]


def _draw(scene: Scene, layers: list[Person | Object]) -> tuple[Canvas, list[Instance], set[int]]:
    """Draw the layers; return canvas, instances, and indices of people that are hidden."""
    canvas = Canvas(
        background(np.random.default_rng([scene.seed, 0]), scene.height, scene.width),
        light=scene.light,
        ambient=scene.ambient,
    )
    crowd = len(layers) + 1  # one owner for all people of the crowd
    seen, full = {}, {}
    for i, item in enumerate(layers):
        if isinstance(item, Object):
            canvas.start()
            OBJECTS[item.kind](canvas, np.random.default_rng(item.seed), item.x, item.y, item.size)
            continue
        owner = crowd if item.crowd else i + 1
        canvas.start(owner)
        seen[i] = draw_person(canvas, item.figure, item.outfit)
        full[i] = int((canvas.owner == owner).sum())
    single = [i for i in seen if not layers[i].crowd]
    masks = canvas.masks([i + 1 for i in single] + [crowd])
    instances, hidden = [], set()
    for i, mask in zip(single, masks[:-1], strict=True):
        shown = int(mask.sum())  # pixels of the image, while `full` counts samples
        if shown < max(MIN_PIXELS, MIN_FRACTION * full[i] / canvas.factor**2):
            hidden.add(i)
        instances.append(_instance(canvas, layers[i].figure, seen[i], i + 1, mask))
    if masks[-1].any():
        instances.append(Instance(masks[-1], np.zeros((17, 2)), np.zeros(17, int), crowd=True))
    return canvas, instances, hidden


def _instance(
    canvas: Canvas, figure: Figure, own: np.ndarray, owner: int, mask: np.ndarray
) -> Instance:
    """Derive the visibility of the keypoints.

    It is 2 if the person shows the keypoint and nothing else covers it, 1 if something does, and
    0 outside of the pixel centers of the image.
    """
    height, width = canvas.size
    keypoints = figure.keypoints()[:, :2]
    inside = ((keypoints >= 0.5) & (keypoints <= (width - 0.5, height - 0.5))).all(1)
    visibility = np.zeros(17, int)
    for k in np.nonzero(inside)[0]:
        # what covers the keypoint's sample at last
        shown = canvas.owner[canvas.sample(*keypoints[k])] == owner
        visibility[k] = 2 if shown and own[k] else 1
    return Instance(mask, np.where(inside[:, None], keypoints, 0), visibility)
