"""Error analysis page: predictions files, content, invalid input, and the page in a browser."""

import json
import re
import shutil
import subprocess

import cv2
import numpy as np
import pytest
import torch
from mmdet.registry import MODELS
from mmengine.config import Config
from PIL import Image

from multitask_cli import test
from multitask_refine.evaluation import PredictionsFileError, file_sha256, read_predictions
from tests.conftest import SAMPLE_CONFIG, as_arguments, tiny_options
from tests.trainings import join_ranks, start_ranks
from tools.analysis_tools import report

pytestmark = pytest.mark.slow

CHROMIUM = [
    '--headless',
    '--no-sandbox',
    '--disable-gpu',
    '--disable-quic',
    '--no-first-run',
    '--disable-background-networking',
    '--disable-component-update',
    '--disable-sync',
    '--hide-scrollbars',
]


@pytest.fixture(scope='module')
def predictions(scene, tmp_path_factory):
    """Test a network with random weights and return its predictions file."""
    folder = tmp_path_factory.mktemp('tested')
    cfg = Config.fromfile(SAMPLE_CONFIG)
    cfg.merge_from_dict(tiny_options(scene))
    torch.manual_seed(0)
    torch.save(dict(state_dict=MODELS.build(cfg.model).state_dict()), folder / 'weights.pth')
    path = folder / 'predictions.json'
    assert (
        test.main(
            [
                str(SAMPLE_CONFIG),
                str(folder / 'weights.pth'),
                '--work-dir',
                str(folder),
                '--predictions',
                str(path),
                *as_arguments(tiny_options(scene)),
            ]
        )
        == 0
    )
    return path


def _page(tmp_path, *arguments):
    out = tmp_path / 'report.html'
    assert report.main([*map(str, arguments), '--out', str(out)]) == 0
    return out.read_text()


def _changed(path, tmp_path, change, name='changed.json'):
    """A copy of a predictions file after ``change(content)``."""
    content = json.loads(path.read_text())
    change(content)
    (tmp_path / name).write_text(json.dumps(content))
    return tmp_path / name


def _add_true_people(content):
    """Add the annotated person of image 1 as the detection with the highest score."""
    common = dict(image_id=1, category_id=1, score=1.0)
    keypoints = np.column_stack(
        [
            np.linspace(11, 28, 17).astype(int),
            np.linspace(11, 38, 17).astype(int),
            np.ones(17, int),
        ]
    )
    mask = content['images'][0]['segm'][0]['segmentation']
    for task, value in (
        ('bbox', [10, 10, 20, 30]),
        ('keypoints', keypoints.flatten().tolist()),
        ('segmentation', mask),
    ):
        entries = content['images'][0][task.replace('entation', '')]
        entries.insert(0, {**common, task: value})


def test_predictions_file_has_all_detections(predictions, scene):
    content = read_predictions(str(predictions))
    metrics = json.loads((predictions.parent / 'metrics.json').read_text())
    assert content['run'] == metrics.pop('run')
    assert content['metrics'] == metrics
    assert content['run']['config'] == SAMPLE_CONFIG.name
    assert content['image_folder'] == str(scene / 'val2017')
    assert content['annotations']['file'].startswith(str(scene))
    assert len(content['annotations']['sha256']) == 64
    assert content['keypoints']['names'][:2] == ['nose', 'left_eye']
    assert content['keypoints']['sigmas'][:2] == [0.026, 0.025]
    assert content['keypoints']['flip_indices'][:3] == [0, 2, 1]
    assert [(i['image_id'], i['file_name']) for i in content['images']] == [
        (i, f'{i:012d}.png') for i in (1, 2, 3)
    ]
    people = content['images'][0]
    assert len(people['bbox']) == len(people['segm']) > 0
    assert people['bbox'][0]['image_id'] == 1
    assert people['segm'][0]['segmentation']['size'] == [48, 64]
    assert len(people['keypoints'][0]['keypoints']) == 51


