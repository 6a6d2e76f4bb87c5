#!/usr/bin/env python
"""One HTML page that says where a network errs, or how two differ.

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
from typing import List, Optional, Sequence

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from projects.multitask_refine.errors import explained_errors  # noqa: E402
from projects.multitask_refine.evaluation import percent  # noqa: E402
from tools.analysis_tools.report_gallery import (  # noqa: E402
    Pictures, rank_pair, rank_single)
from tools.analysis_tools.report_html import (  # noqa: E402
    Section, page, paragraph)
from tools.analysis_tools.report_joints import joint_section  # noqa: E402
from tools.analysis_tools.report_method import method_section  # noqa: E402
from tools.analysis_tools.report_runs import (  # noqa: E402
    Analysis, analyse, load_runs)
from tools.analysis_tools.report_sections import (  # noqa: E402
    TITLES, breakdown_section, curve_section, run_section, table_section,
    tasks_of)

_NAMED = 20  # missing images that are named


def parse_args(argv: Optional[List[str]]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        'predictions',
        nargs='+',
        metavar='RESULTS',
        help='one or two files of tools/test.py --predictions')
    parser.add_argument(
        '--out', default='report.html', help='the page (default: report.html)')
    parser.add_argument(
        '--ann-file', help='where the annotations are now, if they moved')
    parser.add_argument(
        '--img-dir', help='where the images are now, if they moved')
    parser.add_argument(
        '--score-thr',
        type=float,
        default=0.3,
        help='people with a lower score are not drawn and do not count in '
        'the score of an image (default: 0.3)')
    parser.add_argument(
        '--gallery',
        type=int,
        default=12,
        help='as many of the worst and of the best images (default: 12)')
    args = parser.parse_args(argv)
    if len(args.predictions) > 2:
        parser.error('expected one or two predictions files, got '
                     f'{len(args.predictions)}')
    return args


def render(analyses: Sequence[Analysis], img_dir: Optional[str],
           threshold: float, limit: int) -> str:
    """The page.

    Args:
        analyses (Sequence[Analysis]): One or two runs.
        img_dir (str, optional): The images' folder, if not as in the test.
        threshold (float): People with a lower score are not drawn.
        limit (int): Images in each part of the gallery.
    """
    sections = [
        run_section(analyses),
        table_section(analyses),
        curve_section(analyses),
        *([joint_section(analyses)] if any(a.errors for a in analyses) else
          []),
        breakdown_section(analyses),
        gallery_section(analyses, img_dir, threshold, limit),
        method_section(threshold)
    ]
    title = ('Error analysis' if len(analyses) == 1 else
             'Error analysis of two runs')
    return page(title, _lead(analyses), sections)


def _lead(analyses: Sequence[Analysis]) -> str:
    """What was run and what it reached, in a sentence each."""
    text = ''
    for analysis in analyses:
        content = analysis.run.content
        name = f'Run {analysis.run.name}: ' if analysis.run.name else ''
        config = str((content['run'] or {}).get('config') or analysis.run.path)
        numbers = ', '.join(
            f'{TITLES[task].lower()} '
            f'{percent(content["metrics"].get(f"{task}_AP"))}'
            for task in tasks_of([analysis]))
        text += paragraph(
            f'{name}{config[:200]} on {len(content["images"])} images of '
            f'{Path(content["annotations"]["file"]).name[:200]}. AP in '
            f'percent: {numbers}.')
    return text


def gallery_section(analyses: Sequence[Analysis], img_dir: Optional[str],
                    threshold: float, limit: int) -> Section:
    """Images beside their ground truth, and which could not be shown."""
    pictures = Pictures(analyses, img_dir, threshold)
    pair = len(analyses) > 1
    scores = [a.scores for a in analyses]
    rankings = rank_pair(*scores) if pair else rank_single(*scores)
    body = paragraph(
        f'The score of an image is the F-measure of the people with a score '
        f'of {threshold} or more, from 0 to 100, averaged over the tasks and '
        'COCO\'s ten thresholds; images with people are ranked by it. Each '
        'person has a colour; covered joints of the ground truth are rings. '
        'All predicted joints are drawn, as all count.', 'note')
    body += ''.join(paragraph(_empty_images(a)) for a in analyses)
    for ranking in rankings:
        figures = pictures.figures(ranking.images, limit)
        body += f'<h3>{ranking.title}</h3>'
        body += (f'<div class="gallery{" pair" if pair else ""}">'
                 f'{"".join(figures)}</div>'
                 if figures else paragraph('None to show.', 'note'))
    return Section('gallery', 'Images', _missing(pictures) + body)


def _empty_images(analysis: Analysis) -> str:
    """How many images without people have detections."""
    empty = [s for s in analysis.scores.values() if not s.people]
    wrong = [s.found for s in empty if s.tasks]
    name = f'Run {analysis.run.name}: ' if analysis.run.name else ''
    return (f'{name}{len(wrong)} of the {len(empty)} images without people '
            f'to be found have detections, {sum(wrong)} in all.')


def _missing(pictures: Pictures) -> str:
    if pictures.folder is None:
        return paragraph('The predictions file does not say where the images '
                         'are: name their folder by --img-dir.')
    if not pictures.missing:
        return ''
    named = [f'{name[:100]} ({why})' for name, why in
             list(pictures.missing.items())[:_NAMED]]
    more = len(pictures.missing) - len(named)
    return paragraph(
        f'{len(pictures.missing)} of {len(pictures.names)} images could not '
        f'be read from {pictures.folder} and are not shown: '
        f'{", ".join(named)}{f" and {more} more" if more else ""}. Name '
        'another folder by --img-dir.')


@explained_errors()
def main(argv: Optional[List[str]] = None) -> int:
    args = parse_args(argv)
    runs = load_runs(args.predictions, args.ann_file)
    analyses = []
    for run in runs:
        print(f'Analysing {run.path} ({len(run.data.images)} images) ...')
        analyses.append(analyse(run, args.score_thr))
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
