#!/usr/bin/env python
"""Estimate the GPU memory of training and inference at COCO's image size.

    python -m benchmarks.cuda.memory --json docs/results/performance/memory-estimate.json

No GPU is needed and nothing is computed: networks run on PyTorch's meta device, where tensors have
sizes but no values, and the bytes of all live tensors are counted. What depends on values has its
largest size: every image has its full number of foreground RoIs, proposals and detections. Not
counted is what PyTorch does not hold as tensors: the CUDA context (some hundred MiB), workspaces
of cuDNN, and fragmentation.

The results file has a list of ``rows``: ``network``, ``task``, ``images``, and in bytes the
``peak``, the ``weights`` and, in training, gradients and the optimizer's ``states`` together.
"""

import argparse
import sys
import weakref
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import FrameType, SimpleNamespace
from typing import Any
from unittest import mock

import numpy as np
import torch
import torch.fx.experimental._config
from mmdet.registry import MODELS
from mmdet.structures import DetDataSample
from mmdet.structures.mask import BitmapMasks
from mmdet.utils import register_all_modules
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from mmengine.structures import InstanceData, instance_data
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from multitask_refine.engine import write_record
from multitask_refine.models import RegistryRoIExtractor

ROOT = Path(__file__).resolve().parents[2]
NETWORKS = {
    name: f'{folder}/multitask-rcnn_r50_{name}_coco.py'
    for folder, names in {
        'multitask_refine': [
            f'{variant}_4xb3-90k'
            for variant in (
                'fpn-ms_regular',
                'fpn-ms_rb',
                'fpn-ms_rb-h',
                'fpn-ms_rb-h-no-offset',
                'fpn-ms_rb-h-kps',
                'fpn-ms_rb-h-roi',
                'fpn-ms_rb-h-v2',
                'fpn-ss_rb-h',
                'fpn_regular',
                'fpn_rb-h',
                'c4_regular',
            )
        ],
        'converted': ['fpn_detectron2_8xb2-90k', 'fpn_torchvision_8xb2-90k'],
    }.items()
    for name in names
}
HEIGHT, WIDTH, PEOPLE, KEYPOINTS = 800, 1333, 10, 17
BATCHES = (1, 2, 4)
BLOCK = 512  # bytes, of which PyTorch's CUDA allocator hands out multiples
PERSON_SIDE = 300  # pixels of a RoI to which the softmax head resizes its maps
SCALARS = {'get_heatmap_maximum': PERSON_SIDE**2, '_bicubic_matrix': PERSON_SIDE}


class MemoryTracker(TorchDispatchMode):
    """Count the bytes of all tensors of the meta device that exist at a time.

    Values that the host reads are true, or 1, or those of ``SCALARS``.

    Attributes:
        live: Bytes that exist now.
        peak: The most since :meth:`reset_peak`.
    """

    def __init__(self) -> None:
        super().__init__()
        self.live = self.peak = 0
        self._known: set[int] = set()

    def reset_peak(self) -> None:
        """Forget the peak so far."""
        self.peak = self.live

    def add(self, *tensors: Tensor) -> None:
        """Count the memory of tensors until they are freed."""
        for tensor in tensors:
            storage = tensor.untyped_storage()
            key = storage._cdata
            if tensor.device.type != 'meta' or key in self._known:
                continue
            size = -(-storage.nbytes() // BLOCK) * BLOCK
            self._known.add(key)
            self.live += size
            self.peak = max(self.peak, self.live)
            weakref.finalize(storage, self._remove, key, size)

    def _remove(self, key: int, size: int) -> None:
        self._known.remove(key)
        self.live -= size

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None
    ) -> Any:
        """Run an operator and count its results."""
        kwargs = kwargs or {}
        if func is torch.ops.aten._local_scalar_dense.default and args[0].is_meta:
            return _read_scalar(args[0])
        to_host = torch.device(kwargs.get('device') or 'meta').type == 'cpu'
        if func is torch.ops.aten._to_copy.default and args[0].is_meta and to_host:
            return torch.ones(args[0].shape, dtype=kwargs.get('dtype') or args[0].dtype)
        results = func(*args, **kwargs)
        self.add(*(each for each in tree_leaves(results) if isinstance(each, Tensor)))
        return results


def _read_scalar(tensor: Tensor) -> bool | int | float:
    if tensor.dtype == torch.bool:
        return True
    if tensor.is_floating_point():
        return 1.0
    frame: FrameType | None = sys._getframe(2)
    while frame and frame.f_code.co_name not in SCALARS:
        frame = frame.f_back
    return SCALARS[frame.f_code.co_name] if frame else 1


