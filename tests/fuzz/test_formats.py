"""Mutated files of annotation tools: read, or refused with a sentence."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from multitask_refine.datasets import repair
from multitask_runtime import FormatError, InputError
from multitask_runtime.formats import (
    coco_to_cvat,
    coco_to_label_studio,
    coco_to_labelme,
    coco_to_yolo,
    cvat_to_coco,
    label_studio_to_coco,
    labelme_to_coco,
    yolo_to_coco,
)
from tests.fuzz.mutations import mutated_bytes, mutated_json, portion
from tests.test_runtime.test_formats.drawn import make_dataset, write_images

NAME = 'by hand.png'
PIECES = (b'<', b'"', b';', b',', b' 0.5', b'-1', b'9' * 30, b'nan', b'\n', b'\xff')


@pytest.fixture(scope='module')
def written(tmp_path_factory):
    """The drawn dataset in each format, of one image."""
    folder = tmp_path_factory.mktemp('written')
    content, arrays = make_dataset()
    (image,) = (each for each in content['images'] if each['file_name'] == NAME)
    kept = [each for each in content['annotations'] if each['image_id'] == image['id']]
    people = [each for each in kept if each['category_id'] == 1]
    content = dict(images=[image], annotations=kept, categories=content['categories'])
    images = write_images(folder / 'images', {NAME: arrays[NAME]})
    coco_to_labelme(content, folder / 'labelme', images)
    coco_to_label_studio(content, folder / 'studio')
    coco_to_cvat(content, folder / 'annotations.xml')
    persons = dict(content, annotations=people, categories=content['categories'][:1])
    coco_to_yolo(persons, folder / 'yolo', 'pose', images=images)
    return folder


def read(function, *args):
    """Read a dataset; what is read can be checked and written."""
    try:
        content, losses = function(*args)
    except (FormatError, InputError) as error:
        assert str(error)
        return
    repaired, _ = repair(json.loads(json.dumps(content, allow_nan=False)))
    assert repaired['images'] or not content['images']
    assert all(isinstance(count, int) for count in losses.values())


@settings(max_examples=portion(0.5))
@given(data=st.data())
@pytest.mark.parametrize(
    'path, function',
    [('labelme/by hand.json', labelme_to_coco), ('studio/tasks.json', label_studio_to_coco)],
)
def test_json_of_tools(written, path, function, data):
    original = json.loads((written / path).read_text())
    file = written / 'mutated' / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(data.draw(mutated_json(original))))
    read(function, file.parent, written / 'images')


@settings(max_examples=portion(0.5))
@given(data=st.data())
def test_xml_of_cvat(written, data):
    file = written / 'mutated.xml'
    original = (written / 'annotations.xml').read_bytes()
    file.write_bytes(data.draw(mutated_bytes(original, PIECES)))
    read(cvat_to_coco, file)


@settings(max_examples=portion(0.5))
@given(data=st.data())
def test_labels_of_yolo(written, data):
    labels, settings_file = written / 'yolo/labels/train/by hand.txt', written / 'yolo/data.yaml'
    for file in (labels, settings_file):
        backup = file.with_suffix('.original')
        if not backup.exists():
            backup.write_bytes(file.read_bytes())
        original = backup.read_bytes()
        mutate = data.draw(st.booleans())
        file.write_bytes(data.draw(mutated_bytes(original, PIECES)) if mutate else original)
    read(yolo_to_coco, settings_file)
