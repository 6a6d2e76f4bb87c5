"""The HTML page: sections of the analysis in a template."""

from collections.abc import Sequence
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from multitask_refine.analysis.breakdown import SIZES
from multitask_refine.analysis.keypoint_errors import GOOD, NEAR
from multitask_refine.evaluation.coco_scores import MATCH

from .charts import KIND_COLORS, RUN_COLORS, TITLES, curve_chart
from .gallery import gallery_section
from .runs import Analysis
from .sections import (
    breakdown,
    keypoint_section,
    metric_table,
    ranking_section,
    run_facts,
    summary,
    tasks_of,
    visibility_section,
)

TEMPLATES = Path(__file__).with_name('templates')
_BREAKDOWNS = dict(
    size='By size of the person',
    people='By number of people in the image',
    occlusion='By occlusion of the person',
    visibility='By visibility of the keypoints',
)


def render(analyses: Sequence[Analysis], img_dir: str | None, threshold: float, limit: int) -> str:
    """Render the page.

    Args:
        analyses (Sequence[Analysis]): One or two runs.
        img_dir (str, optional): The images' folder, if not as in the test.
        threshold (float): People with a lower score are not drawn.
        limit (int): Images in each part of the gallery.
    """
    with_keypoints = [a for a in analyses if a.errors]
    with_visibility = [a for a in analyses if a.visibility]
    with_rankings = [a for a in analyses if a.rankings]
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
        leads=[summary(a) for a in analyses],
        facts=[run_facts(a.run.content, a.run.path) for a in analyses],
        metrics=metric_table(analyses),
        curves=[(TITLES[task], curve_chart(analyses, task)) for task in tasks_of(analyses)],
        keypoints=keypoint_section(with_keypoints) if with_keypoints else None,
        visibility=visibility_section(with_visibility) if with_visibility else None,
        rankings=ranking_section(with_rankings) if with_rankings else None,
        breakdowns=breakdowns,
        gallery=gallery_section(analyses, img_dir, threshold, limit),
        threshold=threshold,
        run_colors=RUN_COLORS,
        kind_colors=KIND_COLORS,
        sizes=SIZES,
        good=GOOD,
        near=NEAR,
        match=MATCH,
    )
