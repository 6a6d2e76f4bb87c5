"""Measure the grain of the code: functions per 1000 lines, body length, comments, docstrings.

python -m tools.docs.code_measures [CHECKOUT]
"""

import ast
import io
import re
import statistics
import sys
import tokenize
from collections import Counter
from pathlib import Path

PACKAGES = ('multitask_refine', 'multitask_runtime', 'multitask_cli')
AREAS = (*(f'projects/{name}' for name in PACKAGES), 'tools', 'benchmarks', 'demo')
FUNCTION = (ast.FunctionDef, ast.AsyncFunctionDef)


def has_docstring(node: ast.AST) -> bool:
    """Return whether a module, class or function has a docstring."""
    return ast.get_docstring(node) is not None


def body_length(function: ast.FunctionDef) -> int:
    """Return the lines of a function's body without its docstring."""
    body = function.body[has_docstring(function) :]
    return body[-1].end_lineno - body[0].lineno + 1 if body else 0


def comment_lines(text: str) -> int:
    """Return the number of lines that hold a comment."""
    tokens = tokenize.generate_tokens(io.StringIO(text).readline)
    return len({token.start[0] for token in tokens if token.type == tokenize.COMMENT})


def is_private(name: str) -> bool:
    """Return whether a name begins with one underscore."""
    return name.startswith('_') and not name.startswith('__')


def measure(texts: list[str]) -> dict[str, float]:
    """Measure source files together.

    Args:
        texts: The contents of the files.

    Returns:
        The measures by name; shares are in percent. A private function has one caller if its name
        occurs once apart from its definition.
    """
    nodes = [node for text in texts for node in ast.walk(ast.parse(text))]
    functions = [node for node in nodes if isinstance(node, FUNCTION)]
    uses = Counter(
        node.id if isinstance(node, ast.Name) else node.attr
        for node in nodes
        if isinstance(node, (ast.Name, ast.Attribute))
    )
    private = [node for node in functions if is_private(node.name)]
    public = [
        node
        for node in nodes
        if isinstance(node, (ast.Module, ast.ClassDef, *FUNCTION))
        and not getattr(node, 'name', '').startswith('_')
    ]
    inner = {id(child) for node in functions for child in ast.walk(node) if child is not node}
    public = [node for node in public if id(node) not in inner]
    lines = sum(len(text.splitlines()) for text in texts)
    lengths = sorted(map(body_length, functions)) or [0]
    return {
        'lines': lines,
        'functions per 1000 lines': 1000 * len(functions) / lines,
        'median body': statistics.median(lengths),
        'p90 body': lengths[int(0.9 * (len(lengths) - 1))],
        'private, one caller %': 100 * sum(uses[f.name] == 1 for f in private) / len(functions),
        'comment %': 100 * sum(map(comment_lines, texts)) / lines,
        'public docstrings %': 100 * sum(map(has_docstring, public)) / len(public),
    }


def main(argv: list[str]) -> None:
    """Print one row for each area, one for all of them, and the lines of tests and configs."""
    root = Path(argv[0] if argv else '.')
    rows = {
        area: [file.read_text() for file in root.joinpath(area).rglob('*.py')] for area in AREAS
    }
    table = {area: measure(texts) for area, texts in rows.items()}
    table['all of these'] = total = measure(sum(rows.values(), []))
    print('| area |', ' | '.join(total), '|')
    print('|---' * (1 + len(total)), end='|\n')
    for area, measures in table.items():
        print(f'| {area} |', ' | '.join(f'{value:.4g}' for value in measures.values()), '|')
    for area in ('tests', 'configs', 'docs'):
        files = [file for file in root.joinpath(area).rglob('*') if file.suffix in ('.py', '.md')]
        count = sum(len(re.findall('\n', file.read_text())) for file in files)
        print(f'| {area} | {count} |')


if __name__ == '__main__':
    main(sys.argv[1:])
