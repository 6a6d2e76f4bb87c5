"""The command that writes all generated files, on a copy of the pages."""

import json
import shutil

import pytest

from tests.conftest import ROOT
from tests.test_tools.test_reproduce_tables import copy_pages
from tools.docs import build_docs


@pytest.fixture
def root(tmp_path):
    """The pages with something old in their generated parts, and no results."""
    copy_pages(tmp_path)
    return tmp_path


def test_the_command_replaces_what_is_between_the_markers(root):
    page = root / 'docs/model-zoo.md'
    page.write_text(f'By hand.\n{page.read_text()}Also by hand.\n')
    assert build_docs.main(['--root', str(root)]) == 0
    text = page.read_text()
    assert text.startswith('By hand.\n') and text.endswith('Also by hand.\n')
    assert 'something old' not in text and 'Not measured.' in text
    assert (root / 'model-index.yml').read_text() == (ROOT / 'model-index.yml').read_text()


def test_a_second_run_changes_nothing(root):
    shutil.copytree(ROOT / 'docs/results', root / 'docs/results')
    build_docs.main(['--root', str(root)])
    written = {path: path.read_bytes() for path in build_docs.generate(root)}
    build_docs.main(['--root', str(root)])
    assert written == {path: path.read_bytes() for path in written}
    for path in written:
        assert path.read_bytes() == (ROOT / path.relative_to(root)).read_bytes(), path


def test_nothing_is_written_if_a_results_file_cannot_be_used(root):
    before = (root / 'docs/quickstart.md').read_bytes()
    (root / 'docs/results').mkdir()
    (root / 'docs/results/quickstart.json').write_text(json.dumps(dict(bbox_AP=1)))
    with pytest.raises(SystemExit, match='quickstart.json: .*run'):
        build_docs.main(['--root', str(root)])
    assert (root / 'docs/quickstart.md').read_bytes() == before


def test_other_tables_of_the_report_are_read(root):
    tables = root / 'tables.json'
    tables.write_text(json.dumps(dict(source=dict(title='T', authors=[], url='U'), tables=[])))
    build_docs.main(['--root', str(root), '--tables', str(tables)])
    assert 'Title: T' in (root / 'metafile.yml').read_text()
