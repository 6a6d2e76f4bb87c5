"""COCO to each format and back: what the format holds is the same, the rest is counted."""

import copy
import json

import numpy as np
import pytest

from multitask_refine.datasets import repair
from multitask_runtime import FormatError
from multitask_runtime.formats import (
    coco_to_cvat,
    coco_to_label_studio,
    coco_to_labelme,
    coco_to_yolo,
    cvat_to_coco,
    label_studio_to_coco,
    labelme_to_coco,
    to_mask,
    yolo_to_coco,
)
from tests.test_runtime.test_formats.drawn import NAMES, make_dataset, summarize, write_images

CATEGORY = "categories with a field 'supercategory': left out"
NO_LABELED = 'instances without a labeled keypoint: keypoints left out'


@pytest.fixture(scope='module')
def drawn(tmp_path_factory):
    content, arrays = make_dataset()
    return content, write_images(tmp_path_factory.mktemp('images'), arrays)


def test_the_dataset_has_what_is_rare(drawn):
    content, _ = drawn
    assert repair(content)[1] == []
    kinds = [type(each.get('segmentation')) for each in content['annotations']]
    assert kinds.count(dict) >= 3 and kinds.count(list) >= 3 and kinds.count(type(None)) == 3
    assert any(
        len(each['segmentation']) > 2
        for each in content['annotations']
        if isinstance(each.get('segmentation'), list)
    )
    visibilities = [v for each in content['annotations'] for v in each.get('keypoints', [])[2::3]]
    assert set(visibilities) == {0, 1, 2}
    assert sum(each['iscrowd'] for each in content['annotations']) == 1


def without_empty_keypoints(content):
    """Drop keypoints of which none is labeled, as LabelMe and Label Studio have no place."""
    content = copy.deepcopy(content)
    for each in content['annotations']:
        if each.get('num_keypoints') == 0:
            del each['keypoints']
    return content


def lossless_formats(content, folder, images):
    """Write and read each format that holds everything; yield what was read."""
    yield (
        'labelme',
        coco_to_labelme(content, folder / 'labelme', images),
        labelme_to_coco(folder / 'labelme'),
    )
    yield 'cvat', coco_to_cvat(content, folder / 'a.xml'), cvat_to_coco(folder / 'a.xml')
    lost = coco_to_label_studio(content, folder / 'studio', '/data/local-files/?d=')
    yield 'label studio', lost, label_studio_to_coco(folder / 'studio')


def test_annotation_tools_hold_everything(drawn, tmp_path):
    content, images = drawn
    for name, lost, (back, lost_again) in lossless_formats(content, tmp_path, images):
        # Only CVAT has a place for keypoints of which none is labeled.
        expected = content if name == 'cvat' else without_empty_keypoints(content)
        assert summarize(back) == summarize(expected), name
        assert lost == ({CATEGORY: 1} if name == 'cvat' else {NO_LABELED: 1}) and not lost_again
        assert repair(back)[1] == [], name
        assert [each['name'] for each in back['categories']] == ['person', 'dog']
        for field in ('keypoints', 'skeleton'):
            assert back['categories'][0][field] == content['categories'][0][field], name
        areas = [each['area'] for each in back['annotations'] if each['iscrowd']]
        assert areas == [2851] and [each['id'] for each in back['images']] == [1, 2, 3, 4, 5]
        assert 'keypoints' not in back['categories'][1]


def test_yolo_pose_holds_boxes_and_keypoints(drawn, tmp_path):
    content, images = drawn
    people = [each for each in content['annotations'] if each['category_id'] == 1]
    content = dict(content, annotations=people, categories=content['categories'][:1])
    lost = coco_to_yolo(content, tmp_path / 'yolo', 'pose', images=images)
    num_masks = sum('segmentation' in each and not each['iscrowd'] for each in people)
    assert lost == {
        CATEGORY: 1,
        'crowds left out': 1,
        'masks left out of labels for pose': num_masks,
        'instances without keypoints: keypoints written as not labeled': 2,
    }
    back, lost_again = yolo_to_coco(tmp_path / 'yolo')
    assert not lost_again and repair(back)[1] == []
    expected = copy.deepcopy(content)
    expected['annotations'] = [each for each in expected['annotations'] if not each['iscrowd']]
    for each in expected['annotations']:
        each.setdefault('keypoints', [0] * 51)
    fields = ('bbox', 'keypoints')
    # The files are read in order of their names.
    assert dict(summarize(back, fields)) == dict(summarize(expected, fields))
    assert [each['file_name'] for each in back['images']] == sorted(NAMES)
    for field in ('name', 'keypoints', 'skeleton'):
        assert back['categories'][0][field] == content['categories'][0][field]
    labels = (tmp_path / 'yolo/labels/train/nobody.txt').read_text()
    assert labels == '' and (tmp_path / 'yolo/images/train/sub').is_dir()