def test_two_processes_write_the_file_of_one(predictions, scene, tmp_path):
    """Three images on two ranks: the sampler repeats one, which is left out."""
    path = tmp_path / 'predictions.json'
    command = [str(SAMPLE_CONFIG), str(predictions.parent / 'weights.pth')]
    command += ['--work-dir', str(tmp_path), '--predictions', str(path)]
    log = tmp_path / 'out.txt'
    join_ranks(
        start_ranks(test.main, [*command, *as_arguments(tiny_options(scene))], log, ranks=2), log
    )
    found, expected = (json.loads(p.read_text()) for p in (path, predictions))
    assert found['run']['processes'] == 2
    assert found['metrics'] == expected['metrics']
    assert [(i['image_id'], len(i['bbox'])) for i in found['images']] == [
        (i['image_id'], len(i['bbox'])) for i in expected['images']
    ]


def test_page_of_one_run(predictions, tmp_path):
    path = _changed(predictions, tmp_path, _add_true_people)
    html = _page(tmp_path, path)
    for text in (
        SAMPLE_CONFIG.name,
        'Average precision',
        'OKS 0.75: AP',
        'Keypoint errors',
        'left shoulder',
        'inversion',
        'By size of the person',
        'By number of people',
        'occluded',
        'Worst images',
        '000000000001.png',
        'Ground truth',
    ):
        assert text in html, text
    metrics = json.loads(path.read_text())['metrics']
    assert f'<td>{metrics["bbox_AP50"]:.2f}</td>' in html
    assert '1 of 1 people with labeled keypoints were found' in html
    assert 'labeled keypoints 100.0 % are good' in html
    # Of three images one has people; it is shown with the truth beside it.
    assert html.count('<figure>') == 1
    assert html.count('src="data:image/jpeg;base64,') == 2
    assert 'of the 2 images without people to be found have' in html


def test_page_of_a_predicted_visibility(predictions, tmp_path):
    """A true person with 17 keypoints of which the network is sure that they are visible."""

    def change(content):
        _add_true_people(content)
        for image in content['images']:
            for entry in image['keypoints']:
                entry['keypoints_visible_probs'] = [[0.0, 0.0, 1.0]] * 17

    html = _page(tmp_path, _changed(predictions, tmp_path, change))
    section = re.search('<section id="visibility">.*?</section>', html, re.S)[0]
    cells = dict(re.findall('<th scope="row">(.*?)</th><td>(.*?)</td>', section))
    assert cells['correct'] == cells['visible']
    assert 'likeliest level: error' in section
    assert 'id="visibility"' not in _page(tmp_path, predictions)


def test_page_of_rankings(predictions, tmp_path):
    """One true person found, with a predicted OKS of 0.25 for the true OKS of 1."""

    def change(content):
        _add_true_people(content)
        for image in content['images']:
            for task in ('bbox', 'segm', 'keypoints'):
                image[task] = image[task][:1] if image['image_id'] == 1 else []
                for entry in image[task]:
                    entry['score'] = 1.0
            for entry in image['keypoints']:
                entry['pose_score'] = 0.25

    html = _page(tmp_path, _changed(predictions, tmp_path, change))
    section = re.search('<section id="rankings">.*?</section>', html, re.S)[0]
    cells = {
        name: (float(ap), float(error))
        for name, ap, error in re.findall(
            '<th scope="row">(.*?)</th><td>(.*?)</td><td>(.*?)</td>', section
        )
    }
    assert cells['Keypoints, box score'] == (100, 0)
    assert cells['Keypoints, times predicted OKS'] == (100, 75)
    assert 'Masks, times predicted IoU' not in cells
    assert 'times predicted OKS: error 75.00' in section


