"""Exports of results as read by the libraries that own the formats."""

import json
from xml.etree import ElementTree

import cv2
import numpy as np
import pytest

from multitask_runtime.formats import labeling_config
from multitask_runtime.formats.label_studio import encode_rle
from tests.test_runtime.test_result import BOXES, MASKS, make_result


def test_labelme_reads_its_file(tmp_path):
    label_file = pytest.importorskip('labelme._label_file', reason='LabelMe brings Qt')
    from labelme.utils import shapes_to_label

    result = make_result()
    cv2.imwrite(str(tmp_path / result.file_name), result.image)
    (tmp_path / 'a.json').write_text(json.dumps(result.to_labelme()))
    data = label_file.read_label_file(str(tmp_path / 'a.json'))
    assert data.image_path == result.file_name and len(data.shapes) == 6
    areas = [dict(shape) for shape in data.shapes if shape['shape_type'] in ('polygon', 'mask')]
    _, instances = shapes_to_label((48, 64), areas, dict(person=1))
    assert (MASKS[0] <= (instances == 1)).all()  # LabelMe draws the border of polygons, too
    assert ((instances == 2) == MASKS[1]).all()


def test_cvat_by_hand():
    root = ElementTree.fromstring(make_result().to_cvat())
    assert root.findtext('version') == '1.1'
    names = [label.findtext('name') for label in root.iter('label')]
    assert names == ['person', 'person_skeleton', 'head', 'foot']
    parents = [label.findtext('parent') for label in root.iter('label')]
    assert parents == [None, None, 'person_skeleton', 'person_skeleton']
    svg = ElementTree.fromstring(f'<svg>{root.findtext(".//svg")}</svg>')
    assert [each.get('data-label-name') for each in svg.iter('circle')] == ['head', 'foot']
    (link,) = svg.iter('line')
    assert (link.get('data-node-from'), link.get('data-node-to')) == ('1', '2')
    (image,) = root.iter('image')
    assert image.attrib == dict(id='0', name='array-000000.png', width='64', height='48')
    tags = [(shape.tag, shape.get('group_id')) for shape in image]
    assert tags == [
        ('box', '1'),
        ('polygon', '1'),
        ('skeleton', '1'),
        ('mask', '2'),
        ('skeleton', '2'),
    ]
    assert [image.find('box').get(name) for name in ('xtl', 'ytl', 'xbr', 'ybr')] == [
        *('10', '5', '30.5', '40')
    ]
    mask = image.find('mask')
    place = [int(mask.get(name)) for name in ('left', 'top', 'width', 'height')]
    assert place == [34, 8, 10, 20]
    # Rows of 10 pixels: 4 full ones, then 3 with, 4 without and 3 with, and so on.
    runs = [int(text) for text in mask.get('rle').split(', ')]
    assert runs[:5] == [0, 43, 4, 6, 4] and sum(runs) == 200
    head, foot = image.findall('skeleton')[1]
    assert (head.get('points'), head.get('outside')) == ('40.5,12.5', '0')
    assert (foot.get('label'), foot.get('outside')) == ('foot', '1')


def test_datumaro_reads_the_cvat_file(tmp_path):
    dm = pytest.importorskip('datumaro', reason='datumaro brings other versions of packages')
    result = make_result()
    (tmp_path / 'images').mkdir()
    cv2.imwrite(str(tmp_path / 'images' / result.file_name), result.image)
    (tmp_path / 'a.xml').write_text(result.to_cvat())
    (item,) = dm.Dataset.import_from(str(tmp_path), 'cvat')
    kinds = [annotation.type.name for annotation in item.annotations]
    assert kinds[:2] == ['bbox', 'polygon'] and 'mask' in kinds
    np.testing.assert_allclose(item.annotations[0].points, BOXES[0])
    (mask,) = [each for each in item.annotations if each.type.name == 'mask']
    assert (mask.image == MASKS[1]).all()


def test_label_studio_by_hand():
    result = make_result()
    task = result.to_label_studio(image_url='/data/a.png')
    assert task['data'] == dict(image='/data/a.png', width=64, height=48)
    (prediction,) = task['predictions']
    regions = prediction['result']
    assert [(region['id'], region.get('parentID'), region['type']) for region in regions] == [
        ('0-0', None, 'rectanglelabels'),
        ('0-1', '0-0', 'polygonlabels'),
        ('0-2', '0-0', 'keypointlabels'),
        ('0-3', '0-0', 'keypointlabels'),
        ('1-0', None, 'brushlabels'),
        ('1-1', '1-0', 'keypointlabels'),
    ]
    box = regions[0]['value']
    expected = [10 / 64, 5 / 48, 20.5 / 64, 35 / 48]
    np.testing.assert_allclose(
        [box[k] for k in ('x', 'y', 'width', 'height')], np.multiply(expected, 100)
    )
    head = regions[2]['value']
    np.testing.assert_allclose([head['x'], head['y']], [100 * 20.5 / 64, 100 * 10.5 / 48])
    assert head['keypointlabels'] == ['head']
    json.dumps(task, allow_nan=False)


def test_label_studio_runs_by_hand():
    """One row of 3 pixels, of which the second is set."""
    content = encode_rle(np.array([[False, True, False]]))
    bits = ''.join(f'{byte:08b}' for byte in content)
    assert bits[:32] == f'{12:032b}' and bits[32:37] == '00111'  # 12 values of 8 bits
    assert bits[37:53] == '0010' + '0011' + '0111' + '1111'  # runs of 3, 4, 8 or 16 bits
    run = '1' + '00' + '011'  # repeated, first size, 4 values
    assert bits[53:].rstrip('0') == (run + '0' * 8 + run + '1' * 8 + run + '0' * 8).rstrip('0')
    assert len(content) == -(-(53 + 3 * 14) // 8)


def test_label_studio_reads_its_task():
    pytest.importorskip('label_studio_sdk', reason='its SDK brings other versions of packages')
    from label_studio_sdk.converter.brush import decode_rle
    from label_studio_sdk.label_interface import LabelInterface

    result = make_result()
    categories = {each['id']: each for each in result.to_coco()['categories']}
    interface = LabelInterface(labeling_config(categories))
    task = result.to_label_studio()
    assert interface.validate_prediction(task['predictions'][0], return_errors=True) == []
    (brush,) = [r for r in task['predictions'][0]['result'] if r['type'] == 'brushlabels']
    decoded = decode_rle(brush['value']['rle']).reshape(48, 64, 4)
    assert ((decoded[..., 3] > 0) == MASKS[1]).all()
    wide = np.zeros((300, 400), bool)  # runs of more than 65536 values
    wide[250:, 5:] = True
    assert ((decode_rle(encode_rle(wide)).reshape(300, 400, 4)[..., 3] > 0) == wide).all()
