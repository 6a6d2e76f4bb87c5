#!/usr/bin/env python
"""Write docs/results.md from the results files in docs/results."""
import argparse
import json
import sys
from pathlib import Path
from typing import List, Optional

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from projects.multitask_refine.evaluation import format_table  # noqa: E402

HEAD = """# Results

Every number below was written by the command beside it; this page is made by
`python tools/analysis_tools/results_page.py` from the files in `docs/results`.
"""


def section(path: Path) -> str:
    """One results file as Markdown."""
    content = json.loads(path.read_text())
    run = content.pop('run')
    metrics = {
        name: float('nan') if value is None else value
        for name, value in content.items()
    }
    machine = run['machine']
    return f"""
## {path.stem}

{format_table(metrics)}

- command: `{run['command']}`
- config: `{run['config']}`, seed {run['seed']}
- checkpoint: SHA-256 `{run['checkpoint_sha256'][:16]}`
- data: `{run['annotations']}`, {run['num_images']} images
- commit {run['commit']}, {run['date']}, {run['seconds']} s on {machine['device']}
- torch {machine['torch']}, mmcv {machine['mmcv']}, mmdet {machine['mmdet']}
"""


def render(folder: Path) -> str:
    """The whole page."""
    return HEAD + ''.join(section(p) for p in sorted(folder.glob('*.json')))


def main(argv: Optional[List[str]] = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--results', type=Path, default=ROOT / 'docs/results')
    parser.add_argument('--out', type=Path, default=ROOT / 'docs/results.md')
    args = parser.parse_args(argv)
    args.out.write_text(render(args.results))
    return 0


if __name__ == '__main__':
    sys.exit(main())
