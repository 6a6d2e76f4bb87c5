"""Write what Detectron2's own code trains with at every iteration.

    cd tests/test_converters
    python make_schedule_golden.py DETECTRON2 FVCORE OUT.npz

DETECTRON2 and FVCORE are git checkouts of both repositories. It runs with
torch, torchvision and the packages that Detectron2 imports (iopath, omegaconf,
hydra-core, yacs, tabulate, termcolor, cloudpickle), in an environment of its
own. For each config it builds Detectron2's model, optimizer and scheduler, and
steps them as Detectron2's trainer does: the values of iteration i, counted
from 0, are those that ``optimizer.step()`` sees. ``about`` in the file has the
command, both commits and the settings of the data.
"""

import argparse
import json
import sys
import types
import warnings
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from checkouts import read_commit

# Config of Detectron2 with changes, by the part of the name of this project's.
KEYPOINT = 'COCO-Keypoints/keypoint_rcnn_R_50_FPN_1x.yaml'
MASK = 'COCO-InstanceSegmentation/mask_rcnn_R_50_FPN_1x.yaml'
BOX = 'COCO-Detection/faster_rcnn_R_50_FPN_1x.yaml'
R101 = ['MODEL.RESNETS.DEPTH', 101]
SOURCES = {
    'r50_fpn_detectron2': (KEYPOINT, ['MODEL.MASK_ON', True]),
    'r50_fpn_detectron2-kps': (KEYPOINT, []),
    'r50_fpn_detectron2-mask': (MASK, []),
    'r50_fpn_detectron2-box': (BOX, []),
    'r50_fpn_detectron2-rb-mask': ('Misc/mask_rcnn_R_50_FPN_1x_dconv_c3-c5.yaml', []),
    'r101_fpn_detectron2': (KEYPOINT, ['MODEL.MASK_ON', True, *R101]),
    'r101_fpn_detectron2-kps': (KEYPOINT, R101),
    'r101_fpn_detectron2-mask': (MASK, R101),
    'r101_fpn_detectron2-box': (BOX, R101),
}
CONSTANT = ('momentum', 'dampening', 'nesterov', 'weight_decay')


class Schedule(NamedTuple):
    """What one config trains with.

    Attributes:
        groups: ``CONSTANT`` of each parameter group.
        parameters: Group of each trained parameter by its name.
        rates: Learning rates, (groups, iterations).
    """

    groups: list[dict[str, Any]]
    parameters: dict[str, int]
    rates: np.ndarray


def _import_detectron2(checkout: Path, fvcore: Path) -> None:
    """Put both on the path. No compiled operator runs here, so declarations
    stand in for an extension that is not compiled for this torch."""
    sys.path[:0] = [str(checkout), str(fvcore)]
    if not list((checkout / 'detectron2').glob('_C*')):
        sys.modules['detectron2._C'] = types.ModuleType('detectron2._C')
    try:
        import torchvision  # noqa: F401
    except RuntimeError:
        for name in [n for n in sys.modules if n.startswith('torchvision')]:
            del sys.modules[name]
        for name in ('nms', 'qnms'):
            torch.library.define(f'torchvision::{name}', '(Tensor a, Tensor b, float c) -> Tensor')


def _read_config(checkout: Path, config: str, options: list[Any]) -> Any:
    from detectron2.config import get_cfg

    cfg = get_cfg()
    cfg.merge_from_file(str(checkout / 'configs' / config))
    cfg.merge_from_list([*options, 'MODEL.DEVICE', 'cpu', 'MODEL.WEIGHTS', ''])
    return cfg


