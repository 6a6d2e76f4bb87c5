"""Files as other tools and their users write them, and what is wrong with some."""

import base64
import json

import cv2
import numpy as np
import pytest

from multitask_runtime import FormatError
from multitask_runtime.formats import (
    cvat_to_coco,
    label_studio_to_coco,
    labelme_to_coco,
    to_mask,
    yolo_to_coco,
)
from multitask_runtime.formats.coco import COCO_KEYPOINTS
from multitask_runtime.formats.label_studio import decode_rle
from tests.test_runtime.conftest import save_image


def keypoints_of(content, index=0):
    """Names of the labeled keypoints of an annotation with x, y, visibility."""
    names = {each['id']: each.get('keypoints') for each in content['categories']}
    each = content['annotations'][index]
    rows = np.reshape(each['keypoints'], (-1, 3)).tolist()
    return {name: row for name, row in zip(names[each['category_id']], rows) if row[2]}


# YOLO


@pytest.fixture
def yolo(tmp_path):
    """A dataset as annotation services export it: ../train/images, no names of keypoints."""
    save_image(tmp_path / 'train/images/a.png')
    (tmp_path / 'train/labels').mkdir()

    def write(text, **settings):
        settings = dict(train='../train/images', nc=2, names=['person', 'dog']) | settings
        (tmp_path / 'data.yaml').write_text(json.dumps(settings))  # JSON is YAML
        (tmp_path / 'train/labels/a.txt').write_text(text)
        return tmp_path / 'data.yaml'

    return write


def test_yolo_boxes_and_polygons(yolo):
    content, losses = yolo_to_coco(yolo('1 0.5 0.5 0.25 0.5\n\n0 0.25 0.25 0.5 0.25 0.5 0.5\n'))
    assert not losses and content['images'] == [dict(id=1, file_name='a.png', width=64, height=48)]
    first, second = content['annotations']
    assert (first['category_id'], first['bbox'], first['area']) == (2, [24, 12, 16, 24], 384)
    assert 'segmentation' not in first and 'keypoints' not in first
    assert second['segmentation'] == [[16, 12, 32, 12, 32, 24]]
    assert second['bbox'] == [16, 12, 16, 12] and second['iscrowd'] == 0


@pytest.mark.parametrize('dims', [2, 3])
def test_yolo_keypoints_without_names(yolo, dims):
    row = '0 0.5 0.5 1 1 ' + '0.25 0.5 1 '[: None if dims == 3 else 9] + '0 ' * 16 * dims
    content, losses = yolo_to_coco(yolo(row, kpt_shape=[17, dims]))
    assert content['categories'][0]['keypoints'] == list(COCO_KEYPOINTS)
    assert keypoints_of(content) == {'nose': [16, 24, 1 if dims == 3 else 2]}
    assert len(losses) == (dims == 2)
    content, _ = yolo_to_coco(yolo('0 0.5 0.5 1 1 0.5 0.5 2', kpt_shape=[1, 3]), keypoints=['tip'])
    assert keypoints_of(content) == {'tip': [32, 24, 2]}


def test_yolo_images_without_labels(yolo, tmp_path):
    path = yolo('')
    save_image(tmp_path / 'train/images/sub/b.JPG')
    content, losses = yolo_to_coco(path)
    assert content['annotations'] == [] and len(content['images']) == 2
    assert losses == {'images without a file of labels taken as empty': 1}
    (tmp_path / 'train/labels/a.txt').unlink()
    with pytest.raises(FormatError, match='train/images: expected images with .*found 2 images'):
        yolo_to_coco(path)


@pytest.mark.parametrize(
    'text, settings, match',
    [
        ('0 0.5 0.5 1\n', {}, r'a.txt, line 1: expected 4 numbers of a box, or x and y of 3 cor'),
        ('\n0 0.5 x 1 1', {}, "line 2: expected finite numbers, found '0 0.5 x 1 1'"),
        ('0 0.5 nan 1 1', {}, 'expected finite numbers'),
        ('2 0.5 0.5 1 1', {}, 'expected a class from 0 to 1, as in data.yaml, found 2'),
        ('0.5 0.5 0.5 1 1', {}, 'expected a class from 0 to 1'),
        ('0 32 24 10 10', {}, 'expected fractions of the width and height.*found 32. Divide'),
        ('0 0.5 0.5 1 1', dict(kpt_shape=[2, 3]), '4 numbers of a box and 6 of keypoints behind'),
        ('', dict(kpt_shape=[2, 4]), r'data.yaml: kpt_shape\[1\]: expected 2 or 3, found 4'),
        ('', dict(names=None), 'data.yaml: names'),
        ('', dict(train=None), 'train: expected the folder of the images.*found nothing'),
        ('', dict(train='nowhere'), 'train: expected a folder of images, found none at .*nowhere'),
        ('', dict(kpt_shape=[2, 3], kpt_names={0: ['a']}), 'expected the 1 keypoints.*found 2'),
    ],
)
def test_wrong_yolo_files(yolo, text, settings, match):
    with pytest.raises(FormatError, match=match):
        yolo_to_coco(yolo(text, **settings))


