"""Run one rank of a distributed training step.

The test that starts the ranks imports this module, too, and runs the same steps in one process.
Everything is float64 and deterministic, so the results differ by rounding only.
"""

from collections.abc import Sequence
from pathlib import Path

import torch
import torch.distributed as dist
from mmdet.registry import MODELS
from mmdet.structures import DetDataSample
from mmdet.structures.mask import BitmapMasks
from mmdet.utils import register_all_modules
from mmengine.config import Config
from mmengine.structures import InstanceData
from torch import nn

from multitask_refine.models import SyncAvgFactorRPNHead
from multitask_refine.models.losses import avg_factor
from tests.conftest import SAMPLE_CONFIG, tiny_options

HEIGHT, WIDTH = 64, 96
EVERYWHERE = [[0.0, 0.0, WIDTH, HEIGHT]]


def sample(
    people: int = 0,
    labeled: bool = True,
    crowds: Sequence[list[float]] = (),
    masked: Sequence[bool] = (True,) * 4,
) -> DetDataSample:
    """Make an image of people side by side, 20 pixels each."""
    left = torch.arange(people) * 20.0 + 3
    boxes = torch.stack([left, left * 0 + 6, left + 16, left * 0 + 56], -1)
    keypoints = boxes[:, None, :2] + torch.rand(people, 17, 2) * torch.tensor([16.0, 50.0])
    masks = torch.zeros(people, HEIGHT, WIDTH, dtype=torch.uint8)
    for mask, box in zip(masks, boxes.int(), strict=True):
        mask[box[1] : box[3] - 9, box[0] + 2 : box[2]] = 1
    meta = {
        'img_id': 1,
        'img_shape': (HEIGHT, WIDTH),
        'ori_shape': (HEIGHT, WIDTH),
        'batch_input_shape': (HEIGHT, WIDTH),
        'pad_shape': (HEIGHT, WIDTH),
        'scale_factor': (1.0, 1.0),
    }
    result = DetDataSample(metainfo=meta)
    result.gt_instances = InstanceData(
        bboxes=boxes,
        labels=torch.zeros(people, dtype=torch.long),
        masks=BitmapMasks(masks.numpy(), HEIGHT, WIDTH),
        keypoints=keypoints,
        keypoints_visible=torch.full((people, 17), 2.0 * labeled),
        has_mask=torch.tensor(masked[:people], dtype=torch.bool),
    )
    result.ignored_instances = InstanceData(bboxes=torch.tensor(crowds).reshape(-1, 4))
    return result


# Four images each; of two ranks the first gets the first two.
CASES = {
    'uneven': lambda: [sample(4), sample(3), sample(1, crowds=[[30, 0, 96, 64]]), sample()],
    'one_person_in_all': lambda: [sample(1), sample(), sample(), sample()],
    'no_person_on_one': lambda: [sample(4), sample(2), sample(), sample()],
    'no_keypoint_on_one': lambda: [sample(4), sample(2), sample(1, False), sample(2, False)],
    'no_mask_on_one': lambda: [
        sample(4),
        sample(2),
        sample(1, masked=[False]),
        sample(2, masked=[False] * 2),
    ],
    'some_masks': lambda: [
        sample(4, masked=[True, False, False, True]),
        sample(3, masked=[False] * 3),
        sample(1),
        sample(2, masked=[False, True]),
    ],
    'crowd_only_on_one': lambda: [
        sample(4),
        sample(2, crowds=[[48, 0, 96, 64]]),
        sample(crowds=EVERYWHERE),
        sample(crowds=EVERYWHERE),
    ],
    'no_roi_on_one': lambda: [
        sample(4),
        sample(2),
        sample(2, crowds=EVERYWHERE),
        sample(1, crowds=EVERYWHERE),
    ],
    'no_person': lambda: [sample(), sample(), sample(), sample()],
}


@MODELS.register_module()
class Float64RPNHead(SyncAvgFactorRPNHead):
    """RPN head with NMS in float32, as mmcv's operator needs it."""

    def predict_by_feat(self, *args, **kwargs) -> list[InstanceData]:
        args = [[level.float() for level in levels] for levels in args]
        proposals = super().predict_by_feat(*args, **kwargs)
        return [InstanceData(bboxes=image.bboxes.double()) for image in proposals]


def build_model() -> nn.Module:
    """Build the small refined network without random sampling and batch statistics."""
    cfg = Config.fromfile(SAMPLE_CONFIG)
    options = tiny_options(Path())
    cfg.merge_from_dict(
        {
            **{k: v for k, v in options.items() if k.startswith(('model.backbone', 'model.neck'))},
            'model.rpn_head.type': 'Float64RPNHead',
            # More than there are: every anchor and every proposal is sampled.
            'model.train_cfg.rpn.sampler.num': 10**6,
            'model.train_cfg.rcnn.sampler.num': 10**6,
            'model.train_cfg.rpn_proposal.max_per_img': 20,
        }
    )
    torch.manual_seed(0)
    model = MODELS.build(cfg.model)
    model.init_weights()
    with torch.no_grad():
        for parameter in model.parameters():
            if not parameter.any():  # the refinement is initialized to zero
                parameter.normal_(std=0.01)
    model.double().train()
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.eval()
    return model


def step(model: nn.Module, case: str, images: slice) -> dict:
    """Compute losses and gradients of some of a case's images."""
    torch.manual_seed(1)
    inputs = 50 * torch.randn(4, 3, HEIGHT, WIDTH, dtype=torch.float64)
    samples = CASES[case]()
    # No proposal matches an instance, and the crowd covers all of them.
    roi_head = getattr(model, 'module', model).roi_head
    roi_head.bbox_sampler.add_gt_as_proposals = case != 'no_roi_on_one'
    model.zero_grad(set_to_none=True)
    losses = model(inputs[images], samples[images], mode='loss')
    total = sum(
        sum(value) if isinstance(value, list) else value.sum()
        for key, value in losses.items()
        if 'loss' in key
    )
    total.backward()
    return {
        'keys': sorted(losses),
        'total': total.item(),
        'gradients': {
            name.removeprefix('module.'): parameter.grad
            for name, parameter in model.named_parameters()
        },
    }


def main(rank: int, world_size: int, folder: Path) -> None:
    """Run the step of every case with this rank's images."""
    torch.set_num_threads(1)
    register_all_modules(init_default_scope=True)
    dist.init_process_group(
        'gloo', init_method=f'file://{folder}/rendezvous', rank=rank, world_size=world_size
    )
    model = nn.parallel.DistributedDataParallel(build_model(), broadcast_buffers=False)
    share = slice(4 // world_size * rank, 4 // world_size * (rank + 1))
    results = {case: step(model, case, share) for case in CASES}
    # The gradients if each rank divided by its own counts, as in mmdet.
    avg_factor.reduce_mean = lambda tensor: tensor
    results['own_counts'] = step(model, 'uneven', share)
    torch.save(results, folder / f'{rank}.pt')
