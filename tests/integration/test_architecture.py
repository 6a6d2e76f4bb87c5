"""Import directions between the packages and their rooms."""

import ast
from graphlib import TopologicalSorter

import pytest

from tests.conftest import ROOT

PROJECTS = ROOT / 'projects'
HEAVY = {'torch', 'mmcv', 'mmengine', 'mmdet', 'mmpose', 'multitask_refine'}
OUTSIDE = {'tools', 'tests', 'benchmarks'}


def _imports(path):
    """Names of the modules that a file imports, relative ones made absolute."""
    package = path.relative_to(PROJECTS if PROJECTS in path.parents else ROOT).parts[:-1]
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            module = '.'.join([*base, *filter(None, [node.module])])
            yield from (f'{module}.{alias.name}' for alias in node.names)


def _imported_by(folder):
    return {
        (str(path.relative_to(ROOT)), name)
        for path in sorted(folder.rglob('*.py'))
        for name in _imports(path)
    }


@pytest.mark.parametrize(
    'folder, forbidden',
    [
        ('projects/multitask_runtime', HEAVY | OUTSIDE | {'multitask_cli'}),
        ('projects/multitask_refine', OUTSIDE | {'multitask_cli'}),
        ('projects/multitask_cli', OUTSIDE),
        ('tools', {'tests', 'benchmarks'}),
        ('benchmarks', {'tests'}),
        ('demo', OUTSIDE),
    ],
)
def test_no_import_against_the_direction(folder, forbidden):
    found = _imported_by(ROOT / folder)
    assert len(found) > 5
    assert not sorted(pair for pair in found if pair[1].split('.')[0] in forbidden)


def test_tools_of_users_import_installed_packages_only():
    """`python tools/NAME.py` works from any folder."""
    for path in [*(ROOT / 'tools').glob('*.py'), *(ROOT / 'tools').glob('[!d]*/*.py')]:
        assert not [name for name in _imports(path) if name.split('.')[0] == 'tools'], path


def test_rooms_have_no_import_cycle():
    rooms = {}
    for path in sorted((PROJECTS / 'multitask_refine').glob('*/**/*.py')):
        room = path.relative_to(PROJECTS / 'multitask_refine').parts[0]
        names = (name.split('.') for name in _imports(path))
        used = {name[1] for name in names if name[0] == 'multitask_refine' and len(name) > 1}
        rooms.setdefault(room, set()).update(used - {room})
    assert {'models', 'ops', 'datasets'} <= rooms.keys()
    order = list(TopologicalSorter(rooms).static_order())  # raises CycleError
    assert order.index('ops') < order.index('models') < order.index('apis')
