#!/usr/bin/env python
"""Write an HTML page with the error analysis of a model, or of two.

    python tools/test.py CONFIG CHECKPOINT --predictions a.json
    python tools/analysis_tools/report.py a.json --out report.html
    python tools/analysis_tools/report.py a.json b.json --out report.html

The page holds all that it shows: it can be opened without a network, sent
and kept.
"""

import argparse
import os
import sys
from pathlib import Path

from multitask_refine.analysis.report.page import render
from multitask_refine.analysis.report.runs import analyze, load_runs
from multitask_refine.utils.errors import explained_errors


def parse_args(argv: list[str] | None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        'predictions',
        nargs='+',
        metavar='RESULTS',
        help='one or two files of tools/test.py --predictions',
    )
    parser.add_argument('--out', default='report.html', help='the page (default: report.html)')
    parser.add_argument('--ann-file', help='where the annotations are now, if they moved')
    parser.add_argument('--img-dir', help='where the images are now, if they moved')
    parser.add_argument(
        '--score-thr',
        type=float,
        default=0.3,
        help='people with a lower score are not drawn and do not count in '
        'the score of an image (default: 0.3)',
    )
    parser.add_argument(
        '--gallery',
        type=int,
        default=12,
        help='as many of the worst and of the best images (default: 12)',
    )
    args = parser.parse_args(argv)
    if len(args.predictions) > 2:
        parser.error(f'expected one or two predictions files, got {len(args.predictions)}')
    return args


@explained_errors()
def main(argv: list[str] | None = None) -> int:
    """Run the tool; return its exit status."""
    args = parse_args(argv)
    runs = load_runs(args.predictions, args.ann_file)
    analyses = []
    for run in runs:
        print(f'Analyzing {run.path} ({len(run.data.images)} images) ...')
        analyses.append(analyze(run, args.score_thr))
    text = render(analyses, args.img_dir, args.score_thr, args.gallery)
    out = Path(args.out)
    out.parent.mkdir(parents=True, exist_ok=True)
    draft = out.with_name(out.name + '.tmp')
    # Names may hold what UTF-8 cannot.
    draft.write_text(text, encoding='utf-8', errors='replace')
    os.replace(draft, out)
    print(f'Page: {out} ({len(text) / 1e6:.1f} MB)')
    return 0


if __name__ == '__main__':
    sys.exit(main())
