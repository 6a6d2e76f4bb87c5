"""The pretrained base checkpoint of the project."""

import hashlib

import cv2
import numpy as np
import pytest
import torch
from mmdet.structures.bbox import bbox_overlaps
from mmengine.config import Config

from multitask_refine.apis import MultitaskInferencer
from tests.conftest import CONFIGS, ROOT
from tools.dataset.make_sample import draw_image

BASE = ROOT / Config.fromfile(ROOT / 'configs/_base_/base_checkpoint.py').load_from
CONFIG = CONFIGS / 'sample/multitask-rcnn_r26-w24_fpn-ms_regular_1xb8-10k_sample.py'

pytestmark = pytest.mark.skipif(
    BASE.stem.endswith('-00000000'), reason='the base is not trained yet'
)


def test_size_hash_and_name():
    content = BASE.read_bytes()
    assert len(content) <= 10e6
    digest = hashlib.sha256(content).hexdigest()
    assert BASE.name.endswith(f'-{digest[:8]}.pth')
    assert BASE.name.startswith('multitask-rcnn_r26-w24_fpn-ms_regular_sample')
    # It holds no paths of the machine that trained it.
    assert b"'/home/" not in content and b"'/root/" not in content


def test_detections_on_synthetic_people():
    """All weights fit, as the inferencer is strict, and each of the two people
    who stand apart in either image has a box of IoU above 0.5. The base was
    trained on another seed."""
    inferencer = MultitaskInferencer(str(CONFIG), str(BASE), device='cpu', show_progress=False)
    for index in (5, 10):
        coded, _, people = draw_image(index, split='val', seed=7, size=256)
        image = cv2.imdecode(np.frombuffer(coded, np.uint8), cv2.IMREAD_COLOR)
        result = inferencer(image)[0]
        boxes = torch.tensor([person['bbox'] for person in people]).float()
        boxes[:, 2:] += boxes[:, :2]
        found = torch.from_numpy(result['bboxes'][result['scores'] > 0.5])
        assert len(boxes) == 2
        assert (bbox_overlaps(boxes, found.float()).amax(1) > 0.5).all(), index
