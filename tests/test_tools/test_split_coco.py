"""tools/dataset/split_coco.py: sizes, groups, files."""

import json

import pytest

from tools.dataset import check_coco, split_coco


def _content(count=10, **fields):
    """Image i has i % 3 annotations."""
    images = [
        dict(id=i, file_name=f'clip{i // 4}_{i:03d}.png', width=64, height=48)
        for i in range(1, count + 1)
    ]
    people = [
        dict(image_id=image['id'], category_id=1, iscrowd=0, bbox=[10, 10, 20, 30], area=600)
        for image in images
        for _ in range(image['id'] % 3)
    ]
    return dict(
        info=dict(year=2020),
        images=images,
        annotations=[dict(ann, id=i) for i, ann in enumerate(people, 1)],
        categories=[dict(id=1, name='person')],
        **fields,
    )


def _split(tmp_path, content, *options, out='out'):
    path = tmp_path / 'in.json'
    path.write_text(json.dumps(content))
    assert split_coco.main([str(path), str(tmp_path / out), *options]) == 0
    return {each.stem: json.loads(each.read_text()) for each in sorted((tmp_path / out).iterdir())}


def _ids(part):
    return {image['id'] for image in part['images']}


PARTS = ['--parts', 'train=0.8', 'val=0.2']


def test_parts_have_their_sizes_and_all_annotations(tmp_path):
    content = _content()
    parts = _split(tmp_path, content, *PARTS)
    assert {name: len(_ids(part)) for name, part in parts.items()} == {'train': 8, 'val': 2}
    assert _ids(parts['train']) | _ids(parts['val']) == set(range(1, 11))
    for part in parts.values():
        assert part['annotations'] == [
            ann for ann in content['annotations'] if ann['image_id'] in _ids(part)
        ]
        assert part['info'] == content['info']
        assert part['categories'] == content['categories']
    assert check_coco.main([str(tmp_path / 'out/train.json')]) == 0


def test_seed_determines_the_split(tmp_path):
    one, same, other = (
        _ids(_split(tmp_path, _content(40), *PARTS, '--seed', seed, out=name)['val'])
        for name, seed in (('a', '1'), ('b', '1'), ('c', '2'))
    )
    assert one == same != other


def test_folds_partition_the_images(tmp_path):
    parts = _split(tmp_path, _content(), '--folds', '3')
    assert list(parts) == [f'fold{k}_{split}' for k in (1, 2, 3) for split in ('train', 'val')]
    sides = [_ids(parts[f'fold{k}_val']) for k in (1, 2, 3)]
    assert sorted(map(len, sides)) == [3, 3, 4]
    assert set().union(*sides) == set(range(1, 11))
    for k, side in enumerate(sides, 1):
        assert _ids(parts[f'fold{k}_train']) == set(range(1, 11)) - side


def test_images_of_a_file_or_group_stay_together(tmp_path):
    """Images 1 to 3 are of clip0, 4 to 7 of clip1, 8 to 10 of clip2."""
    content = _content()
    clips = [{1, 2, 3}, {4, 5, 6, 7}, {8, 9, 10}]
    for image in content['images']:
        image['video_id'] = image['id'] // 4
    for name, options in (('a', ['--group', 'video_id']), ('b', ['--group-prefix', '_'])):
        parts = _split(tmp_path, content, '--folds', '3', *options, out=name)
        sides = [_ids(parts[f'fold{k}_val']) for k in (1, 2, 3)]
        assert sorted(sides, key=min) == clips
    # The same file in two clips joins them.
    content['images'][9]['file_name'] = content['images'][0]['file_name']
    parts = _split(tmp_path, content, '--parts', 'a=7', 'b=4', '--group', 'video_id', out='c')
    assert _ids(parts['a']) == clips[0] | clips[2]
    # Without a group, the file alone.
    for seed in range(5):
        parts = _split(tmp_path, content, '--folds', '2', '--seed', str(seed), out=f'd{seed}')
        assert len({1, 10} & _ids(parts['fold1_val'])) != 1


def _modify(content, change):
    change(content)
    return content


@pytest.mark.parametrize(
    'change, options, words',
    [
        (lambda c: c.pop('annotations'), PARTS, 'annotations: expected a list'),
        (lambda c: c['images'].append(c['images'][0]), PARTS, 'distinct ids'),
        (lambda c: c['images'].append(3), PARTS, r'images\[10\].id'),
        (
            lambda c: c['annotations'][0].update(image_id=99),
            PARTS,
            'annotation 1: expected the id of an image, found image_id 99',
        ),
        (lambda c: c['images'][9].update(taken=float('nan')), PARTS, 'expected finite numbers'),
        (lambda c: None, [*PARTS, '--group', 'video'], "field 'video'"),
        (lambda c: None, ['--folds', '11'], '11 parts, found 10 in 10 groups'),
        (lambda c: None, ['--folds', '5', '--group-prefix', 'i'], 'in 1 groups'),
        (lambda c: c.update(images=[], annotations=[]), PARTS, 'at least one'),
    ],
)
def test_invalid_content_exits_with_an_error(change, options, words, tmp_path):
    with pytest.raises(SystemExit, match=words) as end:
        _split(tmp_path, _modify(_content(), change), *options)
    assert str(tmp_path / 'in.json') in str(end.value)
    assert not (tmp_path / 'out').exists()


def test_existing_files_are_kept(tmp_path):
    _split(tmp_path, _content(), *PARTS)
    before = (tmp_path / 'out/val.json').read_text()
    (tmp_path / 'out/train.json').unlink()
    with pytest.raises(SystemExit, match='val.json: expected no such file'):
        _split(tmp_path, _content(20), *PARTS)
    assert (tmp_path / 'out/val.json').read_text() == before
    assert not (tmp_path / 'out/train.json').exists()


@pytest.mark.parametrize(
    'options',
    [
        [],
        ['--folds', '1'],
        ['--parts', 'a=1'],
        ['--parts', 'a=1', 'a=2'],
        ['--parts', 'a=1', 'b=x'],
        ['--parts', 'a=1', 'b=0'],
        ['--parts', 'a=1', 'x/b=1'],
        [*PARTS, '--folds', '2'],
        [*PARTS, '--group-prefix', ''],
    ],
)
def test_invalid_options_exit_with_2(options, capsys):
    with pytest.raises(SystemExit) as end:
        split_coco.main(['in.json', 'out', *options])
    assert end.value.code == 2
