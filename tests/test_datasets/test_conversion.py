"""multitask convert-data: both directions, reports, the check, and nothing replaced."""

import json
import re

import pytest

from multitask_cli.main import main
from multitask_refine.datasets import read_annotations
from tests.test_runtime.test_formats.drawn import make_dataset, summarize, write_images
from tools.dataset import check_coco


@pytest.fixture(scope='module')
def source(tmp_path_factory):
    """Annotation file and folder of its images."""
    content, arrays = make_dataset()
    folder = tmp_path_factory.mktemp('source')
    (folder / 'a.json').write_text(json.dumps(content))
    return folder / 'a.json', write_images(folder / 'images', arrays)


@pytest.mark.parametrize(
    'name, out, lost',
    [
        ('labelme', 'out', '1 instances without a labeled keypoint: keypoints left out'),
        ('cvat', 'out.xml', "1 categories with a field 'supercategory': left out"),
        ('label-studio', 'out', '1 instances without a labeled keypoint: keypoints left out'),
        ('yolo', 'out', '1 crowds left out'),
    ],
)
def test_there_and_back(source, tmp_path, capsys, name, out, lost):
    path, images = source
    task = ['--task', 'segment'] if name == 'yolo' else []
    assert (
        main(
            [
                'convert-data',
                str(path),
                str(tmp_path / out),
                '--to',
                name,
                '--images',
                str(images),
                *task,
            ]
        )
        == 0
    )
    said = capsys.readouterr().out
    assert f'out{"" if out == "out" else ".xml"}: written, with 5 images and ' in said
    assert 'what the format cannot hold:\n' in said and lost in said
    back = tmp_path / 'back.json'
    assert (
        main(
            [
                'convert-data',
                str(tmp_path / out),
                str(back),
                '--from',
                name,
                '--images',
                str(images),
            ]
        )
        == 0
    )
    said = capsys.readouterr().out
    assert 'back.json: written, with 5 images' in said and 'back.json: no issues' in said
    assert check_coco.main([str(back), '--images', str(images)]) == 0
    if name == 'cvat':
        assert summarize(read_annotations(str(back))) == summarize(json.loads(path.read_text()))
    before = back.read_bytes()
    with pytest.raises(SystemExit, match='back.json: exists already; name a new file'):
        main(['convert-data', str(tmp_path / out), str(back), '--from', name])
    with pytest.raises(SystemExit, match='out(.xml)?(/data.yaml)?: (exists already|has )'):
        main(['convert-data', str(path), str(tmp_path / out), '--to', name, *task])
    assert back.read_bytes() == before


def test_issues_of_the_source_are_listed(source, tmp_path, capsys):
    path, _ = source
    content = json.loads(path.read_text())
    content['annotations'][0]['bbox'] = [1, 2, -3, 4]
    (tmp_path / 'bad.json').write_text(json.dumps(content))
    main(['convert-data', str(tmp_path / 'bad.json'), str(tmp_path / 'a.xml'), '--to', 'cvat'])
    said = capsys.readouterr().out
    assert '1 issues were repaired or left out:\nbox' in said
    (tmp_path / 'none.json').write_text(json.dumps(dict(content, images=[], annotations=[])))
    with pytest.raises(SystemExit, match='none.json: images: expected at least one, found none'):
        main(
            ['convert-data', str(tmp_path / 'none.json'), str(tmp_path / 'b.xml'), '--to', 'cvat']
        )


def test_issues_of_the_result_are_listed(source, tmp_path, capsys):
    """A box of no height, which LabelMe allows."""
    shape = dict(label='cat', shape_type='rectangle', points=[[1, 2], [30, 2]])
    content = dict(shapes=[shape], imagePath='a.png', imageHeight=48, imageWidth=64)
    (tmp_path / 'in').mkdir()
    (tmp_path / 'in/a.json').write_text(json.dumps(content))
    out = tmp_path / 'a.json'
    assert main(['convert-data', str(tmp_path / 'in'), str(out), '--from', 'labelme']) == 0
    assert 'box: 1\n' in capsys.readouterr().out and out.is_file()


def test_keypoint_names_of_a_meta_file(tmp_path, capsys):
    shapes = [
        dict(label='person', shape_type='rectangle', points=[[1, 2], [30, 40]]),
        dict(label='left_hip', shape_type='point', points=[[5, 5]]),
    ]
    content = dict(shapes=shapes, imagePath='a.png', imageHeight=48, imageWidth=64)
    (tmp_path / 'in').mkdir()
    (tmp_path / 'in/a.json').write_text(json.dumps(content))
    out = tmp_path / 'a.json'
    main(
        [
            'convert-data',
            str(tmp_path / 'in'),
            str(out),
            '--from',
            'labelme',
            '--meta',
            'crowdpose.py',
        ]
    )
    assert len(json.loads(out.read_text())['categories'][0]['keypoints']) == 14


def test_wrong_arguments(source, tmp_path, capsys):
    path, _ = source
    for argv, expected in (
        ([str(path), 'out'], 'expected COCO on one side.*found --from coco --to coco'),
        ([str(path), 'out', '--from', 'yolo', '--to', 'cvat'], 'found --from yolo --to cvat'),
        (['nothing.json', 'out', '--to', 'cvat'], 'nothing.json: there is no such file'),
    ):
        with pytest.raises(SystemExit) as ended:
            main(['convert-data', *argv])
        assert ended.value.code == 2
        said = ' '.join(capsys.readouterr().err.split())
        assert re.search(expected, said)
