#!/usr/bin/env python
"""Make every page and file that is generated from results files."""

import argparse
import json
import re
import sys
from pathlib import Path

from multitask_refine.analysis.ablation import tables as offsets_tables
from multitask_refine.analysis.report_tables import FILE, load_tables
from multitask_refine.analysis.results_files import ResultsError
from multitask_refine.utils.errors import explained_errors
from multitask_runtime.model_index import load_index
from tools.docs import (
    benchmarks_page,
    branches_page,
    dataset_page,
    gpu_estimates_page,
    metafile,
    model_cards,
    onnx_page,
    performance_page,
    reliability_page,
    results_page,
    serving_page,
)

ROOT = Path(__file__).resolve().parents[2]
BEGIN = '<!-- made by tools/docs/build_docs.py:'
END = '<!-- end of what is made -->'
_PART = re.compile(f'({re.escape(BEGIN)} ?([\\w-]*) -->\n).*?({re.escape(END)})', re.DOTALL)


def generate(root: Path = ROOT, tables_file: Path = FILE) -> dict[Path, str]:
    """Make the content of all generated files.

    The text of a page is written by hand; only what is between its markers is
    generated.

    Args:
        root (Path): The folder with the pages and docs/results.
        tables_file (Path): The report's tables.

    Returns:
        dict[Path, str]: Content by path.

    Raises:
        ValueError: If the markers of a page are not those of its generated
            parts, or a results file is not what its name says.
    """
    source = json.loads(tables_file.read_text())['source']
    tables = load_tables(tables_file)
    folder = root / 'docs/results'
    onnx = onnx_page.sections(folder)
    offsets = offsets_tables.sections(folder / 'offsets')
    each_adds, readme = offsets.pop('each-adds'), offsets.pop('readme')
    pages = {
        'README.md': {'val2017': benchmarks_page.excerpt(tables, folder), 'offsets': readme},
        'checkpoints/README.md': {'': results_page.render_result(folder / 'base.json', 64)},
        'docs/reproducing-the-paper.md': benchmarks_page.sections(tables, folder),
        'docs/checkpoint-conversion.md': results_page.training_parity(folder),
        'docs/large-datasets.md': dataset_page.sections(folder),
        'docs/dataset-preparation.md': results_page.partial_labels(folder),
        'docs/branches.md': {**branches_page.sections(folder), 'each-adds': each_adds},
        'docs/offsets-experiment.md': {
            **offsets,
            'random-start': offsets_tables.random_start(folder / 'ablation'),
        },
        'docs/onnx-deployment.md': {
            name: onnx[name] for name in ('evaluation', 'runtimes', 'parity', 'deform-conv')
        },
        'docs/performance.md': {
            **performance_page.sections(folder),
            **gpu_estimates_page.sections(folder),
        },
        'docs/quantization.md': {'quantization': onnx['quantization']},
        'docs/quickstart.md': {
            name: results_page.render_result(folder / f'{name}.json')
            for name in ('quickstart', 'quickstart-from-scratch')
        },
        'docs/reliability.md': reliability_page.sections(folder),
        'docs/test-time-consistency.md': results_page.test_time(folder),
        'docs/model-zoo.md': results_page.sections(folder),
        'docs/public-models.md': model_cards.sections(folder, load_index()),
        'docs/web-page.md': serving_page.sections(folder),
    }
    coco = benchmarks_page.load_results(folder / 'coco')
    return {
        **{root / page: _fill(root / page, parts) for page, parts in pages.items()},
        root / 'metafile.yml': metafile.render(source, tables, coco, ROOT),
        root / 'configs/converted/metafile.yml': model_cards.render_metafile(load_index()),
        root / 'model-index.yml': metafile.INDEX,
    }


def write(root: Path = ROOT, tables_file: Path = FILE) -> None:
    """Write all generated files."""
    for path, content in generate(root, tables_file).items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)


def _fill(page: Path, parts: dict[str, str]) -> str:
    """Put generated parts, by the name in their marker, into a page."""
    text = page.read_text()
    found = sorted(match[2] for match in _PART.finditer(text))
    if found != sorted(parts):
        raise ResultsError(
            f'{page}: expected, once each, the lines "{BEGIN} NAME -->" and '
            f'"{END}" for the names {sorted(parts)}, found {found}'
        )
    return _PART.sub(lambda match: f'{match[1]}{parts[match[2]].rstrip()}\n{match[3]}', text)


@explained_errors()
def main(argv: list[str] | None = None) -> int:
    """Run the tool; return its exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        '--root', type=Path, default=ROOT, help='folder with the pages and docs/results'
    )
    parser.add_argument('--tables', type=Path, default=FILE, help="the report's tables")
    args = parser.parse_args(argv)
    write(args.root, args.tables)
    return 0


if __name__ == '__main__':
    sys.exit(main())
