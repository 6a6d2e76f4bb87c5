"""Files, links, commands and tables of the documentation pages."""

import json
import re
import shutil

import modelindex
import pytest
import yaml

from multitask_runtime.model_index import load_index
from tests.conftest import ROOT
from tools.docs.build_docs import BEGIN, END, generate

PAGES = [
    ROOT / 'README.md',
    ROOT / 'CONTRIBUTING.md',
    ROOT / 'checkpoints/README.md',
    *sorted((ROOT / 'configs').glob('*/README.md')),
    *sorted((ROOT / 'docs').glob('*.md')),
]


@pytest.mark.parametrize('page', PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_files_that_a_page_names_exist(page):
    # Generated parts quote the commands of former commits, whose files may have moved since.
    text = re.sub(f'{BEGIN}.*?{END}', '', page.read_text(), flags=re.DOTALL)
    named = re.findall(r'(?<![\w/.-])((?:configs|tools|projects|docs|tests)/[\w/.-]*\w)', text)
    missing = sorted(name for name in set(named) if not (ROOT / name).exists())
    assert not missing
    links = re.findall(r'\]\((?!http)([^)#]+)', text)
    assert all((page.parent / link).exists() for link in links), links


def test_navigation_of_the_site_has_every_page():
    def pages(entry):
        if isinstance(entry, str):
            return [entry]
        children = entry.values() if isinstance(entry, dict) else entry
        return [page for child in children for page in pages(child)]

    nav = pages(yaml.safe_load((ROOT / 'mkdocs.yml').read_text())['nav'])
    assert sorted(nav) == sorted(path.name for path in (ROOT / 'docs').glob('*.md'))


def test_python_example_of_the_readme_runs(tmp_path, monkeypatch, capsys):
    (example,) = re.findall(r'```python\n(.*?)```', (ROOT / 'README.md').read_text(), re.DOTALL)
    monkeypatch.chdir(tmp_path)
    shutil.copy(ROOT / 'docs/images/000000000009.jpg', 'image.jpg')
    (checkpoint,) = (ROOT / 'checkpoints').glob('*.pth')
    (config,) = (ROOT / 'configs/sample').glob('*_regular_1xb8-10k_sample.py')
    names = dict(CONFIG=config, CHECKPOINT=checkpoint)
    exec(example, names)
    assert names['result']['keypoints'].shape == (3, 17, 2)
    assert len(json.loads((tmp_path / 'outputs/predictions.json').read_text())) == 3


def test_make_targets_of_the_readme_exist():
    text = (ROOT / 'README.md').read_text()
    targets = set(re.findall(r'(?:^    |`)make ([a-z]+)', text, re.M))
    assert {'quickstart', 'test'} <= targets
    makefile = (ROOT / 'Makefile').read_text()
    for target in targets:
        assert re.search(rf'^{target}:', makefile, re.M), target


def test_pages_are_fresh():
    """Results, tables, the README's excerpt, metafile: as the results files
    say."""
    made = generate(ROOT)
    stale = [
        str(path)
        for path, content in made.items()
        if not path.exists() or path.read_text() != content
    ]
    assert not stale, 'run python -m tools.docs.build_docs'
    assert {page for page in PAGES if BEGIN in page.read_text()} <= set(made)


def test_openmmlabs_index_is_valid():
    index = modelindex.load(str(ROOT / 'model-index.yml'))
    index.build_models_with_collections()
    assert not index.check(silent=True)
    names = [model.name for model in index.models]
    assert 'multitask-rcnn_r50_fpn-ms_rb-h_4xb3-90k_coco' in names
    for model in index.models:
        assert (ROOT / model.config).is_file()
        is_public = bool(model.weights)
        assert model.full_model.paper['Title'].startswith('Mask' if is_public else 'Offset')
    weights = {model.name: model.weights for model in index.models if model.weights}
    assert weights == {name: entry.url for name, entry in load_index().items() if entry.url}


def test_ci_runs_the_test_command():
    assert 'make test' in (ROOT / '.ci/run').read_text()
