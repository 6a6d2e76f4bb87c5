"""Frozen modules of the network."""

import pytest
import torch
from mmdet.registry import MODELS
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper

from multitask_refine.utils.errors import ExplainedError
from tests.conftest import SAMPLE_CONFIG
from tests.shrink import shrink_network


def _build(*frozen):
    cfg = Config.fromfile(SAMPLE_CONFIG)
    shrink_network(cfg.model)
    return MODELS.build(dict(cfg.model, frozen_modules=frozen))


def test_frozen_modules_do_not_change_and_others_do():
    """Including by weight decay, and including statistics of batch norm."""
    model = _build('backbone', 'roi_head.keypoint_head').train()
    assert not model.backbone.layer1.training and model.neck.training
    before = {name: value.clone() for name, value in model.state_dict().items()}
    optimizer = build_optim_wrapper(
        model, dict(optimizer=dict(type='SGD', lr=0.1, weight_decay=0.5))
    )
    feats = model.extract_feat(torch.rand(2, 3, 64, 64))
    instances = torch.rand(3, feats[0].shape[1], 14, 14)
    optimizer.update_params(
        sum(each.sum() for each in feats)
        + model.roi_head.mask_head(instances).sum()
        + model.roi_head.keypoint_head.refined_heatmaps(instances).sum()
    )
    moved = {
        name for name, value in model.state_dict().items() if not torch.equal(value, before[name])
    }
    assert not any(name.startswith(('backbone', 'roi_head.keypoint_head')) for name in moved)
    assert any(name.startswith('neck') for name in moved)
    assert any(name.startswith('roi_head.mask_head') for name in moved)


@pytest.mark.parametrize(
    'names, message',
    [
        (['backbon'], "found 'backbon'.*'backbone'"),
        (['bbox_head'], "'roi_head.bbox_head'"),
        ([''], "found ''"),
        (['backbone', 'neck', 'rpn_head', 'roi_head'], 'nothing to train'),
    ],
)
def test_unknown_names_and_nothing_to_train_are_rejected(names, message):
    with pytest.raises(ExplainedError, match=message):
        _build(*names)
