"""tools/dataset/check_coco.py: each rule and its repair, images, options."""

import copy
import io
import json
import time

import cv2
import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_mask

from multitask_refine.datasets import AnnotationError, read_annotations, repair
from multitask_refine.datasets.validation.coordinates import FILE_RULES
from multitask_refine.datasets.validation.images import NOTES, find_truncation, list_missing
from multitask_refine.datasets.validation.masks import decompress_counts
from tests.conftest import ROOT
from tools.dataset import check_coco, make_sample

NAN = float('nan')


def _content():
    """Two images of 64 x 48 pixels; one instance of 20 x 30, one crowd."""
    keypoints = [12, 12, 2, 20, 20, 1, 0, 0, 0]
    person = dict(
        id=1,
        image_id=1,
        category_id=1,
        iscrowd=0,
        bbox=[10, 10, 20, 30],
        area=600,
        segmentation=[[10, 10, 30, 10, 30, 40, 10, 40]],
        keypoints=keypoints,
        num_keypoints=2,
        seen_by='me',
    )
    crowd = dict(
        person,
        id=2,
        iscrowd=1,
        bbox=[50, 0, 14, 48],
        area=672,
        segmentation=dict(size=[48, 64], counts=[50 * 48, 14 * 48]),
        keypoints=[0] * 9,
        num_keypoints=0,
    )
    return dict(
        info=dict(year=2020),
        images=[
            dict(id=number, file_name=f'{number}.png', width=64, height=48) for number in (1, 2)
        ],
        annotations=[person, crowd],
        categories=[dict(id=1, name='person', keypoints=['a', 'b', 'c'])],
    )


def _write(path, content):
    path.write_text(json.dumps(content))
    return str(path)


def _check(tmp_path, content, *options):
    """Return exit status, issues as JSON, and the repaired content."""
    path = _write(tmp_path / 'in.json', content)
    for name in ('out.json', 'issues.json'):
        (tmp_path / name).unlink(missing_ok=True)
    status = check_coco.main(
        [
            path,
            '--fix',
            str(tmp_path / 'out.json'),
            '--json',
            str(tmp_path / 'issues.json'),
            *options,
        ]
    )
    found = json.loads((tmp_path / 'issues.json').read_text())
    return status, found, json.loads((tmp_path / 'out.json').read_text())


def test_valid_file(tmp_path, capsys):
    status, found, fixed = _check(tmp_path, _content())
    assert (status, found['issues'], found['notes']) == (0, [], {})
    assert fixed == _content()
    assert 'in.json: no issues' in capsys.readouterr().out


