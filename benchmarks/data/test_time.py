#!/usr/bin/env python
"""Evaluate what a trained network can do differently at test time.

    python tools/dataset/make_sample.py data/base --size 256 --seed 1000 --train 20000 --val 300
    python tools/dataset/make_sample.py data/crowded --size 256 --seed 5000 --train 0 --val 150 \
        --crowded
    python -m benchmarks.data.test_time --json docs/results/test-time.json

Each variant is the pretrained base with other settings of ``test_cfg.rcnn`` or of the decoder of
the keypoint head. Backbone and RPN run once for all variants of an image, so that these differ by
nothing else. The datasets are the validation images of the base, and crowded ones, in each of
which several people cover each other. Variants that the results file has, with the same settings,
are not evaluated again; each has the commit that it was evaluated at.
"""

import argparse
import json
import sys
from pathlib import Path

import torch
from mmdet.registry import MODELS
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmengine.runner import Runner
from torch import nn

from multitask_refine.engine import explained_errors, load_checkpoint_file, write_record
from multitask_refine.evaluation import TASKS, MultitaskCocoMetric
from multitask_refine.finetune import find_base
from multitask_refine.utils.config import load_config
from multitask_refine.utils.results_file import current_commit
from multitask_runtime.utils.files import file_sha256

CONFIG = 'configs/sample/multitask-rcnn_r26-w24_fpn-ms_regular_1xb8-10k_sample.py'
DATASETS = ('base', 'crowded')
RCNN = 'test_cfg.rcnn.'
CODEC = 'roi_head.keypoint_head.codec.'


def instance_nms(similarity: str, threshold: float, box_iou: float) -> dict:
    """Settings of an NMS by poses or masks after one of the boxes that lets more of them pass."""
    nms = dict(type='InstanceNMS', similarity=similarity, threshold=threshold)
    return {f'{RCNN}nms.iou_threshold': box_iou, f'{RCNN}postprocess': [nms]}


def postprocess(*steps: dict, roi_scale_factor: float = 1) -> dict:
    """Settings of a list of postprocessors."""
    return {f'{RCNN}postprocess': list(steps), f'{RCNN}roi_scale_factor': roi_scale_factor}


def dark(method: str, blur: int) -> dict:
    """Settings of MMPose's decoders."""
    return {
        f'{CODEC}type': 'DarkRoIHeatmapCodec',
        f'{CODEC}method': method,
        f'{CODEC}blur_kernel_size': blur,
    }


OKS_NMS = dict(type='InstanceNMS', similarity='oks', threshold=0.7)
MASK_BOX = dict(type='MaskBoxRefiner', weight=0.5)
KEYPOINT_BOX = dict(type='KeypointBoxRefiner', score_thr=0.3)
# Title: settings of the model. The first is what the others are compared with.
VARIANTS = {
    'box NMS 0.5, as trained': {},
    'box NMS 0.6': {f'{RCNN}nms.iou_threshold': 0.6},
    'box NMS 0.7': {f'{RCNN}nms.iou_threshold': 0.7},
    'OKS NMS 0.5 after box NMS 0.8': instance_nms('oks', 0.5, 0.8),
    'OKS NMS 0.7 after box NMS 0.8': instance_nms('oks', 0.7, 0.8),
    'mask NMS 0.4 after box NMS 0.8': instance_nms('mask', 0.4, 0.8),
    'mask NMS 0.6 after box NMS 0.8': instance_nms('mask', 0.6, 0.8),
    'boxes half way to the masks': postprocess(MASK_BOX),
    'boxes of the masks': postprocess(dict(type='MaskBoxRefiner', weight=1.0)),
    'keypoints rescored by the box, RoIs x 1.2': postprocess(
        dict(type='KeypointRescorer', region='bbox'), roi_scale_factor=1.2
    ),
    'keypoints rescored by the mask': postprocess(dict(type='KeypointRescorer')),
    'RoIs x 1.1': postprocess(roi_scale_factor=1.1),
    'RoIs x 1.2': postprocess(roi_scale_factor=1.2),
    'boxes enlarged by the keypoints, RoIs x 1.1': postprocess(KEYPOINT_BOX, roi_scale_factor=1.1),
    'boxes half way to the masks, RoIs x 1.1': postprocess(MASK_BOX, roi_scale_factor=1.1),
    'boxes of the masks, RoIs x 1.1': postprocess(
        dict(MASK_BOX, weight=1.0), roi_scale_factor=1.1
    ),
    'OKS NMS 0.7 after box NMS 0.8, boxes half way to the masks, RoIs x 1.1': {
        f'{RCNN}nms.iou_threshold': 0.8,
        **postprocess(OKS_NMS, MASK_BOX, roi_scale_factor=1.1),
    },
    'DARK, blur 11': dark('dark', 11),
    'DARK, blur 5': dark('dark', 5),
    'UDP, blur 11': dark('udp', 11),
    'UDP, blur 5': dark('udp', 5),
}


