"""Synthetic people: reproducibility, ground truth, and protection of existing files."""

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
from pycocotools import mask as coco_mask
from pycocotools import mask as mask_codec
from pycocotools.coco import COCO

from multitask_refine.testing.synthetic_people import scene as scenes
from multitask_refine.testing.synthetic_people.canvas import Canvas
from multitask_refine.testing.synthetic_people.coco import annotation, run_lengths, segmentation
from multitask_refine.testing.synthetic_people.person import (
    Cloth,
    Outfit,
    draw_person,
    random_outfit,
)
from multitask_refine.testing.synthetic_people.skeleton import (
    FAMILIES,
    KEYPOINTS,
    LIMB_LIMITS,
    SIDES,
    TRUNK_LIMITS,
    Build,
    Figure,
    mirror_pose,
    pose_figure,
    random_pose,
    view_figure,
)
from tools.dataset import make_sample
from tools.dataset.make_sample import main

pytestmark = pytest.mark.slow

SMALL = ['--size', '96', '--workers', '1']
# Upright, the arms a little forward and away from the hips.
ARMS_OUT = dict(shoulder_out=14.0, shoulder_flex=15.0)
STRAIGHT = dict.fromkeys(TRUNK_LIMITS, 0.0) | {
    f'{side}_{name}': ARMS_OUT.get(name, 0.0) for side, _ in SIDES for name in LIMB_LIMITS
}
WHITE = Cloth(np.full(3, 255.0))