def test_yolo_segment_holds_masks_of_one_polygon(drawn, tmp_path):
    content, images = drawn
    lost = coco_to_yolo(content, tmp_path / 'yolo', 'segment', images=images)
    back, _ = yolo_to_coco(tmp_path / 'yolo')
    assert repair(back)[1] == []
    originals = [
        each for each in content['annotations'] if 'segmentation' in each and not each['iscrowd']
    ]
    assert lost['crowds left out'] == 1 and lost['instances without a mask left out'] == 3
    rles = [each for each in originals if isinstance(each['segmentation'], dict)]
    assert lost['masks of pixels (RLE) written as polygons'] == len(rles)
    assert lost['holes of masks filled'] >= 1
    sizes = {each['id']: (each['height'], each['width']) for each in content['images']}
    by_name = {each['file_name']: each['id'] for each in content['images']}
    names = {each['id']: by_name[each['file_name']] for each in back['images']}
    assert len(back['annotations']) == len(originals)
    back['annotations'].sort(key=lambda each: names[each['image_id']])
    for one, other in zip(originals, back['annotations']):
        size = sizes[one['image_id']]
        mask, again = to_mask(one['segmentation'], *size), to_mask(other['segmentation'], *size)
        if isinstance(one['segmentation'], list) and len(one['segmentation']) == 1:
            np.testing.assert_allclose(one['segmentation'], other['segmentation'], atol=1e-4)
        else:
            # Bridges between polygons have no width; rounding may add a pixel along them.
            assert (again | mask == again).all() and (again ^ mask).sum() <= 0.1 * mask.sum() + 9


def test_yolo_splits_share_a_folder(drawn, tmp_path):
    content, images = drawn
    out = tmp_path / 'yolo'
    for split in ('train', 'val'):
        coco_to_yolo(content, out, 'detect', split, images)
        assert (
            len(yolo_to_coco(out / 'data.yaml', split)[0]['annotations'])
            == len(content['annotations']) - 1
        )
    before = {path: path.read_bytes() for path in out.rglob('*') if path.is_file()}
    with pytest.raises(FormatError, match="data.yaml: has a split 'val'"):
        coco_to_yolo(content, out, 'detect', 'val', images)
    with pytest.raises(FormatError, match='has other classes or keypoints'):
        coco_to_yolo(dict(content, categories=content['categories'][::-1]), out, 'detect', 'test')
    assert before == {path: path.read_bytes() for path in out.rglob('*') if path.is_file()}
    with pytest.raises(FormatError, match=r'test: expected the folder.*splits: train, val\)'):
        yolo_to_coco(out, 'test')


def test_yolo_pose_needs_common_keypoints(drawn, tmp_path):
    content, _ = drawn
    with pytest.raises(FormatError, match='pose: expected the same keypoints.*2 different lists'):
        coco_to_yolo(content, tmp_path / 'yolo', 'pose')
    content = dict(content, categories=[dict(each) for each in content['categories']])
    del content['categories'][0]['keypoints']
    with pytest.raises(FormatError, match='found none'):
        coco_to_yolo(content, tmp_path / 'yolo', 'pose')
    assert not (tmp_path / 'yolo').exists()


def test_no_file_is_replaced(drawn, tmp_path):
    content, images = drawn
    (tmp_path / 'mine').mkdir()
    (tmp_path / 'mine/notes.txt').write_text('mine')
    (tmp_path / 'a.xml').write_text('mine')
    for write in (coco_to_labelme, coco_to_label_studio):
        with pytest.raises(FormatError, match='mine: exists already; name a new or an empty f'):
            write(content, tmp_path / 'mine')
    with pytest.raises(FormatError, match='a.xml: exists already; name a new file'):
        coco_to_cvat(content, tmp_path / 'a.xml')
    (tmp_path / 'empty').mkdir()
    coco_to_labelme(content, tmp_path / 'empty')
    assert len(list((tmp_path / 'empty').rglob('*.json'))) == len(NAMES) + 1
    assert {path.name for path in tmp_path.iterdir()} == {'mine', 'a.xml', 'empty'}
    assert (tmp_path / 'a.xml').read_text() == 'mine'


