"""Baseline of this project, with its optimizations on or off."""

import copy
import ctypes
from collections.abc import Sequence
from typing import Any

import torch
from mmcv.cnn import fuse_conv_bn
from torch import Tensor, nn

from benchmarks.speed.baselines.base import SEED
from benchmarks.speed.baselines.mmdet_net import MMDetNet
from multitask_refine.models import prepare_for_inference
from multitask_refine.testing.synthetic_weights import draw_state_dict


class MultitaskNet(MMDetNet):
    """A network of this project.

    Args:
        config: File in ``configs``.
        prepare: Whether to optimize a copy for inference, as the inferencer does.
        reference_ops: Classes whose CPU optimization is off: ``WinogradConv2d`` (PyTorch's
            convolution instead), ``RefinedConv2d`` (mmcv's deformable convolution),
            ``SeparableRoIAlign`` (mmcv's RoIAlign), ``SyncAvgFactorRPNHead`` (mmcv's NMS, over
            all levels at once).
        pool_twice: Whether mask and keypoint head pool their features separately.
        channels_last: Whether weights and features are in channels-last memory format.
        fuse_norms: Whether batch norms are fused into convolutions, for inference.
        keep_memory: Whether glibc keeps freed memory instead of returning it to the system.
        checkpointing: Whether the backbone recomputes its features in the backward pass.
        compiled: Whether ``torch.compile`` compiles backbone and FPN.
        kwargs: As in ``Baseline``.
    """

    def __init__(
        self,
        config: str,
        *,
        prepare: bool = False,
        reference_ops: Sequence[str] = (),
        pool_twice: bool = False,
        channels_last: bool = False,
        fuse_norms: bool = False,
        keep_memory: bool = False,
        checkpointing: bool = False,
        compiled: bool = False,
        **kwargs: Any,
    ) -> None:
        self.prepare = prepare
        self.training_model: nn.Module | None = None  # while the prepared copy is in use
        if keep_memory:
            glibc = ctypes.CDLL(None)
            glibc.mallopt(-4, 0)  # M_MMAP_MAX: no mapping of its own for a large tensor
            glibc.mallopt(-1, 2**31 - 1)  # M_TRIM_THRESHOLD: nothing is returned
        super().__init__(config, **kwargs)
        for name in reference_ops:
            layers = [
                layer
                for layer in self.model.modules()
                if name in (kind.__name__ for kind in type(layer).__mro__)
            ]
            if not layers:
                raise ValueError(f'reference_ops: {config} has no layer of the class {name}')
            for layer in layers:
                layer.fast_cpu_ops = False
        for layer in self.model.backbone.modules():
            if checkpointing and hasattr(layer, 'with_cp'):
                layer.with_cp = True
        if pool_twice:
            # Before each pooling for both heads, another one whose result is dropped.
            def pool_before(extractor: nn.Module, args: tuple) -> None:
                extractor.forward(*args)

            self.model.roi_head.instance_roi_extractor.register_forward_pre_hook(pool_before)
        if fuse_norms:
            # For inference only: training needs the norms.
            self.model = fuse_conv_bn(self.model.eval())
        if channels_last:
            self.model.to(memory_format=torch.channels_last)
        if compiled:  # the heads have data-dependent shapes
            self.model.backbone.compile()
            self.model.neck.compile()

    def draw_weights(self) -> dict[str, Tensor]:
        """Draw synthetic weights, scaled for the normalization and the offsets of the config."""
        return draw_state_dict(self.model, SEED)

    def predict(self, batch: dict) -> list:
        """Run inference, with the prepared copy if there is to be one."""
        if self.prepare and self.training_model is None:
            self.training_model = self.model
            self.model = copy.deepcopy(self.model).eval()
            prepare_for_inference(self.model)
        return super().predict(batch)

    def step(self, batch: dict) -> float:
        """Run a training step, of the network that was not prepared."""
        if self.training_model is not None:
            self.model, self.training_model = self.training_model, None
        return super().step(batch)

    def stage_calls(self) -> list[tuple[Any, str, str]]:
        """Return owner, method name and stage of the calls that make up inference and training."""
        model, heads = self.model, self.model.roi_head
        calls = [
            (model.data_preprocessor, 'forward', 'preprocessing'),
            (model.backbone, 'forward', 'backbone'),
            (model.neck, 'forward', 'FPN'),
            (model.rpn_head, 'predict', 'RPN'),
            (model.rpn_head, 'loss_and_predict', 'RPN'),
            (model.rpn_head, 'get_targets', 'targets'),
            (heads.bbox_assigner, 'assign', 'RoI sampling'),
            (heads.bbox_sampler, 'sample', 'RoI sampling'),
            (heads.bbox_roi_extractor, 'forward', 'box pooling'),
            (heads.bbox_head, 'forward', 'box head'),
            (heads.bbox_head, 'get_targets', 'targets'),
            (heads.bbox_head, 'predict_by_feat', 'box decoding'),
            (heads.instance_roi_extractor, 'forward', 'instance pooling'),
            (torch.Tensor, 'backward', 'backward'),
            (self.optimizer, 'step', 'optimizer'),
        ]
        if heads.with_mask:
            calls += [
                (heads.mask_head, 'forward', 'mask head'),
                (heads.mask_head, 'get_targets', 'targets'),
                (heads.mask_head, 'predict_by_feat', 'mask pasting'),
            ]
        if heads.keypoint_head is not None:
            calls += [
                (heads.keypoint_head, 'refined_heatmaps', 'keypoint head'),
                (heads.keypoint_head.codec, 'encode', 'targets'),
                (heads.keypoint_head.codec, 'decode', 'keypoint decoding'),
            ]
        return calls