# Field and invalid value, the rule that it breaks, and the repaired value.
REMOVED = object()
PERSON = [
    ('iscrowd', 2, 'iscrowd', 0),
    ('iscrowd', None, 'iscrowd', 0),
    ('bbox', None, 'box', [10, 10, 20, 30]),
    ('bbox', [10, 10, 20], 'box', REMOVED),
    ('bbox', [10, NAN, 20, 30], 'box', REMOVED),
    ('bbox', ['10', 10, 20, 30], 'box', REMOVED),
    ('bbox', [10, 10, 0, 30], 'box', REMOVED),
    ('bbox', [64, 10, 5, 5], 'box', REMOVED),
    ('bbox', [10, 10, 20, 39.5], 'box_overhang', [10, 10, 20, 38]),
    ('bbox', [10, 10, 2, 2], 'box_and_mask', [10, 10, 20, 30]),
    ('segmentation', [[10, 10, 30, 10]], 'segmentation', []),
    ('segmentation', [[10, 10, 30, 10, 30, 40, 10]], 'segmentation', []),
    ('segmentation', [[10, 10, 30, NAN, 30, 40]], 'segmentation', []),
    ('segmentation', [[10, 10, '30', 10, 30, 40]], 'segmentation', []),
    ('segmentation', [[10, 10, 1e8, 10, 30, 40]], 'segmentation', []),
    ('segmentation', 'mask', 'segmentation', []),
    (
        'segmentation',
        [[1, 2], [10, 10, 30, 10, 30, 40, 10, 40]],
        'segmentation',
        [[10, 10, 30, 10, 30, 40, 10, 40]],
    ),
    ('segmentation', dict(size=[64, 48], counts=[3000, 72]), 'segmentation', []),
    ('segmentation', dict(size=[48, 64], counts=[3000, 71]), 'segmentation', []),
    ('segmentation', dict(size=[48, 64], counts=[-1, 3073]), 'segmentation', []),
    ('segmentation', dict(size=[48, 64], counts=[3072]), 'segmentation', []),
    ('segmentation', dict(size=[48, 64], counts='not runs'), 'segmentation', []),
    ('segmentation', dict(size=[48, 64], counts='o' * 40), 'segmentation', []),
    ('area', None, 'area', 600),
    ('area', NAN, 'area', 600),
    ('area', 0, 'area', 600),
    ('area', -5, 'area', 600),
    ('area', '600', 'area', 600),
    ('area', 0.2, 'area_differs', 600),
    ('area', 6000, 'area_differs', 600),
    ('keypoints', [1, 1, 2], 'keypoints', [0] * 9),
    ('keypoints', 'abc', 'keypoints', [0] * 9),
    (
        'keypoints',
        [12, 12, 2, NAN, 20, 1, 0, 0, 0],
        'keypoint_values',
        [12, 12, 2, 0, 0, 0, 0, 0, 0],
    ),
    (
        'keypoints',
        [12, 12, 3, 20, 20, 1, 0, 0, 0],
        'keypoint_values',
        [0, 0, 0, 20, 20, 1, 0, 0, 0],
    ),
    (
        'keypoints',
        [12, 12, 2, 66, 20, 1, 0, 0, 0],
        'keypoint_outside',
        [12, 12, 2, 0, 0, 0, 0, 0, 0],
    ),
    ('num_keypoints', 3, 'num_keypoints', 2),
    ('num_keypoints', None, 'num_keypoints', 2),
    ('score', dict(of=[NAN]), 'not_finite', dict(of=[None])),
    ('image_id', 7, 'dangling_image', REMOVED),
    ('image_id', '1.5', 'dangling_image', REMOVED),
    ('image_id', '01', 'number', 1),
    ('category_id', 1.0, 'number', 1),
    ('iscrowd', '0', 'number', 0),
    ('num_keypoints', 2.0, 'number', 2),
    ('bbox', [10, 10, 0.8, 30], 'box_and_mask', [10, 10, 20, 30]),
    ('ignore', 1, 'ignore', REMOVED),
    ('id', 0, 'annotation_id_0', 3),
    ('id', 2**63, 'annotation_id', 3),
    ('category_id', 2, 'dangling_category', REMOVED),
    ('id', 'one', 'annotation_id', 3),
    ('id', 2, 'annotation_id', 2),
]


@pytest.mark.parametrize('field, value, rule, left', PERSON)
def test_rules_of_an_annotation(field, value, rule, left, tmp_path):
    content = _content()
    content['annotations'][0][field] = value
    if value is None:
        del content['annotations'][0][field]
    status, found, fixed = _check(tmp_path, content)
    assert status == 1
    assert [each['rule'] for each in found['issues']] == [rule]
    people = [ann for ann in fixed['annotations'] if not ann['iscrowd']]
    if left is REMOVED:
        assert people == []
        assert found['issues'][0]['fix'] == 'annotation removed'
    else:
        (person,) = people
        assert person[field] == left
        assert person['seen_by'] == 'me'
        assert sum(v > 0 for v in person['keypoints'][2::3]) == person['num_keypoints']
    assert len(fixed['annotations']) == len(people) + 1
    assert check_coco.main([str(tmp_path / 'out.json')]) == 0


