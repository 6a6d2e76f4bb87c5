#!/usr/bin/env python
r"""Count how often a training step and an inference would wait for a GPU.

    python -m benchmarks.cuda.synchronizations \
        --json docs/results/performance/synchronizations.json

No GPU is needed: networks run on the CPU behind a simulated device, which records what PyTorch
would wait for on CUDA. With --detectron2-python (an interpreter that has what Detectron2 needs)
and --checkouts (git checkouts of Detectron2 and fvcore) Detectron2's network is counted beside
them. The results file has ``networks`` by name: for ``step`` (forward, backward, optimizer and
what is written to the log in every iteration) and ``predict`` a list of places with their
``count``.
"""

import argparse
import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch
from mmdet.registry import MODELS
from mmdet.structures import DetDataSample
from mmdet.structures.mask import BitmapMasks
from mmdet.utils import register_all_modules
from mmengine.config import Config
from mmengine.hooks import RuntimeInfoHook
from mmengine.hub import get_config
from mmengine.logging import MessageHub
from mmengine.optim import OptimWrapper
from mmengine.structures import InstanceData

from benchmarks.cuda.inputs import DETECTIONS, IMAGES, ROIS, SEED, draw_batch
from multitask_refine.engine import write_record
from multitask_refine.testing.simulated_device import SimulatedDevice, Synchronization
from multitask_refine.testing.synthetic_weights import draw_state_dict

ROOT = Path(__file__).resolve().parents[2]
NETWORKS = {
    'regular': 'multitask_refine/multitask-rcnn_r50_fpn-ms_regular_4xb3-90k_coco.py',
    'rb_h': 'multitask_refine/multitask-rcnn_r50_fpn-ms_rb-h_4xb3-90k_coco.py',
    'detectron2-converted': 'converted/multitask-rcnn_r50_fpn_detectron2_8xb2-90k_coco.py',
}
MMDET = 'mmdet::mask_rcnn/mask-rcnn_r50-caffe_fpn_1x_coco.py'


def count_places(found: Iterable[Synchronization]) -> list[dict]:
    """Return the places with their numbers of synchronizations, the most frequent first."""
    return [dict(place._asdict(), count=count) for place, count in Counter(found).most_common()]


def count_network(cfg: Config) -> dict[str, list[dict]]:
    """Count the synchronizations of a network of this project or of MMDetection.

    Args:
        cfg: Its ``model``.
    """
    model = MODELS.build(cfg.model)
    if cfg.model.type == 'MultitaskRCNN':
        counters = {k: v for k, v in model.state_dict().items() if k.endswith('batches_tracked')}
        model.load_state_dict({**counters, **draw_state_dict(model, SEED)})
    train, test = _make_batch(IMAGES), _make_batch(1)
    with SimulatedDevice() as device:
        model.to(device.device)
        optimizer = torch.optim.SGD(
            [each for each in model.parameters() if each.requires_grad], 1e-6, momentum=0.9
        )
        wrapper = OptimWrapper(optimizer)

        def step() -> None:
            model.train()
            outputs = model.train_step(train, wrapper)
            runner = SimpleNamespace(message_hub=MessageHub.get_current_instance())
            RuntimeInfoHook().after_train_iter(runner, 0, outputs=outputs)

        def predict() -> None:
            model.eval()
            with torch.no_grad():
                found = model.test_step(test)
            assert len(found[0].pred_instances) == DETECTIONS

        return count_tasks(device, step, predict)


def count_tasks(
    device: SimulatedDevice, step: Callable[[], None], predict: Callable[[], None]
) -> dict[str, list[dict]]:
    """Run a training step and an inference, and count the synchronizations of each."""
    places = {}
    for name, task in dict(step=step, predict=predict).items():
        device.synchronizations.clear()
        task()
        places[name] = count_places(device.synchronizations)
    return places


def _make_batch(num_images: int) -> dict:
    inputs, samples = [], []
    for image, people in draw_batch(num_images):
        size = image.shape[1:]
        boxes = torch.from_numpy(people.boxes)
        instances = InstanceData(
            bboxes=boxes,
            labels=torch.zeros(len(boxes), dtype=torch.int64),
            masks=BitmapMasks(people.masks, *size),
            has_mask=torch.ones(len(boxes), dtype=torch.bool),
            keypoints=torch.from_numpy(people.keypoints),
            keypoints_visible=torch.full(people.keypoints.shape[:2], 2.0),
        )
        ignored = InstanceData(bboxes=torch.zeros(0, 4), labels=torch.zeros(0, dtype=torch.int64))
        sample = DetDataSample(
            metainfo=dict(img_shape=size, ori_shape=size, scale_factor=(1.0, 1.0)),
            gt_instances=instances,
            ignored_instances=ignored,
        )
        inputs.append(torch.from_numpy(image))
        samples.append(sample)
    return dict(inputs=inputs, data_samples=samples)


def load_network(name: str) -> Config:
    """Load a config; inference finds as many people in an image as in the other networks."""
    cfg = (
        Config.fromfile(ROOT / 'configs' / NETWORKS[name])
        if name in NETWORKS
        else get_config(MMDET)
    )
    cfg.model.backbone.init_cfg = None
    # Few RoIs: their number does not change the counts.
    cfg.model.train_cfg.rcnn.sampler.num = ROIS
    for proposals in (cfg.model.train_cfg.rpn_proposal, cfg.model.test_cfg.rpn):
        proposals.update(nms_pre=ROIS, max_per_img=2 * ROIS)
    cfg.model.test_cfg.rcnn.update(max_per_img=DETECTIONS, score_thr=0.0)
    return cfg


def count_detectron2(python: str, checkouts: list[str]) -> dict[str, list[dict]]:
    """Count the synchronizations of Detectron2's network in another interpreter."""
    paths = [ROOT, ROOT / 'projects/multitask_refine/testing', *checkouts]
    output = subprocess.run(
        [python, '-m', 'benchmarks.cuda.detectron2_synchronizations'],
        cwd=ROOT,
        env=dict(os.environ, PYTHONPATH=os.pathsep.join(map(str, paths))),
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    ).stdout
    return json.loads(output.splitlines()[-1])


def main(argv: list[str] | None = None) -> int:
    """Run the tool; return its exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--detectron2-python', help='interpreter with what Detectron2 needs')
    parser.add_argument('--checkouts', nargs='+', default=[], help='of Detectron2 and fvcore')
    parser.add_argument('--json', required=True, help='results file')
    args = parser.parse_args(argv)
    register_all_modules(init_default_scope=True)
    torch.manual_seed(SEED)
    np.random.seed(SEED)
    networks = {name: count_network(load_network(name)) for name in (*NETWORKS, 'mmdet')}
    if args.detectron2_python:
        networks['detectron2'] = count_detectron2(args.detectron2_python, args.checkouts)
    write_record(args.json, dict(images=IMAGES, detections=DETECTIONS, networks=networks))
    for name, tasks in networks.items():
        totals = {task: sum(each['count'] for each in found) for task, found in tasks.items()}
        print(name, totals)
    return 0


if __name__ == '__main__':
    sys.exit(main())
