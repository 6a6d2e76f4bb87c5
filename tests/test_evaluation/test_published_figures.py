"""COCO's own example results get the figures that COCO published for them."""

import json
import os
from pathlib import Path

import pytest

from multitask_refine.datasets import CocoMultitaskDataset
from multitask_refine.evaluation.coco_scores import evaluate, load_ground_truth

ROOT = Path(os.environ.get('COCOAPI_100_ROOT', 'data/cocoapi_100'))
# results/val2014_fake_eval_res.txt of github.com/cocodataset/cocoapi, in its
# order: AP, AP50, AP75, (APS,) APM, APL, AR...
FIGURES = dict(
    segm=(
        'instances_val2014_100',
        'instances_val2014_fakesegm100_results',
        (0.320, 0.562, 0.299, 0.387, 0.310, 0.327, 0.268, 0.415, 0.417, 0.469, 0.377, 0.381),
    ),
    bbox=(
        'instances_val2014_100',
        'instances_val2014_fakebbox100_results',
        (0.505, 0.697, 0.573, 0.586, 0.519, 0.501, 0.387, 0.594, 0.595, 0.640, 0.566, 0.564),
    ),
    keypoints=(
        'person_keypoints_val2014_100_rebuilt',
        'person_keypoints_val2014_fakekeypoints100_results',
        (0.372, 0.636, 0.348, 0.384, 0.386, 0.514, 0.734, 0.504, 0.508, 0.522),
    ),
)


@pytest.mark.skipif(
    not ROOT.is_dir(),
    reason=f"{ROOT}: the example results of COCO's API are not there; name "
    'their folder by COCOAPI_100_ROOT',
)
@pytest.mark.parametrize('task', FIGURES)
def test_published_figures(task):
    annotations, results, published = FIGURES[task]
    meta = CocoMultitaskDataset._load_metainfo()
    coco = load_ground_truth(str(ROOT / f'{annotations}.json'), meta['num_keypoints'])
    entries = json.loads((ROOT / f'{results}.json').read_text())
    found = evaluate(coco, {task: entries}, meta['sigmas'], coco.getCatIds(), coco.getImgIds())[
        task
    ]
    assert len(found) == len(published)
    assert tuple(found.values()) == pytest.approx([100 * figure for figure in published], abs=0.05)