# Of the second image, which has no annotations.
IMAGE = [
    ('id', '2', 'number', 2),
    ('id', 'two', 'image_id', 2),
    ('id', 2**63, 'image_id', 2),
    ('id', 2.5, 'image_id', REMOVED),
    ('id', 1, 'image_id', REMOVED),
    ('width', 64.0, 'number', 64),
    ('height', '48', 'number', 48),
    ('width', 0, 'image_size', REMOVED),
    ('height', 48.5, 'image_size', REMOVED),
    ('height', 10**9, 'image_size', REMOVED),
    ('file_name', None, 'file_name', REMOVED),
    ('file_name', '/etc/passwd', 'file_name', REMOVED),
    ('file_name', 'a/../../b.png', 'file_name', REMOVED),
    ('file_name', '..\\b.png', 'file_name', REMOVED),
    ('file_name', 'C:\\b.png', 'file_name', REMOVED),
    ('file_name', 'a\\b.png', 'file_name', 'a/b.png'),
    ('file_name', '1.png', 'shared_file', REMOVED),
    ('taken', NAN, 'not_finite', None),
]


@pytest.mark.parametrize('field, value, rule, left', IMAGE)
def test_rules_of_an_image(field, value, rule, left, tmp_path):
    content = _content()
    content['images'][1][field] = value
    status, found, fixed = _check(tmp_path, content)
    assert status == 1
    assert [each['rule'] for each in found['issues']] == [rule]
    assert fixed['images'][0] == _content()['images'][0]
    assert [image[field] for image in fixed['images'][1:]] == ([] if left is REMOVED else [left])
    assert check_coco.main([str(tmp_path / 'out.json')]) == 0


def test_invalid_entries_and_categories(tmp_path):
    content = _content()
    content['images'].append(3)
    content['annotations'].append('person')
    content['annotations'].append(copy.deepcopy(content['annotations'][0]))
    content['categories'] += [dict(id=1, name='horse'), dict(id=2), None]
    content['info']['version'] = NAN
    _, found, fixed = _check(tmp_path, content)
    assert [each['rule'] for each in found['issues']] == ['category'] * 3 + [
        'entry',
        'entry',
        'annotation_id',
        'not_finite',
    ]
    expected = _content()
    expected['info']['version'] = None
    assert fixed == expected


def test_annotations_of_removed_and_merged_images(tmp_path):
    content = _content()
    content['annotations'][1]['image_id'] = 2
    content['images'][1]['file_name'] = '1.png'
    _, _, fixed = _check(tmp_path, content)
    assert [ann['image_id'] for ann in fixed['annotations']] == [1, 1]
    content['images'][1].update(file_name='2.png', width=0)
    _, _, fixed = _check(tmp_path, content)
    assert [ann['id'] for ann in fixed['annotations']] == [1]


def test_deviations_of_coco_are_valid():
    """Boxes and keypoints slightly outside; areas of overlapping polygons."""
    content = _content()
    person = content['annotations'][0]
    person.update(bbox=[-0.6, 10, 30, 38.9], area=700)
    person['keypoints'][:2] = [-0.9, 48]
    assert repair(content) == (content, [])
    del content['annotations']
    assert repair(content) == (content, [])


def test_number_of_keypoints_of_category_or_meta_file(tmp_path):
    content = _content()
    assert check_coco.main([_write(tmp_path / 'a.json', content), '--meta', 'coco.py']) == 1
    for ann in content['annotations']:
        ann['keypoints'] = [0] * 51
        ann['num_keypoints'] = 0
    path = _write(tmp_path / 'b.json', content)
    assert check_coco.main([path, '--meta', 'coco.py']) == 0
    assert check_coco.main([path]) == 1


@pytest.mark.parametrize(
    'text, reason',
    [
        ('[]', 'expected an object'),
        ('{"images": [], "categories": {}}', 'categories: expected a list'),
        ('{"categories": []}', 'images: expected a list, found nothing'),
        ('{"images": [', 'expected a COCO annotation file in JSON'),
        ('[' * 100000, 'expected a COCO annotation file in JSON'),
    ],
)
def test_invalid_files(text, reason, tmp_path, capsys):
    path = tmp_path / 'in.json'
    path.write_text(text)
    assert check_coco.main([str(path)]) == 1
    error = capsys.readouterr().err
    assert str(path) in error and reason in error
    with pytest.raises(AnnotationError):
        read_annotations(str(path))


