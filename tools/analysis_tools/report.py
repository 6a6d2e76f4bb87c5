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
from collections.abc import Sequence
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from multitask_refine.analysis import report as report_package
from multitask_refine.analysis.breakdown import SIZES
from multitask_refine.analysis.keypoint_errors import GOOD, MATCH, NEAR
from multitask_refine.analysis.report.charts import KIND_COLORS, RUN_COLORS, TITLES, curve_chart
from multitask_refine.analysis.report.gallery import Gallery, rank_pair, rank_single
from multitask_refine.analysis.report.runs import Analysis, analyze, load_runs
from multitask_refine.analysis.report.sections import (
    breakdown,
    keypoint_section,
    metric_table,
    run_facts,
    tasks_of,
)
from multitask_refine.evaluation import percent
from multitask_refine.utils.errors import explained_errors

TEMPLATES = Path(report_package.__file__).with_name('templates')
_BREAKDOWNS = dict(
    size='By size of the person',
    people='By number of people in the image',
    occlusion='By occlusion of the person',
    visibility='By visibility of the keypoints',
)


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


def render(analyses: Sequence[Analysis], img_dir: str | None, threshold: float, limit: int) -> str:
    """Render the page.

    Args:
        analyses (Sequence[Analysis]): One or two runs.
        img_dir (str, optional): The images' folder, if not as in the test.
        threshold (float): People with a lower score are not drawn.
        limit (int): Images in each part of the gallery.
    """
    with_keypoints = [a for a in analyses if a.errors]
    breakdowns = []
    for key, title in _BREAKDOWNS.items():
        runs = [a for a in analyses if key in a.groups]
        if runs:
            breakdowns.append(dict(key=key, title=title, **breakdown(runs, key, title)))
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
    )
    return environment.get_template('report.html').render(
        analyses=analyses,
        pair=len(analyses) > 1,
        leads=[_lead(a) for a in analyses],
        facts=[run_facts(a.run.content, a.run.path) for a in analyses],
        metrics=metric_table(analyses),
        curves=[(TITLES[task], curve_chart(analyses, task)) for task in tasks_of(analyses)],
        keypoints=keypoint_section(with_keypoints) if with_keypoints else None,
        breakdowns=breakdowns,
        gallery=_gallery(analyses, img_dir, threshold, limit),
        threshold=threshold,
        run_colors=RUN_COLORS,
        kind_colors=KIND_COLORS,
        sizes=SIZES,
        good=GOOD,
        near=NEAR,
        match=MATCH,
    )


def _lead(analysis: Analysis) -> dict:
    """Return what was run and what it reached."""
    content = analysis.run.content
    return dict(
        analysis=analysis,
        config=str((content['run'] or {}).get('config') or analysis.run.path),
        images=len(content['images']),
        data=Path(content['annotations']['file']).name,
        numbers=', '.join(
            f'{TITLES[task].lower()} {percent(content["metrics"].get(f"{task}_AP"))}'
            for task in tasks_of([analysis])
        ),
    )


def _gallery(
    analyses: Sequence[Analysis], img_dir: str | None, threshold: float, limit: int
) -> dict:
    """Return drawn images and which ones could not be shown."""
    gallery = Gallery(analyses, img_dir, threshold)
    scores = [a.scores for a in analyses]
    rankings = rank_pair(*scores) if len(scores) > 1 else rank_single(*scores)
    empty = []  # images without people, and the detections in them
    for analysis in analyses:
        images = [s for s in analysis.scores.values() if not s.people]
        empty.append((analysis, len(images), [s.found for s in images if s.tasks]))
    return dict(
        folder=gallery.folder,
        images=len(gallery.names),
        rankings=[(r, gallery.figures(r.images, limit)) for r in rankings],
        missing=list(gallery.missing.items()),  # known after the drawing
        empty=empty,
    )


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