def test_page_of_two_runs(predictions, tmp_path):
    better = _changed(predictions, tmp_path, _add_true_people)
    html = _page(tmp_path, predictions, better)
    for text in ('Run A', 'Run B', 'B − A', 'A OKS mean: AP', 'B is better', 'nose A', 'nose B'):
        assert text in html, text
    # A, B and the ground truth of the one image with people.
    figures = re.findall('<figure>.*?</figure>', html, re.S)
    assert len(figures) == 1 and figures[0].count('<img') == 3
    assert re.findall('>(Run A|Run B|Ground truth)<', figures[0]) == [
        'Run A',
        'Run B',
        'Ground truth',
    ]


def test_page_is_self_contained(predictions, tmp_path):
    html = _page(tmp_path, predictions)
    assert '://' not in html and 'url(' not in html and '@import' not in html
    assert '<script' not in html and '<link' not in html
    sources = re.findall(r'(?:src|href)="([^"]*)"', html)
    assert sources
    assert all(s.startswith(('data:image/jpeg;base64,', '#')) for s in sources)
    assert len(html) < 1e6
    ids = re.findall(r' id="([^"]*)"', html)
    assert len(ids) == 8 == len(set(ids))
    assert html == _page(tmp_path, predictions)


def test_texts_of_files_are_escaped(predictions, scene, tmp_path):
    """A config, a keypoint, a folder and an image with markup in their names;
    the image exists, so that it is in the gallery. Keypoints may also have
    names that are mathematics to matplotlib, or that XML cannot hold."""
    evil = '<script>alert(1)</script>'
    name = '"><img src=x onerror=alert(2)>.png'
    (tmp_path / 'images').mkdir()
    shutil.copy(scene / 'val2017/000000000001.png', tmp_path / 'images' / name)

    def change(content):
        content['run'].update(config=evil, command=evil, commit={evil: evil})
        content['run']['machine']['device'] = evil
        content['keypoints']['names'][:3] = [evil, r'$\frac{', 'a\x01\n\ud800']
        content['images'][0]['file_name'] = name
        content['images'][1]['file_name'] = evil
        content['image_folder'] = str(tmp_path / 'images')

    path = _changed(predictions, tmp_path, change, f'{evil[:8]}.json')
    html = _page(tmp_path, path) + _page(tmp_path, path, path)
    assert '<script' not in html and '<img src=x' not in html
    assert '&lt;script&gt;alert(1)&lt;/script&gt;' in html
    assert '&#34;&gt;&lt;img src=x' in html
    assert r'>$\frac{</text>' in html and '>a\ufffd\ufffd\ufffd</text>' in html


def test_missing_images_are_named(predictions, scene, tmp_path):
    (tmp_path / 'images').mkdir()
    (tmp_path / 'images/000000000001.png').write_text('no image')
    html = _page(tmp_path, predictions, '--img-dir', tmp_path / 'images')
    assert '3 of 3 images could not be read' in html
    assert '000000000001.png (no readable image)' in html
    assert '000000000002.png (not there)' in html
    assert '<figure>' not in html
    path = _changed(
        predictions,
        tmp_path,
        lambda c: c['images'][0].update(file_name='../train2017/000000000001.png'),
    )
    assert '(outside of the folder)' in _page(tmp_path, path)
    path = _changed(predictions, tmp_path, lambda c: c.update(image_folder=None))
    assert 'name their folder by --img-dir' in _page(tmp_path, path)


def test_tasks_that_were_not_tested_are_left_out(predictions, tmp_path):
    """Without boxes the images take them from the masks."""

    def only(*tasks):
        def change(content):
            content['tasks'] = list(tasks)
            for image in content['images']:
                for task in {'bbox', 'segm', 'keypoints'} - set(tasks):
                    del image[task]

        return change

    masks = _changed(predictions, tmp_path, only('segm'), 'masks.json')
    html = _page(tmp_path, masks)
    assert 'Masks' in html and '>Boxes' not in html
    assert 'Keypoint errors' not in html and '<figure>' in html
    keypoints = _changed(predictions, tmp_path, only('keypoints'), 'keypoints.json')
    html = _page(tmp_path, masks, keypoints)
    assert 'Keypoint errors' in html and 'Masks B − A' in html