def test_repaired_file_without_images_is_not_written(tmp_path, capsys):
    content = _content()
    for image in content['images']:
        image['width'] = 0
    path = _write(tmp_path / 'in.json', content)
    assert check_coco.main([path, '--fix', str(tmp_path / 'out.json')]) == 1
    assert 'no image would be left' in capsys.readouterr().err
    assert [each.name for each in tmp_path.iterdir()] == ['in.json']


def test_invalid_options_exit_with_2(tmp_path):
    path = _write(tmp_path / 'in.json', _content())
    for options in (
        ['nothing.json'],
        [path, '--fix', path],
        [path, '--json', path],
        [path, '--images', str(tmp_path / 'none')],
        [path, '--fix', str(tmp_path / 'none/out.json')],
        [path, '--workers', '0'],
    ):
        with pytest.raises(SystemExit) as end:
            check_coco.main(options)
        assert end.value.code == 2
    assert check_coco.main([path, '--meta', 'nothing.py']) == 2
    assert json.loads((tmp_path / 'in.json').read_text()) == _content()


def test_json_replaces_only_issues_of_an_earlier_check(tmp_path, capsys):
    path, other = _write(tmp_path / 'in.json', _content()), tmp_path / 'issues.json'
    for content in ('my notes', '[1]', '{"file": "mine"}'):
        other.write_text(content)
        with pytest.raises(SystemExit) as end:
            check_coco.main([path, '--json', str(other)])
        assert end.value.code == 2
        assert other.read_text() == content
        assert 'found another file' in ' '.join(capsys.readouterr().err.split())
    other.unlink()
    for _ in range(2):
        assert check_coco.main([path, '--json', str(other)]) == 0


def test_first_issues_or_all(tmp_path, capsys):
    content = _content()
    content['annotations'] += [
        dict(content['annotations'][0], id=number, image_id=9) for number in range(3, 8)
    ]
    path = _write(tmp_path / 'in.json', content)
    check_coco.main([path])
    text = capsys.readouterr().out
    assert 'dangling_image: 5\n' in text and 'and 2 more (--all)' in text
    assert 'annotation 5 of' in text and 'annotation 6 of' not in text
    check_coco.main([path, '--all'])
    text = capsys.readouterr().out
    assert 'annotation 7 of' in text and 'more' not in text


def test_decompress_counts():
    """'1' is 1, 'O' is 31 with the sign bit: -1; 'P' is 0 and more to come,
    then 2 times 32. From the fourth on, differences to the last but one."""
    assert decompress_counts('123') == [1, 2, 3]
    assert decompress_counts('1234') == [1, 2, 3, 6]
    assert decompress_counts('P2') == [2 * 32]
    assert decompress_counts('O') == [-1]
    assert decompress_counts('P') is None and decompress_counts('1 ') is None


def test_decompress_counts_of_pycocotools():
    mask = np.random.default_rng(0).random((200, 300)) < 0.01
    code = coco_mask.encode(np.asfortranarray(mask, np.uint8))
    runs = decompress_counts(code['counts'].decode())
    decoded = np.repeat(np.arange(len(runs)) % 2, runs).reshape(300, 200).T
    assert (decoded == mask).all()


# ---- images


def _image(mode='RGB', size=(64, 48)):
    gradient = np.linspace(0, 255, size[0] * size[1], dtype=np.uint8)
    image = Image.fromarray(gradient.reshape(size[::-1]))
    return image.convert(mode)


def _coded(format, mode='RGB', size=(64, 48), **options):
    file = io.BytesIO()
    _image(mode, size).save(file, format, **options)
    return file.getvalue()


def _check_image(tmp_path, data, name='2.png', has_instances=False):
    content = _content()
    content['images'][1]['file_name'] = name
    if has_instances:
        content['annotations'][1]['image_id'] = 2
    (tmp_path / '1.png').write_bytes(_coded('PNG'))
    if data is not None:
        (tmp_path / name).write_bytes(data)
    return _check(tmp_path, content, '--images', str(tmp_path))