@contextmanager
def meta_operators() -> Iterator[None]:
    """Let mmcv's operators and what depends on values run on the meta device."""
    with ExitStack() as stack:
        for name, module in list(sys.modules.items()):
            if name.startswith('mmcv.ops.') and hasattr(module, 'ext_module'):
                stack.enter_context(mock.patch.object(module, 'ext_module', _MetaExtension()))
        stack.enter_context(
            mock.patch.object(
                torch.fx.experimental._config, 'meta_nonzero_assume_all_nonzero', True
            )
        )
        # MMEngine knows the types of CPU and CUDA.
        types = SimpleNamespace(__args__=(*instance_data.IndexType.__args__, Tensor))
        stack.enter_context(mock.patch.object(instance_data, 'IndexType', types))
        stack.enter_context(
            mock.patch.object(
                RegistryRoIExtractor,
                'group_by_level',
                lambda self, levels, num_levels: torch.arange(
                    len(levels), device=levels.device
                ).tensor_split(num_levels),
            )
        )
        yield


class _MetaExtension:
    """mmcv's compiled operators on the meta device.

    Their results are allocated by mmcv's Python code. What is done here is to allocate the buffers
    of the CUDA code (mmcv 2.1, ops/csrc/pytorch/deform_conv.cpp, modulated_deform_conv.cpp).
    """

    def __getattr__(self, name: str) -> Callable[..., Any]:
        if name == 'nms':
            return lambda boxes, scores, **settings: torch.arange(len(boxes), device=boxes.device)
        if name.startswith('deform_conv'):
            return lambda *args, **settings: _allocate_buffers(name, args, settings)
        if name.startswith('modulated_deform_conv'):
            return lambda *args, **settings: _allocate_samples(
                args[0], args[4], settings['kernel_h'] * settings['kernel_w'], 1
            )
        return lambda *args, **settings: None


def _allocate_samples(x: Tensor, offset: Tensor, kernel_points: int, num_images: int) -> Tensor:
    """Allocate the matrix of all samples of some images, and return it."""
    outputs = num_images * offset.shape[2] * offset.shape[3]
    return x.new_empty(x.shape[1] * kernel_points, outputs)


def _allocate_buffers(name: str, args: tuple, settings: dict) -> None:
    offset = args[2] if name == 'deform_conv_forward' else args[1]
    kernel_points = settings['kW'] * settings['kH']
    samples = _allocate_samples(args[0], offset, kernel_points, settings['im2col_step'])
    if name != 'deform_conv_backward_input':
        # The output or its gradient in another order, beside the samples.
        torch.empty_like(args[3] if name == 'deform_conv_forward' else args[2])
    del samples


def make_batch(num_images: int) -> dict:
    """Make images of COCO's size with people, on the CPU."""
    inputs, samples = [], []
    for _ in range(num_images):
        size = (HEIGHT, WIDTH)
        instances = InstanceData(
            bboxes=torch.tensor([[0.0, 0.0, PERSON_SIDE, PERSON_SIDE]]).repeat(PEOPLE, 1),
            labels=torch.zeros(PEOPLE, dtype=torch.int64),
            masks=BitmapMasks(np.zeros((PEOPLE, *size), np.uint8), *size),
            has_mask=torch.ones(PEOPLE, dtype=torch.bool),
            keypoints=torch.zeros(PEOPLE, KEYPOINTS, 2),
            keypoints_visible=torch.ones(PEOPLE, KEYPOINTS),
        )
        inputs.append(torch.zeros(3, *size, dtype=torch.uint8))
        samples.append(
            DetDataSample(
                metainfo=dict(img_shape=size, ori_shape=size, scale_factor=(1.0, 1.0)),
                gt_instances=instances,
            )
        )
    return dict(inputs=inputs, data_samples=samples)


def estimate(name: str) -> list[dict]:
    """Estimate a network's memory for every size of the batch."""
    cfg = Config.fromfile(ROOT / 'configs' / NETWORKS[name])
    with torch.device('meta'):
        model = MODELS.build(cfg.model).to('meta')  # also the device of its input
    rows = []
    with MemoryTracker() as tracker, meta_operators():
        tracker.add(*model.parameters(), *model.buffers())
        row = dict(network=name, weights=tracker.live)
        model.eval()
        with torch.no_grad():
            tracker.reset_peak()
            model.test_step(make_batch(1))
        rows.append(dict(row, task='predict', images=1, peak=tracker.peak))
        model.train()
        wrapper = build_optim_wrapper(model, cfg.optim_wrapper)
        for images in BATCHES:
            for _ in range(2):  # the first step makes the optimizer's states
                tracker.reset_peak()
                model.train_step(make_batch(images), wrapper)
            states = tracker.live - row['weights']
            rows.append(dict(row, task='step', images=images, peak=tracker.peak, states=states))
    return rows


def main(argv: list[str] | None = None) -> int:
    """Run the tool; return its exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--only', nargs='+', choices=NETWORKS, default=list(NETWORKS))
    parser.add_argument('--json', required=True, help='results file')
    args = parser.parse_args(argv)
    register_all_modules(init_default_scope=True)
    rows = []
    for name in args.only:
        rows += estimate(name)
        print(*rows[-1 - len(BATCHES) :], sep='\n', file=sys.stderr, flush=True)
    size = dict(height=HEIGHT, width=WIDTH, people=PEOPLE)
    write_record(args.json, dict(size=size, rows=rows))
    return 0


if __name__ == '__main__':
    sys.exit(main())