def test_missing_yolo_file(tmp_path):
    with pytest.raises(FormatError, match='expected the data.yaml of a YOLO dataset'):
        yolo_to_coco(tmp_path)
    (tmp_path / 'data.yaml').write_bytes(b'a: [\xff')
    with pytest.raises(FormatError, match='expected YAML, found something else'):
        yolo_to_coco(tmp_path)


# LabelMe


@pytest.fixture
def labelme(tmp_path):
    def write(*shapes, **fields):
        content = dict(shapes=shapes, imagePath='a.png', imageHeight=48, imageWidth=64) | fields
        (tmp_path / 'a.json').write_text(json.dumps(content))
        return tmp_path

    return write


SQUARE = dict(label='cat', points=[[2, 3], [12, 3], [12, 23], [2, 23]], shape_type='polygon')
BOX = dict(label='cat', points=[[40, 30], [20, 10]], shape_type='rectangle')
TIP = dict(label='tip', points=[[30.5, 20.5]], shape_type='point')


def test_labelme_shapes_without_groups(labelme):
    content, losses = labelme_to_coco(labelme(SQUARE, BOX, TIP))
    polygon, box = content['annotations']
    assert polygon['segmentation'] == [[2, 3, 12, 3, 12, 23, 2, 23]]
    assert (polygon['bbox'], polygon['area'], box['bbox']) == (
        [2, 3, 10, 20],
        200,
        [20, 10, 20, 20],
    )
    # The keypoint lies in one box only.
    assert keypoints_of(content, 1) == {'tip': [30, 20, 2]} and 'keypoints' not in polygon
    assert not losses and content['categories'] == [dict(id=1, name='cat', keypoints=['tip'])]
    outside = dict(TIP, points=[[1, 1]])
    assert labelme_to_coco(labelme(BOX, outside))[1] == {
        'keypoints in no box, or in several: left out': 1
    }


def test_labelme_groups(labelme):
    shapes = [dict(each, group_id=7) for each in (SQUARE, BOX, TIP)]
    shapes.append(dict(TIP, group_id=7, label='tail', flags=dict(occluded=True)))
    shapes.append(dict(label='cat', shape_type='circle', points=[[1, 1], [2, 2]]))
    content, losses = labelme_to_coco(labelme(*shapes), keypoints=['head', 'tail', 'tip'])
    (only,) = content['annotations']
    assert only['bbox'] == [20, 10, 20, 20] and only['keypoints'] == [
        0,
        0,
        0,
        30,
        20,
        1,
        30,
        20,
        2,
    ]
    assert losses == {'shapes of the type circle left out': 1}


def test_labelme_keypoints_of_coco_get_its_order(labelme):
    shapes = [dict(TIP, label=name) for name in ('right_ankle', 'nose')]
    content, _ = labelme_to_coco(labelme(BOX, *shapes))
    assert content['categories'][0]['keypoints'] == list(COCO_KEYPOINTS)
    assert len(content['categories'][0]['skeleton']) == 19


def test_labelme_mask_at_the_corner(labelme):
    png = cv2.imencode('.png', np.full((2, 3), 255, np.uint8))[1].tobytes()
    mask = dict(label='cat', shape_type='mask', points=[[61, 46], [63, 47]])
    mask['mask'] = base64.b64encode(png).decode()
    content, _ = labelme_to_coco(labelme(mask))
    expected = np.zeros((48, 64), bool)
    expected[46:, 61:] = True
    assert (to_mask(content['annotations'][0]['segmentation'], 48, 64) == expected).all()
    assert content['annotations'][0]['area'] == 6
    for change in (dict(points=[[62, 46], [64, 47]]), dict(mask='?'), dict(mask='aGk=')):
        with pytest.raises(FormatError, match=r'a.json: shapes\[0\].mask: expected a gray PNG'):
            labelme_to_coco(labelme(mask | change))


def test_labelme_image_of_another_folder(labelme, tmp_path):
    folder = labelme(BOX, imagePath='..\\photos\\a.png')
    with pytest.raises(FormatError, match='imagePath: expected an image in .*--images FOLDER'):
        labelme_to_coco(folder)
    content, _ = labelme_to_coco(folder, images=folder.parent)
    assert content['images'][0]['file_name'] == 'photos/a.png'