def _turned(orientation, size):
    exif = Image.Exif()
    exif[0x0112] = orientation
    return _coded('JPEG', size=size, exif=exif)


def _with_thumbnail():
    """A JPEG cut in the middle, which has a whole one inside its head."""
    thumbnail, photo = _coded('JPEG'), _coded('JPEG', size=(640, 480))
    head = b'\xff\xe1' + (len(thumbnail) + 2).to_bytes(2, 'big') + thumbnail
    return photo[:2] + head + photo[2 : len(photo) // 2]


def _bomb():
    """A PNG that says it has 60000 x 60000 pixels."""
    data = bytearray(_coded('PNG'))
    data[16:24] = (60000).to_bytes(4, 'big') * 2
    return bytes(data)


BAD = {
    'missing': (None, 'image_missing'),
    'empty': (b'', 'image_truncated'),
    'text': (b'<html>not found</html>', 'image_unreadable'),
    'bomb': (_bomb(), 'image_unreadable'),
    'cut jpeg': (_coded('JPEG')[:-40], 'image_truncated'),
    'thumbnail': (_with_thumbnail(), 'image_truncated'),
    'cut png': (_coded('PNG')[:-20], 'image_truncated'),
    'cut bmp': (_coded('BMP')[:-500], 'image_unreadable'),
    'size': (_coded('PNG', size=(48, 48)), 'image_shape'),
    'turned': (_turned(6, (64, 48)), 'image_rotated'),
}


@pytest.mark.parametrize('kind', BAD)
def test_invalid_images_are_removed_with_their_annotations(kind, tmp_path):
    data, rule = BAD[kind]
    status, found, fixed = _check_image(tmp_path, data, has_instances=True)
    assert status == 1
    assert [each['rule'] for each in found['issues']] == [rule]
    assert [image['id'] for image in fixed['images']] == [1]
    assert [ann['id'] for ann in fixed['annotations']] == [1]
    assert check_coco.main([str(tmp_path / 'out.json'), '--images', str(tmp_path)]) == 0


@pytest.mark.parametrize(
    'data, size', [(_coded('PNG', size=(40, 30)), (40, 30)), (_turned(6, (64, 48)), (48, 64))]
)
def test_size_of_image_without_annotations_is_corrected(data, size, tmp_path):
    _, _, fixed = _check_image(tmp_path, data)
    assert (fixed['images'][1]['width'], fixed['images'][1]['height']) == size
    assert check_coco.main([str(tmp_path / 'out.json'), '--images', str(tmp_path)]) == 0


def test_missing_size_is_measured(tmp_path):
    """Without --images the entry is removed."""
    content = _content()
    content['images'][0].update(width=None, height='')
    (tmp_path / '1.png').write_bytes(_coded('PNG'))
    (tmp_path / '2.png').write_bytes(_coded('PNG'))
    _, found, fixed = _check(tmp_path, content, '--images', str(tmp_path))
    assert [each['rule'] for each in found['issues']] == ['image_size']
    assert fixed == _content()
    _, _, fixed = _check(tmp_path, content)
    assert [image['id'] for image in fixed['images']] == [2]
    content['images'][0].update(file_name='../1.png')
    _, _, fixed = _check(tmp_path, content, '--images', str(tmp_path))
    assert [image['id'] for image in fixed['images']] == [2]


@pytest.mark.parametrize(
    'listed, stored', [('a.png', 'a.PNG'), ('caf\u00e9 1.png', 'cafe\u0301 1.png')]
)
def test_file_names_of_another_case_or_normalization(listed, stored, tmp_path):
    (tmp_path / stored).write_bytes(_coded('PNG'))
    if (tmp_path / listed).exists():
        pytest.skip('a file system that takes both for the same')
    content = _content()
    content['images'][1]['file_name'] = listed
    (tmp_path / '1.png').write_bytes(_coded('PNG'))
    _, found, fixed = _check(tmp_path, content, '--images', str(tmp_path))
    assert [each['rule'] for each in found['issues']] == ['file_name']
    assert fixed['images'][1]['file_name'] == stored


def _deep():
    return cv2.imencode('.png', np.full((48, 64, 3), 40000, np.uint16))[1]


KINDS = {
    'plain': (_coded('JPEG'), []),
    'gray': (_coded('PNG', 'L'), ['grayscale']),
    'deep': (_deep().tobytes(), ['16 bit']),
    '16-bit gray': (_coded('PNG', 'I;16'), ['grayscale', '16 bit']),
    'cmyk': (_coded('JPEG', 'CMYK'), ['CMYK']),
    'palette': (_coded('PNG', 'P'), ['palette']),
    'rgba': (_coded('PNG', 'RGBA'), ['transparent']),
    'upside down': (_turned(3, (64, 48)), ['rotated by EXIF']),
    'turned and annotated so': (_turned(8, (48, 64)), ['rotated by EXIF']),
    'jpeg and more': (_coded('JPEG') + b'\0' * 5000, []),
}


@pytest.mark.parametrize('kind', KINDS)
def test_image_notes(kind, tmp_path):
    data, notes = KINDS[kind]
    status, found, _ = _check_image(tmp_path, data, has_instances=True)
    assert status == 0, found
    assert found['notes'] == {note: [2] for note in notes}


def test_every_truncation_is_detected():
    """Up to the last byte before the end mark."""
    for photo, end in ((_coded('JPEG', progressive=True), 2), (_coded('PNG'), 12)):
        assert find_truncation(photo) is None
        assert all(find_truncation(photo[:length]) for length in range(8, len(photo) - end + 1))


def test_list_missing(tmp_path):
    (tmp_path / 'a').mkdir()
    (tmp_path / 'a/1.png').write_bytes(b'')
    paths = [str(tmp_path / name) for name in ('a/1.png', 'a/2.png', 'b/1.png', '1.png')]
    assert list_missing(paths) == set(paths[1:])


@pytest.mark.parametrize('split', ['train', 'val'])
@pytest.mark.parametrize('kind', ['person_keypoints', 'instances'])
def test_coco_is_valid(kind, split, tiny_coco, capsys):
    path = tiny_coco / f'annotations/{kind}_{split}2017.json'
    status = check_coco.main([str(path), '--images', str(tiny_coco / f'{split}2017')])
    assert status == 0, capsys.readouterr().out


@pytest.mark.exhaustive
def test_drawn_sample_is_valid(tmp_path):
    out = tmp_path / 'sample'
    make_sample.main([str(out), '--size', '96', '--train', '8', '--val', '0'])
    assert (
        check_coco.main(
            [
                str(out / 'annotations/person_keypoints_train2017.json'),
                '--images',
                str(out / 'train2017'),
                '--meta',
                'coco.py',
            ]
        )
        == 0
    )


def test_runtime_is_linear():
    """A file of COCO's size takes seconds."""
    content = _content()
    person = content['annotations'][0]
    times = []
    for count in (2000, 16000):
        content['images'] = [
            dict(id=number, file_name=f'{number}.png', width=64, height=48)
            for number in range(count)
        ]
        content['annotations'] = [
            dict(person, id=number + 1, image_id=number % count) for number in range(2 * count)
        ]
        start = time.process_time()
        assert repair(content)[1] == []
        times.append(time.process_time() - start)
    assert times[1] < 8 * 3 * times[0]


def test_docs_list_all_rules_and_notes():
    page = (ROOT / 'docs/dataset-validation.md').read_text()
    named = {rule for _, _, rule, _ in PERSON + IMAGE}
    named |= {rule for _, rule in BAD.values()} | {
        'entry',
        'category',
        'category_name',
        'box_small',
        *FILE_RULES,
    }
    assert not [name for name in named if f'`{name}`' not in page]
    assert not [name for name in NOTES if name not in page]
