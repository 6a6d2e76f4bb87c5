"""This project's network, plain or by one of its means to be faster."""

import copy
import ctypes
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import torch
from mmcv.cnn import fuse_conv_bn
from mmdet.structures import DetDataSample
from mmdet.utils import register_all_modules
from mmengine.config import Config
from mmengine.structures import InstanceData
from torch import Tensor, nn

from benchmarks.speed.baselines.base import SEED
from benchmarks.speed.baselines.mmdet_net import MMDetNet
from benchmarks.speed.inputs import People
from multitask_refine.models import SyncAvgFactorRPNHead, prepare_for_inference
from multitask_refine.ops import RefinedConv2d, SeparableRoIAlign, WinogradConv2d
from multitask_refine.testing.synthetic_weights import draw_state_dict

CONFIGS = Path(__file__).resolve().parents[3] / 'configs'


class MultitaskNet(MMDetNet):
    """A config of this project.

    Args:
        config (str): Name of the file.
        prepare (bool): Whether inference is by a network that was prepared
            for it, as the inferencer's.
        usual_convs (bool): Whether 3x3 convolutions are PyTorch's.
        mmcv_deform (bool): Whether refined convolutions are mmcv's operator
            on the CPU, too.
        mmcv_pooling (bool): Whether RoIAlign is mmcv's operator on the CPU,
            too.
        mmcv_nms (bool): Whether the proposals of all levels are
            suppressed at once and by mmcv's operator on the CPU, too.
        pool_twice (bool): Whether mask and keypoint head each pool, in the
            place of sharing a feature.
        channels_last (bool): Whether the channels lie last in memory.
        fold_norms (bool): Whether batch norms become part of the
            convolutions before them; for inference.
        keep_memory (bool): Whether the C library keeps freed memory in the
            place of giving it back to the system.
        bfloat16 (bool): Whether layers run in bfloat16 by autocast.
        checkpointing (bool): Whether the backbone computes its features
            anew in the backward pass instead of keeping them.
        compiled (bool): Whether ``torch.compile`` compiles backbone and FPN.
        common: As in ``Baseline``.
    """

    def __init__(
        self,
        config: str,
        *,
        prepare: bool = False,
        usual_convs: bool = False,
        mmcv_deform: bool = False,
        mmcv_pooling: bool = False,
        mmcv_nms: bool = False,
        pool_twice: bool = False,
        channels_last: bool = False,
        fold_norms: bool = False,
        keep_memory: bool = False,
        bfloat16: bool = False,
        checkpointing: bool = False,
        compiled: bool = False,
        **common: Any,
    ) -> None:
        self.bfloat16, self.checkpointing = bfloat16, checkpointing
        self.prepare = prepare
        self.learner: nn.Module | None = None  # while another predicts
        if keep_memory:
            _keep_memory()
        super().__init__(config, **common)
        mmcv_layers = {
            WinogradConv2d: usual_convs,
            RefinedConv2d: mmcv_deform,
            SeparableRoIAlign: mmcv_pooling,
            SyncAvgFactorRPNHead: mmcv_nms,
        }
        for layer in self.model.modules():
            if any(isinstance(layer, kind) and usual for kind, usual in mmcv_layers.items()):
                layer.fast_cpu_ops = False
        if pool_twice:
            self._pool_twice(self.model.roi_head)
        if fold_norms:
            self.model = fuse_conv_bn(self.model.eval())
        if channels_last:
            self.model.to(memory_format=torch.channels_last)
        if compiled:
            self.model.backbone.compile()
            self.model.neck.compile()

    def load_config(self) -> Config:
        register_all_modules(init_default_scope=True)
        config = Config.fromfile(CONFIGS / self.config)
        config.model.backbone.with_cp = self.checkpointing
        return config

    def draw(self, shapes: dict[str, tuple[int, ...]]) -> dict[str, Tensor]:
        return draw_state_dict(self.model, SEED)

    def annotate(self, people: People) -> InstanceData:
        instances = super().annotate(people)
        instances.keypoints = torch.from_numpy(people.keypoints)
        instances.keypoints_visible = torch.full(people.keypoints.shape[:2], 2.0)
        return instances

    def predict(self, batch: dict) -> list[DetDataSample]:
        if self.prepare and self.learner is None:
            self.learner = self.model
            self.model = copy.deepcopy(self.model).eval()
            prepare_for_inference(self.model)
        return super().predict(batch)

    def step(self, batch: dict) -> float:
        if self.learner is not None:
            self.model, self.learner = self.learner, None
        return super().step(batch)

    def run(self, batch: dict) -> list[DetDataSample]:
        with self._precision():
            return super().run(batch)

    def losses(self, batch: dict) -> Tensor:
        with self._precision():
            return super().losses(batch)

    def _precision(self) -> AbstractContextManager:
        if not self.bfloat16:
            return nullcontext()
        return torch.autocast(self.device.type, torch.bfloat16)

    @staticmethod
    def _pool_twice(heads: nn.Module) -> None:
        original = heads._pool_instances

        def pool(*args: Any) -> Tensor:
            original(*args)
            return original(*args)

        heads._pool_instances = pool

    def stage_calls(self) -> list[tuple[Any, str, str]]:
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
            (self, 'backward', 'backward'),
            (self.optimizer, 'step', 'optimizer'),
        ]
        return (
            calls
            + self._mask_calls(heads.mask_head if heads.with_mask else None)
            + self._keypoint_calls()
        )

    def _mask_calls(self, head: nn.Module | None) -> list:
        return (
            []
            if head is None
            else [
                (head, 'forward', 'mask head'),
                (head, 'get_targets', 'targets'),
                (head, 'predict_by_feat', 'mask pasting'),
            ]
        )

    def _keypoint_calls(self) -> list:
        head = self.model.roi_head.keypoint_head
        return (
            []
            if head is None
            else [
                (head, 'refined_heatmaps', 'keypoint head'),
                (head.codec, 'encode', 'targets'),
                (head.codec, 'decode', 'keypoint decoding'),
            ]
        )


def _keep_memory() -> None:
    """Tell glibc never to map memory for one tensor, and to return none."""
    library = ctypes.CDLL(None)
    library.mallopt(-4, 0)  # M_MMAP_MAX
    library.mallopt(-1, 2**31 - 1)  # M_TRIM_THRESHOLD