def test_labelme_image_without_size(labelme, tmp_path):
    folder = labelme(BOX, imageHeight=None)
    with pytest.raises(FormatError, match="expected the width and height of 'a.png'"):
        labelme_to_coco(folder)
    save_image(folder / 'a.png', 30, 40)
    assert labelme_to_coco(folder)[0]['images'][0]['width'] == 40


@pytest.mark.parametrize(
    'change, match',
    [
        (dict(shapes=None), 'a.json: shapes: expected'),
        (dict(imagePath=3), 'a.json: imagePath: expected'),
        (dict(shapes=[dict(label='a')]), r'shapes\[0\].points: expected a value, found nothing'),
        (
            dict(shapes=[dict(SQUARE, points=[[1]])]),
            r'shapes\[0\].points\[0\]: expected at least 2',
        ),
        (dict(imageWidth=-1), 'expected width and height of an image'),
        (dict(imageWidth=10**9), 'expected width and height of an image of at most'),
    ],
)
def test_wrong_labelme_files(labelme, change, match):
    with pytest.raises(FormatError, match=match):
        labelme_to_coco(labelme(**change))


@pytest.mark.parametrize(
    'categories, match',
    [
        ({}, 'categories.json: categories: expected'),
        ([dict(id=1)], r'categories\[0\].name: expected a value, found nothing'),
        ([dict(id=1, name='a', keypoints='b')], r'categories\[0\].keypoints: expected'),
        ([dict(id=1, name='a'), dict(id=1, name='b')], r'json: id: expected COCO.*found \[1, 1\]'),
        ([dict(id=1, name='a'), dict(id=2, name='a')], 'json: name: expected COCO categories'),
    ],
)
def test_wrong_categories_beside_the_labels(labelme, studio, categories, match):
    folder = labelme(BOX)
    (folder / 'categories.json').write_text(json.dumps(categories))
    for read, path in ((labelme_to_coco, folder), (label_studio_to_coco, studio())):
        with pytest.raises(FormatError, match=match):
            read(path)


def test_missing_labelme_files(tmp_path):
    with pytest.raises(FormatError, match='expected a folder with JSON files of LabelMe'):
        labelme_to_coco(tmp_path)
    (tmp_path / 'a.json').write_text('{')
    with pytest.raises(FormatError, match='a.json: expected a file of LabelMe in JSON, found inv'):
        labelme_to_coco(tmp_path)


# CVAT


@pytest.fixture
def cvat(tmp_path):
    def write(shapes, labels='', image='name="a.png" width="64" height="48"'):
        text = (
            f'<annotations><version>1.1</version><meta><task><labels>{labels}</labels></task>'
            f'</meta><image id="0" {image}>{shapes}</image></annotations>'
        )
        (tmp_path / 'annotations.xml').write_text(text)
        return tmp_path

    return write


SKELETON = """
<label><name>cat</name><type>skeleton</type><svg>&lt;line data-node-from="2" data-node-to="1"&gt;
&lt;/line&gt;&lt;circle data-node-id="2" data-label-name="tip"&gt;&lt;/circle&gt;
&lt;circle data-node-id="1" data-label-name="tail"&gt;&lt;/circle&gt;</svg></label>
<label><name>tail</name><type>points</type><parent>cat</parent></label>
<label><name>tip</name><type>points</type><parent>cat</parent></label>
"""


def test_cvat_skeletons_alone(cvat):
    """A task whose only label is a skeleton, in the order of its template."""
    shapes = """
    <skeleton label="cat"><points label="tail" occluded="1" outside="0" points="10.5,20.5"/>
    <points label="tip" occluded="0" outside="0" points="30.50,40.50"/></skeleton>
    <skeleton label="cat"><points label="tip" outside="1" points="1,1"/></skeleton>
    """
    content, losses = cvat_to_coco(cvat(shapes, SKELETON))
    assert content['categories'] == [
        dict(id=1, name='cat', keypoints=['tip', 'tail'], skeleton=[[1, 2]])
    ]
    (only,) = content['annotations']
    assert only['keypoints'] == [30, 40, 2, 10, 20, 1] and only['bbox'] == [10.5, 20.5, 20, 20]
    assert losses == {
        'instances of keypoints alone: box derived from them': 1,
        'instances without box, mask and two keypoints left out': 1,
    }