def _entry(task, **changes):
    return lambda c: c['images'][0][task][0].update(changes)


@pytest.mark.parametrize(
    'change, words',
    [
        (lambda c: c.update(format='x'), "format: expected 'multitask_refine"),
        (lambda c: c.update(version=3), 'version: expected 2, found 3'),
        (lambda c: c.update(tasks=['boxes']), r"tasks\[0\]: expected 'bbox', 'segm' or"),
        (lambda c: c.update(images=[]), 'images: expected at least 1'),
        (lambda c: c.update(metrics=dict(bbox_AP='x')), 'metrics.bbox_AP'),
        (lambda c: c.update(run=[]), 'run: expected an object'),
        (lambda c: c['annotations'].pop('file'), 'annotations.file: .* nothing'),
        (lambda c: c['keypoints']['sigmas'].pop(), 'keypoints.sigmas: expected 17'),
        (lambda c: c['keypoints'].update(flip_indices=[99] * 17), r'keypoints.flip_indices\[0\]'),
        (lambda c: c['images'][0].pop('segm'), r'images\[0\].segm'),
        (lambda c: c['images'][0]['segm'].pop(), 'as many entries'),
        (_entry('bbox', bbox=[1, 2, 3]), r'bbox\[0\].bbox: expected at least 4'),
        (_entry('bbox', bbox=[1, 2, 3, float('nan')]), 'expected a finite number, found nan'),
        (_entry('bbox', score=True), 'score: expected a valid number, found True'),
        (_entry('bbox', image_id=7), 'image_id: expected 1, found 7'),
        (_entry('segm', category_id=2), 'category_id: expected one of'),
        (_entry('keypoints', keypoints=[1] * 50), 'expected 51 numbers'),
        (_entry('segm', segmentation=dict(size=[48, 64], counts='')), 'RLE'),
        (
            _entry('segm', segmentation=dict(size=[4, 4], counts='0')),
            r'size: expected \[48, 64\], found \[4, 4\]',
        ),
        (_entry('segm', segmentation=dict(size=[48, 64], counts='11')), 'runs of 3072 pixels'),
        (_entry('segm', segmentation=dict(size=[48, 64], counts='PPPPP')), 'runs of 3072 pixels'),
        (
            lambda c: c['images'][0].update(image_id=7, bbox=[], segm=[], keypoints=[]),
            'expected an image of the annotation file, found 7',
        ),
        (
            lambda c: c['annotations'].update(file='gone.json'),
            'gone.json: there is no such annotation file.*--ann-file',
        ),
        (
            lambda c: c['annotations'].update(sha256='0' * 64),
            'expected the annotations that .* was made with',
        ),
    ],
)
def test_invalid_fields_are_named(predictions, tmp_path, change, words):
    path = _changed(predictions, tmp_path, change)
    with pytest.raises(SystemExit, match=words):
        report.main([str(path), '--out', str(tmp_path / 'x.html')])
    assert not (tmp_path / 'x.html').exists()


@pytest.mark.parametrize(
    'content, words',
    [
        (None, 'cannot be read'),
        ('no json', 'expected JSON'),
        ('[1]', 'object'),
        ('{"bbox_AP": 1}', 'format: .* found nothing.*--predictions'),
        ('[' * 100000, 'expected JSON'),
    ],
)
def test_other_files_than_predictions_are_refused(tmp_path, content, words):
    path = tmp_path / 'metrics.json'
    if content:
        path.write_text(content)
    with pytest.raises(PredictionsFileError, match=words) as error:
        read_predictions(str(path))
    assert str(path) in str(error.value)


@pytest.mark.parametrize(
    'change, words',
    [
        (
            lambda c: c['annotations'].update(sha256='0' * 64),
            'annotations.sha256: expected .* found 0000',
        ),
        (lambda c: c['images'].pop(), 'expected 3 images as in'),
        (
            lambda c: c['images'][2].update(image_id=9, bbox=[], segm=[], keypoints=[]),
            'found 1 others',
        ),
        (lambda c: c['keypoints']['names'].reverse(), 'keypoints.names'),
    ],
)
def test_runs_on_other_data_are_not_compared(predictions, tmp_path, change, words):
    path = _changed(predictions, tmp_path, change)
    with pytest.raises(SystemExit, match=words):
        report.main([str(predictions), str(path)])


