"""What the documents say exists and is fresh."""
import re

import pytest

from tests.conftest import ROOT
from tools.analysis_tools.results_page import render

PAGES = [ROOT / 'README.md', ROOT / 'CONTRIBUTING.md',
         *sorted((ROOT / 'docs').glob('*.md'))]


@pytest.mark.parametrize('page', PAGES, ids=lambda path: path.name)
def test_files_that_a_page_names_exist(page):
    text = page.read_text()
    named = re.findall(
        r'(?<![\w/.-])((?:configs|tools|projects|docs|tests)/[\w/.-]*\w)',
        text)
    missing = sorted(name for name in set(named) if not (ROOT / name).exists())
    assert not missing
    links = re.findall(r'\]\((?!http)([^)#]+)', text)
    assert all((page.parent / link).exists() for link in links), links


def test_make_targets_of_the_readme_exist():
    text = (ROOT / 'README.md').read_text()
    targets = set(re.findall(r'(?:^    |`)make ([a-z]+)', text, re.M))
    assert {'quickstart', 'test'} <= targets
    makefile = (ROOT / 'Makefile').read_text()
    for target in targets:
        assert re.search(rf'^{target}:', makefile, re.M), target


def test_results_page_is_fresh():
    page = ROOT / 'docs/results.md'
    assert page.read_text() == render(ROOT / 'docs/results'), (
        'run python tools/analysis_tools/results_page.py')


def test_ci_runs_the_test_command():
    assert 'make test' in (ROOT / '.ci/run').read_text()
