# Settings to train a ResNet-50 from random weights: every layer is trained, and
# batch norm everywhere. For a leaf: model = _base_.from_scratch
norm_cfg = dict(type='BN')
from_scratch = dict(
    backbone=dict(
        init_cfg=None, frozen_stages=-1, norm_cfg=dict(requires_grad=True), norm_eval=False
    ),
    neck=dict(norm_cfg=norm_cfg),
    roi_head=dict(mask_head=dict(norm_cfg=norm_cfg), keypoint_head=dict(norm_cfg=norm_cfg)),
)