def build_models(checkpoint: str, titles: list[str]) -> dict[str, nn.Module]:
    """Build the network of each variant, with the same weights."""
    weights = load_checkpoint_file(checkpoint, 'cpu')['state_dict']
    models = {}
    for title in titles:
        cfg = Config.fromfile(CONFIG)
        cfg.merge_from_dict({f'model.{name}': value for name, value in VARIANTS[title].items()})
        models[title] = MODELS.build(cfg.model).eval()
        models[title].load_state_dict(weights)
    return models


@torch.no_grad()
def evaluate(models: dict[str, nn.Module], root: Path, limit: int | None) -> dict:
    """Evaluate variants on the validation images of a folder.

    Returns:
        Number of images, and by variant the AP of each task in percent.
    """
    cfg = load_config(CONFIG)
    dataset = cfg.test_dataloader.dataset
    dataset.update(data_root=f'{root}/', indices=limit)
    loader = Runner.build_dataloader(dict(cfg.test_dataloader, batch_size=1))
    metrics = {title: MultitaskCocoMetric(str(root / dataset.ann_file)) for title in models}
    first = next(iter(models.values()))
    for number, data in enumerate(loader, 1):
        batch = first.data_preprocessor(data, False)
        x, samples = first.extract_feat(batch['inputs']), batch['data_samples']
        proposals = first.rpn_head.predict(x, samples, rescale=False)
        for title, model in models.items():
            results = model.roi_head.predict(x, proposals, samples, rescale=True)
            samples = model.add_pred_to_datasample(samples, results)
            metrics[title].dataset_meta = loader.dataset.metainfo
            metrics[title].process({}, [sample.to_dict() for sample in samples])
        if number % 50 == 0:
            print(f'{root.name}: {number} of {len(loader)} images', flush=True)
    variants = {}
    for title, metric in metrics.items():
        found = metric.compute_metrics(metric.results)
        variants[title] = {task: round(found[f'{task}_AP'], 4) for task in TASKS}
    return dict(images=len(loader), variants=variants)


def load_finished(path: Path, checkpoint_sha256: str) -> dict[str, dict]:
    """Load the variants of a results file whose settings and checkpoint are those of today."""
    if not path.exists():
        return {}
    content = json.loads(path.read_text())
    if content['checkpoint_sha256'] != checkpoint_sha256:
        return {}
    return {
        title: row
        for title, row in content['variants'].items()
        if row['settings'] == VARIANTS.get(title)
    }


@explained_errors()
def main(argv: list[str] | None = None) -> int:
    """Evaluate all variants on all datasets."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        '--data', type=Path, default=Path('data'), help='folder of base and crowded'
    )
    parser.add_argument('--limit', type=int, help='number of images of each dataset')
    parser.add_argument('--json', required=True, help='results file')
    args = parser.parse_args(argv)
    init_default_scope('mmdet')
    checkpoint, _ = find_base()
    sha256, commit = file_sha256(checkpoint), current_commit()
    variants = load_finished(Path(args.json), sha256)
    missing = [title for title in VARIANTS if title not in variants]
    if missing:
        models = build_models(checkpoint, missing)
        found = {name: evaluate(models, args.data / name, args.limit) for name in DATASETS}
        for title in missing:
            variants[title] = dict(
                settings=VARIANTS[title],
                commit=commit,
                images={name: each['images'] for name, each in found.items()},
                metrics={name: each['variants'][title] for name, each in found.items()},
            )
    content = dict(config=Path(CONFIG).name, checkpoint_sha256=sha256)
    write_record(args.json, dict(content, variants={title: variants[title] for title in VARIANTS}))
    print(f'Results file: {args.json}')
    return 0


if __name__ == '__main__':
    sys.exit(main())
