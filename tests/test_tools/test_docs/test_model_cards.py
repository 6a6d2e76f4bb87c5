"""Model cards, the table of their names, and the metafile, of two small entries."""

import json

import yaml

from multitask_runtime.model_index import ModelEntry
from tools.docs import model_cards

FIRST = ModelEntry(
    title='Keypoint R-CNN',
    framework='torchvision',
    config='configs/a.py',
    url='https://example.org/models/net-0123abcd.pth',
    checksum='sha256:0123abcd',
    license='BSD; and more',
    source='https://example.org/page',
    dataset='COCO val2017, person',
    results={'box AP': 54.6, 'keypoint AP': 65.0},
)
BOTH = ModelEntry(
    title='Both',
    framework='detectron2',
    config='configs/b.py',
    combines=('first', 'second'),
    license='CC',
    source='docs/page.md',
)
INDEX = {'first': FIRST, 'first+second': BOTH}


def test_card_has_the_publishers_facts():
    card = model_cards.render_card('first', FIRST)
    assert card.startswith('### first\n')
    for row in (
        '| trained by | torchvision |',
        '| file | [net-0123abcd.pth](https://example.org/models/net-0123abcd.pth), whose SHA256 '
        'begins with `0123abcd` |',
        '| published AP | box AP 54.6, keypoint AP 65.0 (COCO val2017, person); '
        'not measured here |',
        '| config | `configs/a.py` |',
        '| facts | [publisher](https://example.org/page) |',
        '| license | BSD; and more |',
    ):
        assert f'\n{row}\n' in card, row


def test_card_of_two_networks_names_both():
    card = model_cards.render_card('first+second', BOTH)
    assert '| boxes, keypoints | [`first`](#first) |' in card
    assert '| masks | [`second`](#second) |' in card
    assert 'published' not in card.replace('[publisher]', '')


def test_list_has_a_row_per_model():
    _, _, *rows = model_cards.list_table(INDEX).splitlines()
    cells = [[cell.strip() for cell in row.strip('|').split('|')] for row in rows]
    assert cells == [
        ['[`first`](#first)', 'torchvision', '54.6', '-', '65.0', 'BSD'],
        ['[`first+second`](#firstsecond)', 'Detectron2', '-', '-', '-', 'CC'],
    ]


def test_metafile_has_published_files_only():
    (model,) = yaml.safe_load(model_cards.render_metafile(INDEX))['Models']
    assert (model['Name'], model['Weights']) == ('first', FIRST.url)
    assert [result['Metrics'] for result in model['Results']] == [
        {'box AP': 54.6},
        {'keypoint AP': 65.0},
    ]


def test_cost_is_that_of_the_results_file(tmp_path):
    assert 'Not measured.' in model_cards.sections(tmp_path, INDEX)['cost']
    run = dict(
        command='python -m x',
        commit='abc',
        date='2026-01-01',
        machine=dict(device='CPU', torch='2', mmcv='2', mmdet='3'),
    )
    networks = dict(
        one=dict(seconds=[1.0, 3.0, 2.0], median=2.0, parameters=59_000_000, megabytes=236.4)
    )
    (tmp_path / 'performance').mkdir()
    path = tmp_path / 'performance/combined-cpu.json'
    path.write_text(json.dumps(dict(networks=networks, run=run)))
    cost = model_cards.sections(tmp_path, INDEX)['cost']
    assert '`one`' in cost and '2.00' in cost and '1.00 to 3.00' in cost
    assert '59.0' in cost and '236' in cost and 'python -m x' in cost