def test_cvat_shapes_of_other_kinds(cvat):
    shapes = """
    <box label="cat" xtl="10" ytl="5" xbr="30.5" ybr="25" rotation="30.0" occluded="0"/>
    <ellipse label="cat" cx="1" cy="1" rx="1" ry="1"/><tag label="cat"/>
    <points label="tip" points="12,7" occluded="1"/>
    """
    content, losses = cvat_to_coco(cvat(shapes, '<label><name>cat</name></label>'))
    assert content['annotations'][0]['bbox'] == [10, 5, 20.5, 20]
    assert keypoints_of(content) == {'tip': [11.5, 6.5, 1]}
    assert losses == {
        'rotated boxes taken as upright': 1,
        'shapes of the type ellipse left out': 1,
        'shapes of the type tag left out': 1,
    }


@pytest.mark.parametrize(
    'arguments, match',
    [
        (
            ('<box label="a" xtl="1" ytl="2" xbr="x"/>',),
            "box 0: xbr: expected a number, found 'x'",
        ),
        (('<polygon label="a" points="1,2;3,4"/>',), 'polygon 0: points: expected 3 or more'),
        (('<polygon label="a" points="1,2;3"/>',), 'points: expected 3 or more as x,y;x,y'),
        (
            ('<mask label="a" rle="0, 5" left="0" top="0" width="2" height="2"/>',),
            "rle: expected runs of 4 pixels within the image, found '0, 5'",
        ),
        (
            ('<mask label="a" rle="4" left="63" top="0" width="2" height="2"/>',),
            'rle: expected runs of 4 pixels within the image',
        ),
        (
            ('', '', 'name="a.png" width="0" height="4"'),
            "image 'a.png': expected width and height",
        ),
        (
            ('', '', 'name="../a.png" width="4" height="4"'),
            "folder of the images, found '../a.png'",
        ),
        (('', '', 'width="4" height="4"'), "found ''"),
    ],
)
def test_wrong_cvat_files(cvat, arguments, match):
    with pytest.raises(FormatError, match=match):
        cvat_to_coco(cvat(*arguments))


def test_xml_with_entities(tmp_path):
    """Entities that expand to billions, or that read another file, are refused."""
    path = tmp_path / 'annotations.xml'
    (tmp_path / 'secret').write_text('secret')
    levels = ''.join(f'<!ENTITY a{i} "{f"&a{i - 1};" * 10}">' for i in range(1, 12))
    for declared, name in (
        (f'<!ENTITY a0 "aaaaaaaaaa">{levels}', 'a11'),
        (f'<!ENTITY file SYSTEM "{tmp_path / "secret"}">', 'file'),
    ):
        path.write_text(f'<!DOCTYPE x [{declared}]><annotations>&{name};</annotations>')
        with pytest.raises(FormatError, match='expected an XML file of CVAT'):
            cvat_to_coco(path)


def test_other_xml_files(tmp_path):
    path = tmp_path / 'annotations.xml'
    for text, match in (
        ('PK', 'expected an XML file of CVAT.*Unpack the archive'),
        ('<a/>', 'found the element <a>'),
        ('<annotations><track/></annotations>', 'found tracks of a video. Export the task'),
    ):
        path.write_text(text)
        with pytest.raises(FormatError, match=match):
            cvat_to_coco(path)
    with pytest.raises(FormatError, match='cannot be read'):
        cvat_to_coco(tmp_path / 'nothing.xml')


# Label Studio


def studio_region(kind, label, value, **fields):
    """A region of an export, in an image of 200 x 100 pixels."""
    return dict(
        type=kind,
        value={**value, kind: [label]},
        original_width=200,
        original_height=100,
        **fields,
    )


@pytest.fixture
def studio(tmp_path):
    def write(*regions, image='/data/upload/3/0a1b2c3d-photo%20a.png', **task):
        content = dict(data=dict(image=image), annotations=[dict(result=regions)]) | task
        (tmp_path / 'export.json').write_text(json.dumps([content]))
        return tmp_path / 'export.json'

    return write


RECTANGLE = dict(x=10, y=20, width=30, height=40, rotation=0)