def test_interrupted_conversion_leaves_nothing(drawn, tmp_path):
    content, _ = drawn
    for write in (
        coco_to_labelme,
        lambda *args, images: coco_to_yolo(*args, 'detect', images=images),
    ):
        with pytest.raises(FormatError, match='polygons.jpg: expected an image that the annot'):
            write(content, tmp_path / 'new/out', images=tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize('name', ['../a.png', '/a.png', 'a/../../b.png', ''])
def test_names_that_lead_out_of_the_folder(drawn, tmp_path, name):
    content = dict(
        drawn[0], annotations=[], images=[dict(id=1, file_name=name, width=2, height=2)]
    )
    for write in (coco_to_labelme, coco_to_cvat, coco_to_label_studio):
        with pytest.raises(FormatError, match='image 1: file_name: expected a path within'):
            write(content, tmp_path / 'out')
    assert not (tmp_path / 'out').exists()


def test_names_that_differ_in_their_suffix(tmp_path):
    images = [
        dict(id=i, file_name=f'a.{s}', width=2, height=2) for i, s in enumerate(['png', 'jpg'])
    ]
    content = dict(images=images, annotations=[], categories=[dict(id=1, name='person')])
    for write in (coco_to_labelme, lambda *args: coco_to_yolo(*args, 'detect')):
        with pytest.raises(FormatError, match="more than the suffix, found 'a.png' and 'a.jpg'"):
            write(content, tmp_path / 'out')


def test_further_fields_are_counted(drawn, tmp_path):
    content = copy.deepcopy(drawn[0])
    content['images'][0]['license'] = 1
    for each in content['annotations'][:2]:
        each['seen_by'] = 'me'
    lost = coco_to_cvat(content, tmp_path / 'a.xml')
    assert lost == {
        CATEGORY: 1,
        "images with a field 'license': left out": 1,
        "annotations with a field 'seen_by': left out": 2,
    }


def test_supervision_reads_the_yolo_dataset(drawn, tmp_path):
    sv = pytest.importorskip('supervision')
    content, images = drawn
    coco_to_yolo(content, tmp_path / 'yolo', 'segment', images=images)
    flat = tmp_path / 'flat'  # supervision looks into no subfolder
    for kind in ('images', 'labels'):
        (flat / kind).mkdir(parents=True)
        for path in (tmp_path / f'yolo/{kind}/train').rglob('*.*'):
            (flat / kind / path.name).write_bytes(path.read_bytes())
    data = sv.DetectionDataset.from_yolo(
        str(flat / 'images'),
        str(flat / 'labels'),
        str(tmp_path / 'yolo/data.yaml'),
        force_masks=True,
    )
    assert data.classes == ['person', 'dog'] and len(data) == len(NAMES)
    masks = {path.rsplit('/', 1)[-1]: found.mask for path, _, found in data}
    number = 0
    for image in content['images']:
        own = [
            each['segmentation']
            for each in content['annotations']
            if each['image_id'] == image['id'] and 'segmentation' in each and not each['iscrowd']
        ]
        for mask, segmentation in zip(
            masks[image['file_name'].rsplit('/', 1)[-1]] if own else (), own
        ):
            # supervision draws the border of polygons, too.
            expected = to_mask(segmentation, image['height'], image['width'])
            assert (expected & ~mask).sum() <= 3
            number += 1
    assert number > 8


@pytest.mark.parametrize('task', ['detect', 'segment', 'pose'])
def test_ultralytics_reads_the_yolo_dataset(drawn, tmp_path, task, monkeypatch):
    monkeypatch.setenv('YOLO_CONFIG_DIR', str(tmp_path))  # else it writes into the home folder
    reason = 'Ultralytics is under the AGPL, and brings torchvision'
    utils = pytest.importorskip('ultralytics.data.utils', reason=reason, exc_type=ImportError)
    content, images = drawn
    people = [each for each in content['annotations'] if each['category_id'] == 1]
    content = dict(content, annotations=people, categories=content['categories'][:1])
    for split in ('train', 'val'):
        coco_to_yolo(content, tmp_path / 'yolo', task, split, images)
    data = utils.check_det_dataset(str(tmp_path / 'yolo/data.yaml'), autodownload=False)
    assert data['names'] == {0: 'person'} and data.get('kpt_shape', [17, 3]) == [17, 3]
    # COCO's own flip indices.
    flips = [0, 2, 1, 4, 3, 6, 5, 8, 7, 10, 9, 12, 11, 14, 13, 16, 15]
    assert data.get('flip_idx', flips) == flips
    for image in content['images']:
        file = tmp_path / 'yolo/images/val' / image['file_name']
        labels = str((tmp_path / 'yolo/labels/val' / image['file_name']).with_suffix('.txt'))
        _, boxes, shape, segments, keypoints, missing, found, _, corrupt, message = (
            utils.verify_image_label((str(file), labels, '', task == 'pose', 1, 17, 3, False))
        )
        assert (missing, found, corrupt) == (0, 1, 0), message
        assert shape == (image['height'], image['width'])
        own = [each for each in people if each['image_id'] == image['id'] and not each['iscrowd']]
        own = [each for each in own if task != 'segment' or 'segmentation' in each]
        assert len(boxes) == len(own)
        size = [image['width'], image['height']]
        for each, box in zip(own, boxes if task != 'segment' else ()):
            x, y, width, height = each['bbox']
            expected = [x + width / 2, y + height / 2, width, height]
            np.testing.assert_allclose(box[1:] * [*size, *size], expected, atol=1e-4)
        for each, points in zip(own, keypoints if task == 'pose' and own else ()):
            expected = np.reshape(each.get('keypoints', [0] * 51), (17, 3)).astype(float)
            expected[:, :2] = expected[:, :2].clip(0)
            np.testing.assert_allclose(points * [*size, 1], expected, atol=1e-4)


def test_datumaro_reads_the_cvat_dataset(drawn, tmp_path):
    dm = pytest.importorskip('datumaro', reason='datumaro brings other versions of packages')
    content, images = drawn
    (tmp_path / 'images').symlink_to(images)
    coco_to_cvat(content, tmp_path / 'a.xml')
    items = {item.id: item for item in dm.Dataset.import_from(str(tmp_path), 'cvat')}
    assert items.keys() == {name.rsplit('.', 1)[0] for name in NAMES} or len(items) == len(NAMES)
    (item,) = [each for name, each in items.items() if 'by hand' in name]
    masks = [each for each in item.annotations if each.type.name == 'mask']
    wanted = [
        to_mask(each['segmentation'], 203, 61)
        for each in content['annotations']
        if each['image_id'] == 9 and isinstance(each.get('segmentation'), dict)
    ]
    assert len(masks) == len(wanted) == 2
    for mask, expected in zip(masks, wanted):
        assert (mask.image == expected).all()
    boxes = [each.get_bbox() for each in item.annotations if each.type.name == 'bbox']
    assert [0.5, 1.25, 60.5, 200.75] in [list(np.round(box, 3)) for box in boxes]


def test_labelme_reads_the_folder(drawn, tmp_path):
    label_file = pytest.importorskip('labelme._label_file', reason='LabelMe brings Qt')
    content, images = drawn
    coco_to_labelme(content, tmp_path / 'labelme', images)
    counts = {}
    for path in (tmp_path / 'labelme').rglob('*.json'):
        if path.name != 'categories.json':
            data = label_file.read_label_file(str(path))
            groups = {shape['group_id'] for shape in data.shapes}
            counts[data.image_path] = len(groups)
    names = {each['id']: each['file_name'].rsplit('/', 1)[-1] for each in content['images']}
    expected = dict.fromkeys(names.values(), 0)
    for each in content['annotations']:
        expected[names[each['image_id']]] += 1
    assert counts == expected


def test_label_studio_accepts_the_tasks(drawn, tmp_path):
    pytest.importorskip('label_studio_sdk', reason='its SDK brings other versions of packages')
    from label_studio_sdk.label_interface import LabelInterface

    content, _ = drawn
    coco_to_label_studio(content, tmp_path / 'out')
    interface = LabelInterface((tmp_path / 'out/labeling_config.xml').read_text())
    tasks = json.loads((tmp_path / 'out/tasks.json').read_text())
    assert len(tasks) == len(NAMES)
    for task in tasks:
        for annotation in task['annotations']:
            for region in annotation['result']:
                assert interface.validate_region(region), region
