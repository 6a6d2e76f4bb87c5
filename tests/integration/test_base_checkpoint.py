"""The pretrained base checkpoint of the project."""

import hashlib

import cv2
import numpy as np
import pytest
import torch
from mmdet.structures.bbox import bbox_overlaps
from mmengine.config import Config

from multitask_cli import train
from multitask_refine.apis import MultitaskInferencer
from multitask_refine.utils.safe_checkpoint import load_checkpoint_file
from tests.config_kinds import LEAVES, SETTINGS
from tests.conftest import CONFIGS, ROOT, as_arguments, tiny_options
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


@pytest.mark.parametrize(
    'leaf',
    [
        leaf
        for leaf in LEAVES
        if str(SETTINGS.get(leaf.stem, {}).get('load_from')).endswith(BASE.name)
    ],
    ids=lambda leaf: leaf.stem,
)
@pytest.mark.exhaustive
def test_configs_train_from_the_base(leaf, scene, tmp_path):
    """In their real width; the stem is the same in all of them, and hardly moves in one step."""
    options = {
        name: value
        for name, value in tiny_options(scene).items()
        if not name.startswith('model.') or name.startswith('model.test_cfg')
    }
    options |= {'load_from': BASE, 'train_cfg.max_iters': 1, 'train_cfg.val_begin': 10}
    train.main([str(leaf), '--work-dir', str(tmp_path), *as_arguments(options)])
    trained, base = (
        load_checkpoint_file(path)['state_dict']['backbone.conv1.weight'].float()
        for path in (tmp_path / 'iter_1.pth', BASE)
    )
    torch.testing.assert_close(trained, base, atol=1e-3, rtol=0)