def test_label_studio_export(studio):
    path = studio(
        studio_region('rectanglelabels', 'cat', RECTANGLE, id='A'),
        studio_region('keypointlabels', 'tip', dict(x=25, y=50, width=1), id='B', parentID='A'),
        studio_region('keypointlabels', 'tail', dict(x=12, y=30, width=1), id='C'),
        studio_region('polygonlabels', 'dog', dict(points=[[60, 60], [90, 60], [90, 90]]), id='D'),
        studio_region('ellipselabels', 'cat', dict(x=1, y=1)),
        dict(type='relation', from_id='A', to_id='D'),
    )
    content, losses = label_studio_to_coco(path)
    assert content['images'] == [dict(id=1, file_name='photo a.png', width=200, height=100)]
    cat, dog = content['annotations']
    assert cat['bbox'] == [20, 20, 60, 40] and dog['segmentation'] == [[120, 60, 180, 60, 180, 90]]
    assert keypoints_of(content) == {'tip': [49.5, 49.5, 2], 'tail': [23.5, 29.5, 2]}
    assert losses == {
        'regions of the type ellipselabels left out': 1,
        'regions of the type relation left out': 1,
    }


@pytest.mark.parametrize(
    'url, name',
    [
        ('/data/local-files/?d=photos/a%20b.png', 'photos/a b.png'),
        ('http://host/photos/a.png?token=1', 'a.png'),
        ('photos/a.png', 'photos/a.png'),
    ],
)
def test_label_studio_urls(studio, url, name):
    content, _ = label_studio_to_coco(studio(studio_region('brush', 'a', {}), image=url))
    assert content['images'][0]['file_name'] == name


def test_label_studio_tasks_without_annotations(studio):
    cancelled = dict(result=[], was_cancelled=True)
    content, losses = label_studio_to_coco(studio(annotations=[cancelled]))
    assert content['images'] == [] and losses == {'tasks without an annotation left out': 1}
    done = dict(result=[studio_region('rectanglelabels', 'cat', RECTANGLE)])
    content, losses = label_studio_to_coco(studio(annotations=[cancelled, done, done]))
    assert len(content['annotations']) == 1
    assert losses == {'further annotations of a task left out': 1}


def test_label_studio_image_without_regions(studio, tmp_path):
    path = studio()
    with pytest.raises(
        FormatError, match=r"\[0\]: expected the width and height of 'photo a.png'"
    ):
        label_studio_to_coco(path)
    save_image(tmp_path / 'photo a.png', 30, 40)
    content, _ = label_studio_to_coco(path, tmp_path)
    assert content['images'][0]['width'] == 40 and content['annotations'] == []


def test_label_studio_runs_of_single_values():
    """Values one by one, as its JavaScript packs short runs; here 8 values in 2 chunks."""
    values = [0, 0, 0, 255, 0, 0, 0, 0]  # one row of 2 pixels, RGBA
    bits = f'{8:032b}' + '00111' + '0010' + '0011' + '0111' + '1111'
    bits += '0' + '00' + '011' + ''.join(f'{value:08b}' for value in values[:4])
    bits += '1' + '00' + '011' + '00000000'
    bits += '0' * (-len(bits) % 8)
    content = [int(bits[i : i + 8], 2) for i in range(0, len(bits), 8)]
    assert decode_rle(content, (1, 2), 'rle').tolist() == [[True, False]]
    for wrong in (content[:-2], content + [0], [], None, 10**12, ['x'], [300]):
        if wrong == content + [0]:
            assert decode_rle(wrong, (1, 2), 'rle')[0, 0]  # padding
            continue
        with pytest.raises(FormatError, match='rle: expected the RLE of 2 x 1 pixels'):
            decode_rle(wrong, (1, 2), 'rle')


@pytest.mark.parametrize(
    'regions, match',
    [
        (
            [studio_region('rectanglelabels', 'a', dict(x='1'))],
            r'result\[0\].value: expected numb',
        ),
        ([studio_region('polygonlabels', 'a', dict(points=[[1, 2]]))], '.points: expected 3 corn'),
        (
            [studio_region('brushlabels', 'a', dict(rle=[1]))],
            '.rle: expected the RLE of 200 x 100',
        ),
        ([dict(type=3)], r'tasks\[0\].annotations\[0\].result\[0\].type: expected a valid string'),
        ([dict(type='a', original_width=10**9, original_height=9)], 'at most 178956970 pixels'),
    ],
)
def test_wrong_label_studio_files(studio, regions, match):
    with pytest.raises(FormatError, match=match):
        label_studio_to_coco(studio(*regions))


def test_other_json_files(studio, tmp_path):
    with pytest.raises(FormatError, match=r'\[0\].data: expected the image of the task'):
        label_studio_to_coco(studio(data={}))
    (tmp_path / 'export.json').write_text('{}')
    with pytest.raises(FormatError, match='tasks: expected a valid list.*JSON export of Label St'):
        label_studio_to_coco(tmp_path / 'export.json')
    with pytest.raises(FormatError, match="folder of the images, found '../a.png'"):
        label_studio_to_coco(studio(studio_region('a', 'a', {}), image='../a.png'))