def test_annotations_may_move_but_not_change(predictions, scene, tmp_path):
    moved = tmp_path / 'moved.json'
    ann_file = scene / 'annotations/person_keypoints_val2017.json'
    shutil.copy(ann_file, moved)
    assert 'Average' in _page(tmp_path, predictions, '--ann-file', moved)
    moved.write_text(ann_file.read_text() + ' ')
    with pytest.raises(SystemExit, match='found others'):
        report.main([str(predictions), '--ann-file', str(moved)])


@pytest.mark.parametrize(
    'change, words',
    [
        (lambda c: c.pop('annotations'), 'expected "annotations", found none'),
        (lambda c: c['images'][0].pop('height'), r"none of \['height'\] in image"),
        (lambda c: c['annotations'][0]['keypoints'].pop(), '3 numbers for each'),
        (lambda c: c.update(annotations=[1]), "annotations in COCO's format"),
    ],
)
def test_invalid_annotations_are_named(predictions, scene, tmp_path, change, words):
    ann_file = scene / 'annotations/person_keypoints_val2017.json'
    truth = _changed(ann_file, tmp_path, change, 'truth.json')
    path = _changed(
        predictions,
        tmp_path,
        lambda c: c.update(annotations=dict(file=str(truth), sha256=file_sha256(truth))),
    )
    with pytest.raises(SystemExit, match=words) as error:
        report.main([str(path)])
    assert str(truth) in str(error.value)


def test_predictions_file_must_be_json():
    with pytest.raises(SystemExit):
        test.main(['x.py', 'x.pth', '--predictions', 'x.pkl'])
    with pytest.raises(SystemExit):
        report.parse_args(['a', 'b', 'c'])


@pytest.fixture(scope='module')
def chromium():
    program = shutil.which('chromium')
    if not program:
        pytest.skip("no chromium on the PATH (Debian's package: chromium)")
    return program


def _browse(program, tmp_path, *options):
    """Return the output of a browser with an empty profile."""
    profile = tmp_path / f'profile{len(list(tmp_path.iterdir()))}'
    done = subprocess.run(
        [program, *CHROMIUM, f'--user-data-dir={profile}', *options],
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


def test_page_in_a_browser(chromium, predictions, tmp_path):
    """The browser builds the whole page, and draws it: a title, lines of the
    curves in the run's color, and the images."""
    path = _changed(predictions, tmp_path, _add_true_people)
    _page(tmp_path, path)
    url = f'file://{tmp_path / "report.html"}'
    dom = _browse(chromium, tmp_path, '--dump-dom', url)
    assert dom.count('<section') == 8 and dom.count('<svg') >= 8
    assert dom.rstrip().endswith('</html>') and 'How it is computed' in dom
    shot = tmp_path / 'page.png'
    _browse(chromium, tmp_path, f'--screenshot={shot}', '--window-size=1160,4500', url)
    pixels = np.asarray(Image.open(shot).convert('RGB')).astype(int)
    assert pixels.shape == (4500, 1160, 3)
    assert (pixels[20:90] < 60).all(-1).sum() > 200  # the title
    blue = (abs(pixels - [0x00, 0x72, 0xB2]) < 12).all(-1)
    assert blue[:2000].sum() > 300  # curves and bars
    # The page is centered, and nothing sticks out of it.
    assert (pixels[:, :40] == 255).all() and (pixels[:, -40:] == 255).all()
    photo = cv2.imread(json.loads(path.read_text())['image_folder'] + '/000000000001.png')[
        5, 5, ::-1
    ].astype(int)
    assert (abs(pixels - photo) < 12).all(-1).sum() > 1000
