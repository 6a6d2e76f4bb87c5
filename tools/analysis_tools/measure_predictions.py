#!/usr/bin/env python
"""Measure rankings, visibility and swapped keypoints of a predictions file.

    python tools/test.py CONFIG CHECKPOINT --predictions predictions.json
    python tools/analysis_tools/measure_predictions.py predictions.json --out FILE.json

The results file has, as far as the model predicts it: AP and calibration of
poses and masks by each score that can rank them; the quality of the predicted
visibility; and the kinds of keypoint errors of all people, and of those whose
box holds keypoints of somebody else.
"""

import argparse
import sys

from multitask_refine.analysis import compare_rankings, find_keypoint_errors, find_uncrowded
from multitask_refine.analysis.keypoint_errors import shares
from multitask_refine.analysis.report.runs import load_runs
from multitask_refine.evaluation import (
    CocoData,
    PredictionsFileError,
    evaluate_visibility,
    has_visibility,
)
from multitask_refine.evaluation.calibration import CalibrationBin, calibration_error
from multitask_refine.utils.errors import explained_errors
from multitask_refine.utils.results_file import write_record


def parse_args(argv: list[str] | None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('predictions', help='a file of tools/test.py --predictions')
    parser.add_argument('--out', required=True, help='the results file')
    parser.add_argument('--ann-file', help='where the annotations are now, if they moved')
    return parser.parse_args(argv)


@explained_errors()
def main(argv: list[str] | None = None) -> int:
    """Run the tool; return its exit status."""
    args = parse_args(argv)
    (run,) = load_runs([args.predictions], args.ann_file)
    if run.content['run'] is None:
        raise PredictionsFileError(
            f'{args.predictions}: run: expected how the predictions came about, found nothing. '
            'Test by tools/test.py --predictions, which writes it.'
        )
    content = measure(run.data, run.content['keypoints']['flip_indices'])
    write_record(args.out, dict(content, tested=run.content['run']))
    print(f'Results file: {args.out}')
    return 0


def measure(data: CocoData, flip_indices: list[int]) -> dict:
    """Measure what the entries have; numbers are in percent, NaN is null.

    Args:
        data (CocoData): Ground truth and predictions.
        flip_indices (list[int]): Index of the mirrored keypoint of each keypoint.
    """
    content: dict = dict(
        rankings={
            task: {
                name: dict(**_to_json(ranking.figures), calibration=_curve_to_json(ranking.curve))
                for name, ranking in rankings.items()
            }
            for task, rankings in compare_rankings(data).items()
        }
    )
    if 'keypoints' not in data.entries:
        return content
    if has_visibility(data.entries['keypoints']):
        visibility = evaluate_visibility([data])
        content['visibility'] = dict(
            **_to_json(visibility.metrics),
            shares=_to_json(visibility.shares),
            keypoints=visibility.num_keypoints,
            calibration=_curve_to_json(visibility.curve),
        )
    content['keypoint_errors'] = {}
    for name, ignored in (('all people', []), ('crowded people', find_uncrowded(data))):
        errors = find_keypoint_errors(data, flip_indices, ignored)
        content['keypoint_errors'][name] = dict(
            people=errors.people, matched=errors.matched, **_to_json(shares(errors.counts))
        )
    return content


def _to_json(values: dict[str, float]) -> dict[str, float | None]:
    # Only NaN differs from itself.
    return {name: round(value, 4) if value == value else None for name, value in values.items()}


def _curve_to_json(curve: list[CalibrationBin]) -> dict:
    error = calibration_error(curve)
    return dict(
        error=_to_json(dict(error=100 * error))['error'],
        bins=[dict(_to_json(each._asdict()), size=each.size) for each in curve],
    )


if __name__ == '__main__':
    sys.exit(main())