def _run(cfg: Any) -> Schedule:
    from detectron2.modeling import build_model
    from detectron2.solver import build_lr_scheduler, build_optimizer

    model = build_model(cfg)
    optimizer = build_optimizer(cfg, model)
    scheduler = build_lr_scheduler(cfg, optimizer)
    groups = optimizer.param_groups
    constants = [{name: group[name] for name in CONSTANT} for group in groups]
    rates = np.empty((len(groups), cfg.SOLVER.MAX_ITER))
    for i in range(cfg.SOLVER.MAX_ITER):
        for j, group in enumerate(groups):
            rates[j, i] = group['lr']
            assert all(group[k] == v for k, v in constants[j].items())
        scheduler.step()
    names = {id(param): name for name, param in model.named_parameters()}
    return Schedule(
        constants,
        {names[id(param)]: j for j, group in enumerate(groups) for param in group['params']},
        rates,
    )


def _data_settings(cfg: Any) -> dict[str, Any]:
    """Settings of the training data and of the step, as
    ``_train_loader_from_config`` and ``build_augmentation`` read them."""
    return dict(
        images_per_batch=cfg.SOLVER.IMS_PER_BATCH,
        max_iter=cfg.SOLVER.MAX_ITER,
        clip_gradients=cfg.SOLVER.CLIP_GRADIENTS.ENABLED,
        amp=cfg.SOLVER.AMP.ENABLED,
        min_size=list(cfg.INPUT.MIN_SIZE_TRAIN),
        min_size_sampling=cfg.INPUT.MIN_SIZE_TRAIN_SAMPLING,
        max_size=cfg.INPUT.MAX_SIZE_TRAIN,
        crop=cfg.INPUT.CROP.ENABLED,
        flip=cfg.INPUT.RANDOM_FLIP,
        flip_prob=_flip_prob(cfg),
        aspect_ratio_grouping=cfg.DATALOADER.ASPECT_RATIO_GROUPING,
        filter_empty=cfg.DATALOADER.FILTER_EMPTY_ANNOTATIONS,
        sampler=cfg.DATALOADER.SAMPLER_TRAIN,
        min_keypoints=cfg.MODEL.ROI_KEYPOINT_HEAD.MIN_KEYPOINTS_PER_IMAGE
        if cfg.MODEL.KEYPOINT_ON
        else 0,
    )


def _flip_prob(cfg: Any) -> float:
    from detectron2.data.detection_utils import build_augmentation

    (flip,) = [
        each
        for each in build_augmentation(cfg, is_train=True)
        if type(each).__name__ == 'RandomFlip'
    ]
    return flip.prob


def make(checkout: Path, fvcore: Path) -> dict[str, np.ndarray]:
    """Return the arrays of the golden file by their keys."""
    _import_detectron2(checkout, fvcore)
    curves: list[np.ndarray] = []
    sources = {}
    for name, (config, options) in SOURCES.items():
        cfg = _read_config(checkout, config, options)
        schedule = _run(cfg)
        for group, rates in zip(schedule.groups, schedule.rates):
            same = [i for i, curve in enumerate(curves) if np.array_equal(curve, rates)]
            group['curve'] = same[0] if same else len(curves)
            if not same:
                curves.append(rates)
        sources[name] = dict(
            config=config,
            options=options,
            groups=schedule.groups,
            parameters=schedule.parameters,
            data=_data_settings(cfg),
        )
        print(name, len(schedule.parameters), len(schedule.groups), flush=True)
    about = dict(
        command='python tests/test_converters/make_schedule_golden.py DETECTRON2 FVCORE OUT.npz',
        commits=dict(detectron2=read_commit(checkout), fvcore=read_commit(fvcore)),
        torch=torch.__version__,
        curves='(curves, iterations): learning rates, float64; "curve" of a '
        'group says which one is its',
        sources=sources,
    )
    return dict(curves=np.stack(curves), about=np.array(json.dumps(about)))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('detectron2', type=Path)
    parser.add_argument('fvcore', type=Path)
    parser.add_argument('out', type=Path)
    args = parser.parse_args()
    # The rates are read without training, so no step comes before them.
    warnings.filterwarnings('ignore', 'Detected call of `lr_scheduler.step')
    np.savez_compressed(args.out, **make(args.detectron2, args.fvcore))
    print(f'{args.out}: {args.out.stat().st_size / 1e3:.0f} kB')


if __name__ == '__main__':
    main()
