"""Batch norm in evaluation mode while the network is trained."""

import torch
from mmdet.registry import MODELS
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from torch.nn.modules.batchnorm import _BatchNorm

from tests.conftest import CONFIGS
from tests.shrink import shrink_network

LEAF = CONFIGS / 'sample/multitask-rcnn_r26-w24_fpn-ms_rb-h_1xb4-base-500_sample-256.py'


def test_a_step_changes_the_weight_of_batch_norm_but_not_its_statistics():
    """In the backbone, neck, mask head and keypoint head."""
    cfg = Config.fromfile(LEAF)
    shrink_network(cfg.model)
    model = MODELS.build(cfg.model).train()
    norms = {
        name: module for name, module in model.named_modules() if isinstance(module, _BatchNorm)
    }
    parts = {'backbone', 'neck', 'roi_head.mask_head', 'roi_head.keypoint_head'}
    assert all(any(name.startswith(part) for name in norms) for part in parts)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    optimizer = build_optim_wrapper(model, {'optimizer': {'type': 'SGD', 'lr': 0.1}})
    feats = model.extract_feat(torch.rand(2, 3, 64, 64))
    instances = torch.rand(3, feats[0].shape[1], 14, 14)
    optimizer.update_params(
        sum(each.square().sum() for each in feats)
        + model.roi_head.mask_head(instances).sum()
        + model.roi_head.keypoint_head.refined_heatmaps(instances).sum()
    )
    moved = {
        name for name, value in model.state_dict().items() if not torch.equal(value, before[name])
    }
    assert not any('running' in name or 'num_batches' in name for name in moved)
    for part in parts:
        assert any(
            name.startswith(part) and name[:-7] in norms
            for name in moved
            if name.endswith('.weight')
        ), part
