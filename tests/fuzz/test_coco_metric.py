"""Random predictions through the metric, compared with pycocotools on files."""

import contextlib
import io
import json
import math

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools import mask as mask_api
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from multitask_refine.evaluation import MultitaskCocoMetric
from tests.fuzz.mutations import portion

_SIGMAS = np.linspace(0.02, 0.1, 17)
_NAMES = dict(
    bbox=('AP', 'AP50', 'AP75', 'APS', 'APM', 'APL', 'AR1', 'AR10', 'AR100', 'ARS', 'ARM', 'ARL'),
    keypoints=('AP', 'AP50', 'AP75', 'APM', 'APL', 'AR', 'AR50', 'AR75', 'ARM', 'ARL'),
)
_SCORE = st.one_of(st.sampled_from([0.0, 0.5, 1.0]), st.floats(0, 1, width=32))
_PLACE = st.one_of(st.floats(-10, 80, width=32), st.sampled_from([10.0, 30.0, 40.0, -1e6, 1e7]))


@st.composite
def _people(draw):
    """Draw detections near the annotated person and elsewhere, possibly none."""
    count = draw(st.integers(0, 4))
    boxes = torch.zeros(count, 4)
    masks = torch.zeros(count, 48, 64, dtype=torch.bool)
    points = torch.zeros(count, 17, 2)
    for i in range(count):
        kind = draw(st.sampled_from(['near', 'any', 'empty']))
        if kind == 'near':
            shift = draw(st.integers(-6, 6))
            boxes[i] = torch.tensor([10, 10, 30, 40]) + shift
            masks[i, 10:40, max(0, 10 + shift) : 30 + shift] = True
            points[i, :, 0] = torch.linspace(11, 28, 17) + 0.5 + shift
            points[i, :, 1] = torch.linspace(11, 38, 17) + 0.5
        elif kind == 'any':
            boxes[i] = torch.tensor([draw(_PLACE) for _ in range(4)])
            masks[i] = torch.rand(48, 64) > draw(st.floats(0, 1))
            points[i] = torch.tensor([draw(_PLACE) for _ in range(2)])
    scores = torch.tensor([draw(_SCORE) for _ in range(count)])
    return dict(
        bboxes=boxes,
        masks=masks,
        keypoints=points,
        scores=scores,
        labels=torch.zeros(count, dtype=torch.int64),
        keypoint_scores=torch.tensor([[draw(_SCORE)] * 17 for _ in range(count)]).reshape(
            count, 17
        ),
    )


def _entries(image, people, task):
    """Write COCO result entries without the project's code."""
    for i in range(len(people['scores'])):
        entry = dict(image_id=image, category_id=1, score=float(people['scores'][i].double()))
        if task == 'bbox':
            x1, y1, x2, y2 = people['bboxes'][i].double().tolist()
            entry['bbox'] = [x1, y1, x2 - x1, y2 - y1]
        elif task == 'segm':
            rle = mask_api.encode(np.asfortranarray(people['masks'][i].numpy().astype(np.uint8)))
            entry['segmentation'] = dict(rle, counts=rle['counts'].decode())
        else:
            points = people['keypoints'][i].double() - 0.5
            sure = people['keypoint_scores'][i].double()
            entry['keypoints'] = torch.cat([points, sure[:, None]], 1).flatten().tolist()
            entry['score'] *= float(sure.numpy().mean())
        yield entry


def _expected(truth, images, task, path):
    """pycocotools' figures in percent, from a file of results."""
    results = [e for image, people in images.items() for e in _entries(image, people, task)]
    path.write_text(json.dumps(results))
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO(str(truth))
        found = coco.loadRes(str(path)) if results else COCO()
        if not results:
            found.dataset = dict(coco.dataset, annotations=[])
            found.createIndex()
        scores = COCOeval(coco, found, task)
        scores.params.imgIds = list(images)
        scores.params.kpt_oks_sigmas = _SIGMAS
        scores.evaluate()
        scores.accumulate()
        scores.summarize()
    names = _NAMES['keypoints' if task == 'keypoints' else 'bbox']
    return {f'coco/{task}_{name}': 100 * value for name, value in zip(names, scores.stats)}


@settings(max_examples=portion(0.25))
@given(st.dictionaries(st.integers(1, 3), _people(), min_size=1))
def test_any_predictions_score_as_pycocotools_says(scene, tmp_path_factory, images):
    truth = scene / 'annotations/person_keypoints_val2017.json'
    metric = MultitaskCocoMetric(str(truth))
    metric.dataset_meta = dict(classes=('person',), sigmas=_SIGMAS)
    for image, people in images.items():
        metric.process({}, [dict(img_id=image, pred_instances=people)])
    metrics = metric.evaluate(len(images))
    path = tmp_path_factory.getbasetemp() / 'results.json'
    for task in ('bbox', 'segm', 'keypoints'):
        for name, value in _expected(truth, images, task, path).items():
            if value < 0:
                assert math.isnan(metrics[name])
            else:
                assert abs(metrics[name] - value) < 1e-6, name
