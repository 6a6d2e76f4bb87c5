#!/usr/bin/env python
"""Make every page and file that is generated from results files."""
import argparse
import json
import re
import sys
from pathlib import Path
from typing import Dict, List, Optional

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from projects.multitask_refine.errors import explained_errors  # noqa: E402
from tools.analysis_tools import (  # noqa: E402
    benchmarks_page, metafile, offsets_tables, onnx_page, performance_page,
    reliability_page, results_page)
from tools.analysis_tools.report_tables import (  # noqa: E402
    FILE, load_tables)

MARKERS = ('<!-- made by tools/analysis_tools/pages.py: -->',
           '<!-- end of what is made -->')


def generate(root: Path = ROOT, tables_file: Path = FILE) -> Dict[Path, str]:
    """All generated files and what they should hold.

    Args:
        root (Path): The folder with README.md and docs/results.
        tables_file (Path): The report's tables.

    Returns:
        dict[Path, str]: Content by path.

    Raises:
        ValueError: If a page lacks the markers of a generated part, or a
            results file is not what its name says.
    """
    source = json.loads(tables_file.read_text())['source']
    tables = load_tables(tables_file)
    folder = root / 'docs/results'
    coco = benchmarks_page.load_results(folder / 'coco')
    return {
        root / 'docs/results.md': results_page.render(folder),
        root / 'docs/reliability.md': reliability_page.render(folder),
        root / 'docs/onnx-results.md': onnx_page.render(folder),
        root / 'docs/performance.md': performance_page.render(folder),
        root / 'docs/benchmarks.md':
        benchmarks_page.render(source, tables, folder),
        root / 'README.md': _fill(
            root / 'README.md',
            {'': benchmarks_page.excerpt(tables, folder)}),
        root / 'docs/offsets.md': _fill(
            root / 'docs/offsets.md', {
                **offsets_tables.sections(folder / 'offsets'),
                'random-start':
                offsets_tables.random_start(folder / 'ablation')
            }),
        root / 'checkpoints/README.md': _fill(
            root / 'checkpoints/README.md',
            {'': results_page.render_result(folder / 'base.json', 64)}),
        root / 'docs/quickstart.md': _fill(
            root / 'docs/quickstart.md', {
                '': 'From the base:\n\n'
                + results_page.render_result(folder / 'quickstart.json')
                + '\nFrom scratch:\n\n' + results_page.render_result(
                    folder / 'quickstart-from-scratch.json')
            }),
        root / 'metafile.yml': metafile.render(source, tables, coco, ROOT),
        root / 'model-index.yml': metafile.INDEX
    }


def write(root: Path = ROOT, tables_file: Path = FILE) -> None:
    """Write all generated files."""
    for path, content in generate(root, tables_file).items():
        path.write_text(content)


def _fill(page: Path, parts: Dict[str, str]) -> str:
    """Put generated parts, by the name in their marker, into a page."""
    text = page.read_text()
    for name, part in parts.items():
        begin = MARKERS[0].replace(' -->', f' {name} -->' if name else ' -->')
        start, end = map(re.escape, (begin, MARKERS[1]))
        text, count = re.subn(
            f'({start}\n).*?({end})',
            lambda found: f'{found[1]}{part.rstrip()}\n{found[2]}', text,
            flags=re.DOTALL)
        if count != 1:
            raise ValueError(f'{page}: expected the lines {begin!r} and '
                             f'{MARKERS[1]!r} once, found them {count} times')
    return text


@explained_errors()
def main(argv: Optional[List[str]] = None) -> int:
    argparse.ArgumentParser(description=__doc__).parse_args(argv)
    write()
    return 0


if __name__ == '__main__':
    sys.exit(main())
