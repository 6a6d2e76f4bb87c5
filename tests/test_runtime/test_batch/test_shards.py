"""Which shards a dataset has, and the images of a shard."""

import gzip
import sys

import pytest

from multitask_runtime import InputError
from multitask_runtime.batch.shards import Shard, list_shards, read_shard
from multitask_runtime.utils.errors import MissingPackageError
from tests.test_runtime.test_batch.conftest import encode, make_files, make_tar


def test_folder_has_its_images_and_tar_files(tmp_path):
    (tmp_path / 'data').mkdir()
    make_files(tmp_path / 'data/inner', 5)
    make_tar(tmp_path / 'data/b.tar', {'x.png': encode(0)})
    (tmp_path / 'data/notes.md').touch()
    (tmp_path / 'data/.hidden.png').touch()
    folder = str(tmp_path / 'data')
    assert list_shards([folder], shard_size=2) == [
        Shard(0, 'tar', f'{folder}/b.tar'),
        Shard(1, 'files', folder, ('inner/0.png', 'inner/1.png')),
        Shard(2, 'files', folder, ('inner/2.png', 'inner/3.png')),
        Shard(3, 'files', folder, ('inner/4.png',)),
    ]


def test_lists_are_relative_to_their_folder(tmp_path):
    make_files(tmp_path / 'photos', 2)
    (tmp_path / 'list.txt').write_text(f'photos/1.png\n\n{tmp_path}/photos/0.png\nnone.png\n')
    (shard,) = list_shards([str(tmp_path / 'list.txt')])
    entries = list(read_shard(shard))
    assert [entry.content for entry in entries] == [
        f'{tmp_path}/photos/1.png',
        f'{tmp_path}/photos/0.png',
        f'{tmp_path}/none.png',
    ]


def test_tar_files_yield_their_images(tmp_path):
    members = {'a/0.png': b'first', 'a/0.json': b'{}', 'a/1.JPG': b'second'}
    path = make_tar(tmp_path / 'a.tar', members)
    packed = tmp_path / 'b.tar.gz'
    packed.write_bytes(gzip.compress((tmp_path / 'a.tar').read_bytes()))
    shards = list_shards([path, str(packed)])
    assert [shard.number for shard in shards] == [0, 1]
    for shard in shards:
        entries = [(entry.name, entry.content) for entry in read_shard(shard)]
        assert entries == [('a/0.png', b'first'), ('a/1.JPG', b'second')]


def test_truncated_tar_yields_what_it_has_and_an_error(tmp_path):
    path = make_tar(tmp_path / 'a.tar', {f'{i}.png': bytes([i]) * 3000 for i in range(3)})
    content = (tmp_path / 'a.tar').read_bytes()
    (tmp_path / 'a.tar').write_bytes(content[:5000])  # within the second image
    (shard,) = list_shards([path])
    first, *_, last = read_shard(shard)
    assert (first.name, first.content) == ('0.png', bytes(3000))
    assert isinstance(last.content, InputError)
    assert f'{path}: the rest cannot be read' in str(last.content)


def test_file_that_vanished_is_an_error(tmp_path):
    path = make_tar(tmp_path / 'a.tar', {})
    (shard,) = list_shards([path])
    (tmp_path / 'a.tar').unlink()
    (entry,) = read_shard(shard)
    assert 'No such file' in str(entry.content)


@pytest.mark.parametrize(
    'name, sentence',
    [
        ('missing', 'missing: expected a folder or file, found nothing there'),
        ('notes.md', 'notes.md: expected a folder, an image, a list of images'),
        ('empty', 'empty: expected images, tar files or Parquet files, found none'),
    ],
)
def test_wrong_inputs_are_explained(tmp_path, name, sentence):
    (tmp_path / 'notes.md').touch()
    (tmp_path / 'empty').mkdir()
    with pytest.raises(InputError, match=sentence):
        list_shards([str(tmp_path / name)])


def test_missing_pyarrow_is_explained(tmp_path, monkeypatch):
    (tmp_path / 'a.parquet').touch()
    monkeypatch.setitem(sys.modules, 'pyarrow', None)
    with pytest.raises(MissingPackageError, match=r"pip install 'multitask-refine\[batch\]'"):
        list_shards([str(tmp_path / 'a.parquet')])


class TestParquet:
    @pytest.fixture
    def write(self, tmp_path):
        pa = pytest.importorskip('pyarrow')
        parquet = pytest.importorskip('pyarrow.parquet')

        def write(rows, group=2):
            path = tmp_path / 'a.parquet'
            parquet.write_table(pa.Table.from_pylist(rows), path, row_group_size=group)
            return str(path)

        return write

    def test_row_groups_are_joined_to_shards(self, write):
        path = write([dict(image=bytes([i]), key=f'k{i}') for i in range(7)])
        shards = list_shards([path], shard_size=3)
        # Groups of 2, 2, 2 and 1 rows.
        assert [(shard.groups, shard.first_row) for shard in shards] == [((0, 1), 0), ((2, 3), 4)]
        found = [(entry.name, entry.content) for shard in shards for entry in read_shard(shard)]
        assert found == [(f'k{i}', bytes([i])) for i in range(7)]

    def test_images_as_hugging_face_writes_them(self, write):
        path = write(
            [
                dict(image=dict(bytes=b'one', path='a.jpg'), label=1),
                dict(image=dict(bytes=None, path='b.jpg'), label=2),
                dict(image=dict(bytes=b'three', path=None), label=3),
            ]
        )
        entries = list(read_shard(list_shards([path])[0]))
        assert [entry.name for entry in entries] == ['a.jpg', 'b.jpg', 'row 2']
        assert [entries[0].content, entries[2].content] == [b'one', b'three']
        assert 'b.jpg: expected image bytes, found none' in str(entries[1].content)

    def test_columns_by_name(self, write):
        path = write([dict(left=b'l', right=b'r', title='t')])
        (shard,) = list_shards([path], image_column='right', name_column='title')
        assert [(entry.name, entry.content) for entry in read_shard(shard)] == [('t', b'r')]
        with pytest.raises(InputError, match='found left, right. Name it by --image-column'):
            list_shards([path])
        with pytest.raises(InputError, match='expected a column mid, found left, right, title'):
            list_shards([path], image_column='mid')

    def test_damaged_file(self, write):
        path = write([dict(image=b'l')])
        with open(path, 'r+b') as file:
            file.truncate(50)
        with pytest.raises(InputError, match='expected a Parquet file, found 50 bytes'):
            list_shards([path])