def contents(folder: Path) -> dict[str, str]:
    """Return the SHA-256 of all files below a folder by name."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob('*')
        if path.is_file()
    }


def standing(yaw: float = 0.0) -> Figure:
    """A figure 172 pixels tall in the middle of a 256 x 256 image."""
    figure = view_figure(pose_figure(STRAIGHT, Build()), yaw=yaw, elevation=0, roll=0, scale=100)
    return figure.transform(np.eye(3), np.array([128.0, 128.0, 0]), figure.scale)


def short_outfit() -> Outfit:
    """Draw an outfit whose skirt or hair hides no keypoint."""
    for seed in range(100):
        outfit = random_outfit(np.random.default_rng(seed), skirts=False)
        if outfit.style == 'short':
            return outfit


@pytest.fixture(scope='module')
def drawn(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp('sample') / 'people'
    assert main([str(out), '--train', '60', '--val', '1', '--workers', '1']) == 0
    return out


@pytest.fixture(scope='module')
def coco(drawn) -> COCO:
    return COCO(drawn / 'annotations' / 'person_keypoints_train2017.json')


@pytest.mark.exhaustive
def test_same_seed_same_bytes_with_any_number_of_workers(tmp_path):
    small = [*SMALL, '--val', '2', '--train']
    assert main([str(tmp_path / 'a'), *small, '3']) == 0
    assert main([str(tmp_path / 'b'), *small, '3', '--workers', '2']) == 0
    assert main([str(tmp_path / 'c'), *small, '3', '--seed', '1']) == 0
    assert main([str(tmp_path / 'd'), *small, '2']) == 0
    a, b, c, d = (contents(tmp_path / name) for name in 'abcd')
    assert a == b
    first = 'train2017/000000000001.jpg'
    assert len({a[first], c[first], a['val2017/000000000001.jpg']}) == 3
    # An image does not depend on the number of images.
    assert a[first] == d[first] and len(d) == len(a) - 1


def test_crowded_people_cover_each_other(tmp_path):
    out = tmp_path / 'crowded'
    options = [*SMALL, '--train', '0', '--val', '4']
    assert main([str(out), *options, '--crowded']) == 0
    coco = COCO(out / 'annotations' / 'person_keypoints_val2017.json')
    for image in coco.imgs:
        people = coco.loadAnns(coco.getAnnIds(image))
        assert 2 <= len(people) <= 5
        boxes = [each['bbox'] for each in people]
        ious = mask_codec.iou(boxes, boxes, [0] * len(boxes))
        np.fill_diagonal(ious, 0)
        assert ious.max() > 0.1
    # other images than without the option, so the folder is drawn anew
    crowded = contents(out)
    assert main([str(out), *options]) == 0
    assert contents(out).keys() == crowded.keys()
    first = 'val2017/000000000001.jpg'
    assert contents(out)[first] != crowded[first]


def test_files_match_annotations(drawn, coco):
    assert list(coco.cats) == [1]
    assert coco.cats[1]['keypoints'] == list(KEYPOINTS)
    assert len(coco.cats[1]['skeleton']) == 19
    assert len(coco.anns) == len(coco.dataset['annotations'])
    for image in coco.imgs.values():
        pixels = cv2.imread(str(drawn / 'train2017' / image['file_name']))
        assert pixels.shape == (image['height'], image['width'], 3)


def test_boxes_and_areas_are_those_of_the_masks(coco):
    for ann in coco.anns.values():
        mask = coco.annToMask(ann)
        exact = not isinstance(ann['segmentation'], list)
        # A polygon may differ from the mask by 2 % (POLYGON_IOU).
        assert ann['area'] == pytest.approx(mask.sum(), rel=0 if exact else 0.021)
        rows, cols = np.nonzero(mask)
        box = [cols.min(), rows.min(), np.ptp(cols) + 1, np.ptp(rows) + 1]
        np.testing.assert_allclose(ann['bbox'], box, atol=0 if exact else 1)


def test_keypoints_lie_in_the_image_and_visible_ones_on_the_person(coco):
    for ann in coco.anns.values():
        x, y, v = np.array(ann['keypoints']).reshape(17, 3).T
        image = coco.imgs[ann['image_id']]
        assert ann['num_keypoints'] == (v > 0).sum()
        assert not (ann['iscrowd'] and v.any())
        assert not x[v == 0].any() and not y[v == 0].any()
        assert (x >= 0).all() and (x <= image['width'] - 1).all()
        assert (y >= 0).all() and (y <= image['height'] - 1).all()
        rows, cols = np.nonzero(coco.annToMask(ann))
        for k in np.flatnonzero(v == 2):
            # A thin part may cover less than half of each of its pixels.
            assert np.hypot(cols - x[k], rows - y[k]).min() < 1.5


def test_a_moderate_draw_has_all_kinds(coco):
    people = [a for a in coco.anns.values() if not a['iscrowd']]
    crowds = [a for a in coco.anns.values() if a['iscrowd']]
    areas = np.array([a['area'] for a in people])
    forms = {type(a['segmentation']) for a in people}
    shown = {v for a in people for v in a['keypoints'][2::3]}
    assert (areas < 32**2).sum() >= 5
    assert ((areas >= 32**2) & (areas < 96**2)).sum() >= 20
    assert (areas >= 96**2).sum() >= 3
    assert crowds and all(isinstance(a['segmentation']['counts'], list) for a in crowds)
    assert set(coco.imgs) - {a['image_id'] for a in coco.anns.values()}
    assert forms == {list, dict} and shown == {0, 1, 2}
    assert any(a['num_keypoints'] == 0 for a in people)


@pytest.mark.parametrize('x, y', [(20.0, 20.0), (20.5, 19.5), (19.3, 21.8)])
@pytest.mark.parametrize('shape', ['ellipsoid', 'cone', 'polygon'])
def test_shapes_are_drawn_at_their_center(shape, x, y):
    canvas = Canvas(np.zeros((40, 42, 3), np.uint8), ambient=1.0)
    canvas.start(7)
    middle = np.array([x, y, 0.0])
    if shape == 'ellipsoid':
        canvas.ellipsoid(middle, np.eye(3), (9, 9, 9), WHITE)
    elif shape == 'cone':
        canvas.cone(middle - [6, 3, 0], middle + [6, 3, 0], 5, 5, WHITE)
    else:
        # Slanted, since sides along the samples are moved onto them.
        corners = np.array([(-9, -4), (5, -9), (9, 4), (-5, 9)])
        canvas.polygon(corners + middle[:2], WHITE)
    weights = canvas.image()[..., 0].astype(float)
    rows, cols = np.indices(weights.shape) + 0.5
    center = [(cols * weights).sum(), (rows * weights).sum()] / weights.sum()
    np.testing.assert_allclose(center, (x, y), atol=0.05)
    if shape == 'ellipsoid':
        rows, cols = np.nonzero(canvas.masks([7])[0])
        np.testing.assert_allclose((cols.mean() + 0.5, rows.mean() + 0.5), (x, y), atol=0.05)


def test_a_mask_pixel_is_covered_by_more_than_half():
    canvas = Canvas(np.zeros((4, 4, 3), np.uint8))
    canvas.start(1)
    canvas.polygon(np.array([(0, 0), (2.6, 0), (2.6, 4), (0, 4)]), WHITE)
    canvas.start(2)
    canvas.polygon(np.array([(1.4, 0), (4, 0), (4, 2), (1.4, 2)]), WHITE)
    first, second = canvas.masks([1, 2])
    np.testing.assert_array_equal(first[0], [1, 0, 0, 0])
    np.testing.assert_array_equal(second[0], [0, 1, 1, 1])
    np.testing.assert_array_equal(first[3], [1, 1, 1, 0])
    assert not second[3].any()


def test_left_and_right_are_the_drawn_persons_own():
    front, back = standing(0).points, standing(180).points
    for part in ('eye', 'ear', 'shoulder', 'wrist', 'hip', 'ankle'):
        assert front[f'left_{part}'][0] > front[f'right_{part}'][0]
        assert back[f'left_{part}'][0] < back[f'right_{part}'][0]
    # Who faces image right shows the right side to the viewer.
    side = standing(90).points
    assert side['nose'][0] > side['head'][0]
    assert side['right_hip'][2] > side['left_hip'][2]


@pytest.mark.parametrize('family', FAMILIES)
def test_flipped_pose_has_flipped_keypoints(family):
    pose = random_pose(np.random.default_rng(4), family)
    view = dict(elevation=10, scale=100)
    figure = view_figure(pose_figure(pose, Build()), yaw=25, roll=4, **view)
    mirrored = view_figure(pose_figure(mirror_pose(pose), Build()), yaw=-25, roll=-4, **view)
    swap = {'left': 'right', 'right': 'left'}
    for name, point in figure.points.items():
        side, _, rest = name.partition('_')
        other = f'{swap[side]}_{rest}' if side in swap else name
        np.testing.assert_allclose(mirrored.points[other], point * [-1, 1, 1], atol=1e-9)


@pytest.mark.parametrize('family', FAMILIES)
def test_poses_stay_within_their_limits(family):
    for seed in range(20):
        pose = random_pose(np.random.default_rng(seed), family)
        for name, angle in pose.items():
            limb = name.partition('_')[2]
            limits = TRUNK_LIMITS.get(name) or LIMB_LIMITS[limb]
            assert limits[0] <= angle <= limits[1]


@pytest.mark.parametrize(
    'yaw, hidden',
    [
        (0, []),
        (180, ['nose', 'left_eye', 'right_eye']),
        (
            90,
            [
                'left_eye',
                'left_ear',
                'left_shoulder',
                'left_elbow',
                'left_hip',
                'left_knee',
                'left_ankle',
            ],
        ),
        (
            -90,
            [
                'right_eye',
                'right_ear',
                'right_shoulder',
                'right_elbow',
                'right_hip',
                'right_knee',
                'right_ankle',
            ],
        ),
    ],
)
def test_self_occlusion(yaw, hidden):
    canvas = Canvas(np.zeros((256, 256, 3), np.uint8))
    canvas.start(1)
    seen = draw_person(canvas, standing(yaw), short_outfit())
    names = [name for name, own in zip(KEYPOINTS, seen, strict=False) if not own]
    assert set(hidden) <= set(names)
    if yaw == 0:
        assert names == []


def test_occluded_keypoint_has_visibility_1(monkeypatch):
    def plate(canvas, rng, x, y, size):
        canvas.polygon(
            np.array(
                [
                    (x - size, y - size),
                    (x + size, y - size),
                    (x + size, y + size),
                    (x - size, y + size),
                ]
            ),
            WHITE,
        )

    monkeypatch.setitem(scenes.OBJECTS, 'plate', plate)
    person = scenes.Person(standing(), short_outfit(), 172)
    knee = person.figure.points['left_knee']
    cover = scenes.Object('plate', 0, knee[0], knee[1], 5)
    scene = scenes.Scene(256, 256, np.array([0, 0, 1]), 0.5, 3, [person])
    [bare] = scenes.render(scene)[1]
    scene.layers = [person, cover]
    [covered] = scenes.render(scene)[1]
    k = KEYPOINTS.index('left_knee')
    assert (bare.visibility == 2).all()
    assert covered.visibility[k] == 1
    assert (np.delete(covered.visibility, k) == 2).all()
    np.testing.assert_array_equal(covered.keypoints, bare.keypoints)
    gone = bare.mask & ~covered.mask
    assert gone.any() and not (covered.mask & ~bare.mask).any()
    assert abs(np.argwhere(gone) + 0.5 - knee[1::-1]).max() < 6


def test_hidden_person_is_left_out(monkeypatch):
    def wall(canvas, rng, x, y, size):
        canvas.polygon(np.array([(0, 0), (256, 0), (256, y), (0, y)]), WHITE)

    monkeypatch.setitem(scenes.OBJECTS, 'wall', wall)
    person = scenes.Person(standing(), short_outfit(), 172)
    scene = scenes.Scene(
        256, 256, np.array([0, 0, 1]), 0.5, 3, [person, scenes.Object('wall', 0, 0, 200, 0)]
    )
    image, instances = scenes.render(scene)
    scene.layers = scene.layers[1:]
    assert instances == []
    np.testing.assert_array_equal(image, scenes.render(scene)[0])


def test_keypoints_outside_of_the_image_are_unlabeled():
    figure = standing()
    figure = figure.transform(np.eye(3), np.array([-128.0, 0, 0]), figure.scale)
    scene = scenes.Scene(
        256, 256, np.array([0, 0, 1]), 0.5, 3, [scenes.Person(figure, short_outfit(), 172)]
    )
    [instance] = scenes.render(scene)[1]
    left = np.array(['left' in name for name in KEYPOINTS])
    assert (instance.visibility[left] == 2).all()
    # The nose lies on the border, half a pixel before the first center.
    assert (instance.visibility[~left] == 0).all()
    assert not instance.keypoints[~left].any()


def test_annotation_stores_pixel_indices():
    mask = np.zeros((8, 9), bool)
    mask[2:6, 3:5] = True
    keypoints = np.tile([4.5, 3.25], (17, 1))
    instance = scenes.Instance(mask, keypoints, np.full(17, 2))
    ann = annotation(instance, id=5, image_id=3)
    assert ann['keypoints'][:3] == [4.0, 2.75, 2]
    assert ann['bbox'] == [3, 2, 2, 4] and ann['area'] == 8
    bare = annotation(instance, id=5, image_id=3, with_keypoints=False)
    assert bare['num_keypoints'] == 0 and not any(bare['keypoints'])


def test_segmentation_formats():
    block = np.zeros((20, 30), bool)
    block[3:12, 0:9] = block[5:18, 20:30] = True
    ring = block.copy()
    # A hole too small to fail the polygons' overlap.
    ring[7, 4] = False
    polygons = segmentation(block)
    assert isinstance(polygons, list) and len(polygons) == 2
    plain = segmentation(ring, crowd=True)
    codes = [
        coco_mask.merge(coco_mask.frPyObjects(polygons, 20, 30)),
        segmentation(ring),
        coco_mask.frPyObjects(plain, 20, 30),
    ]
    assert isinstance(codes[1]['counts'], str)
    for code, mask in zip(codes, (block, ring, ring), strict=False):
        np.testing.assert_array_equal(coco_mask.decode(code), mask)
    assert run_lengths(np.array([[1, 0], [1, 0]], bool)) == [0, 2, 2]


def test_existing_sample_is_kept_or_replaced(tmp_path, capsys):
    out = tmp_path / 'people'
    few = [str(out), *SMALL, '--train', '1', '--val', '0']
    assert main(few) == 0
    before = (out / 'sample.json').stat().st_mtime_ns
    capsys.readouterr()
    assert main(few) == 0
    assert 'up to date' in capsys.readouterr().out
    assert (out / 'sample.json').stat().st_mtime_ns == before
    assert main([*few, '--seed', '2']) == 0
    record = json.loads((out / 'sample.json').read_text())
    assert record['settings']['seed'] == 2
    assert [p.name for p in tmp_path.iterdir()] == ['people']
    link = tmp_path / 'link'
    link.symlink_to(out)
    assert main([str(link), *few[1:], '--seed', '3']) == 0
    assert link.is_symlink() and out.is_dir() and not out.is_symlink()


@pytest.mark.parametrize(
    'name, text',
    [('notes.txt', 'mine'), ('sample.json', '{"tool": "another"}'), ('sample.json', 'no json')],
)
def test_other_folder_raises_and_is_kept(tmp_path, capsys, name, text):
    (tmp_path / 'out').mkdir()
    (tmp_path / 'out' / name).write_text(text)
    before = contents(tmp_path)
    assert main([str(tmp_path / 'out'), *SMALL]) == 1
    assert 'not made by this tool' in capsys.readouterr().err
    assert contents(tmp_path) == before


def test_modified_sample_raises(tmp_path, capsys):
    few = [*SMALL, '--train', '1', '--val', '0']
    assert main([str(tmp_path / 'out'), *few]) == 0
    (tmp_path / 'out' / 'train2017' / 'mine.jpg').write_bytes(b'mine')
    (tmp_path / 'file').write_text('mine')
    before = contents(tmp_path)
    assert main([str(tmp_path / 'out'), *few, '--seed', '1']) == 1
    assert 'was changed' in capsys.readouterr().err
    assert main([str(tmp_path / 'file'), *few]) == 1
    assert 'not a folder' in capsys.readouterr().err
    assert contents(tmp_path) == before


@pytest.mark.parametrize(
    'option', ['--train=-1', '--val=-2', '--size=20', '--seed=-1', '--workers=0']
)
def test_invalid_options_exit_with_2(tmp_path, option, capsys):
    with pytest.raises(SystemExit) as stop:
        main([str(tmp_path / 'out'), option])
    assert stop.value.code == 2
    assert option.split('=')[0] in capsys.readouterr().err
    assert not (tmp_path / 'out').exists()


@pytest.mark.exhaustive
def test_terminated_run_leaves_no_workers_and_no_files(tmp_path):
    command = [sys.executable, make_sample.__file__, str(tmp_path / 'sample'), '--train=5000']
    with subprocess.Popen(command, start_new_session=True) as process:
        while not list(tmp_path.glob('.sample.*.new/train2017/*.jpg')):
            assert process.poll() is None
            time.sleep(0.1)
        process.terminate()
    assert process.returncode == 128 + signal.SIGTERM
    assert not list(tmp_path.iterdir())
    with pytest.raises(ProcessLookupError):  # multiprocessing's own process ends a moment later
        while True:
            os.killpg(process.pid, 0)
            time.sleep(0.1)
