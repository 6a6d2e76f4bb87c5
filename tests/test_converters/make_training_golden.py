"""Write what a few training steps of Detectron2 or torchvision give, for test_training.py.

    PYTHONPATH=projects/multitask_refine/testing \\
        python tests/test_converters/make_training_golden.py SOURCE OUT.npz \\
        [--checkouts DETECTRON2 FVCORE]

It runs where torchvision is installed; for ``detectron2-*`` with git checkouts of Detectron2 and
fvcore, and the packages that Detectron2 imports. A network of the source's own classes, narrow and
with drawn weights, trains for the steps of ``training_case``, in float64, with the source's own
data pipeline, losses, optimizer and learning rates. What is random there is recorded: sizes and
flips of the images, sampled anchors and RoIs. ``CONVENTIONS`` says what each number is; it is in
the file, too.
"""

import argparse
import json
import sys
import tempfile
import types
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple
from zlib import crc32

import numpy as np
import torch
import torchvision
import training_case as case
from checkouts import read_commit
from PIL import Image
from pycocotools import mask as coco_mask
from torch import Tensor, nn
from torchvision.ops import FrozenBatchNorm2d, deform_conv2d

CONVENTIONS = dict(
    losses='(steps, terms): in the order of "terms"',
    rates='(steps): learning rate of each step',
    gradients='(parameters, 1 + projections): summarize() of the gradients of the first step, in '
    'the order of the sorted "parameters"',
    updates='(2, parameters, 1 + projections): summarize() of what the first step and what all '
    'steps added to the weights; rows of box deltas and masks of other classes are 0, in the '
    'gradients, too',
    anchors='STEP/IMAGE/anchors: (256, 4) sampled anchors (x1, y1, x2, y2) of the input image',
    rois='STEP/IMAGE/rois: (R, 4) sampled RoIs, with the boxes of the people',
    labels='STEP/IMAGE/roi_labels: 1 for a person, 0 for background; anchor_labels the same',
    weights='draw_weights(shapes, seed); the rows of a classifier that are neither person nor '
    'background are 0 and their biases -100: this project merges them with the background',
    decisions='[step][image]: height and width of the input image, and whether it is flipped',
)

# Config and changes; the part of the name of this project's config is in test_training.py.
KEYPOINT = 'COCO-Keypoints/keypoint_rcnn_R_50_FPN_1x.yaml'
DETECTRON2 = {
    'detectron2-all': (KEYPOINT, ['MODEL.MASK_ON', True]),
    'detectron2-kps': (KEYPOINT, []),
    'detectron2-mask': ('COCO-InstanceSegmentation/mask_rcnn_R_50_FPN_1x.yaml', []),
    'detectron2-rb-mask': ('Misc/mask_rcnn_R_50_FPN_1x_dconv_c3-c5.yaml', []),
}
NARROW = {
    'MODEL.RESNETS.STEM_OUT_CHANNELS': case.STEM,
    'MODEL.RESNETS.RES2_OUT_CHANNELS': 4 * case.BASE,
    'MODEL.RESNETS.WIDTH_PER_GROUP': case.BASE,
    'MODEL.FPN.OUT_CHANNELS': case.PYRAMID,
    'MODEL.ROI_BOX_HEAD.FC_DIM': case.FC,
    'MODEL.ROI_MASK_HEAD.CONV_DIM': case.MASK,
    'MODEL.ROI_KEYPOINT_HEAD.CONV_DIMS': (case.KEYPOINT,) * 8,
}
TORCHVISION = ('torchvision-kps', 'torchvision-mask')


class Step(NamedTuple):
    """What one training step gave, and what was random in it."""

    terms: dict[str, Tensor]
    decisions: list[tuple[int, int, bool]]
    images_crc32: list[int]


class Sampler:
    """Sample from anchors and RoIs by a generator of its own, and record the choice.

    Negatives are taken from an image's own area only: this project never takes those that lie in
    the padding of a batch.
    """

    def __init__(self) -> None:
        self.random = np.random.RandomState(0)
        self.candidates: list[Tensor] = []  # boxes of each image that is sampled next
        self.is_inside: list[np.ndarray] = []
        self.chosen: list[tuple[np.ndarray, np.ndarray]] = []

    def __call__(self, labels: Tensor, number: int, fraction: float, background: int) -> tuple:
        """Take positives and negatives of one image, as the sources' own functions do."""
        boxes, is_inside = self.candidates.pop(0), self.is_inside.pop(0)
        labels = labels.numpy()
        positive = np.flatnonzero((labels != -1) & (labels != background) & is_inside)
        negative = np.flatnonzero((labels == background) & is_inside)
        positive = self.random.permutation(positive)[: int(number * fraction)]
        negative = self.random.permutation(negative)[: number - len(positive)]
        chosen = np.concatenate([positive, negative])
        self.chosen.append((boxes.numpy()[chosen], np.arange(len(chosen)) < len(positive)))
        return torch.from_numpy(positive), torch.from_numpy(negative)


def _inside(sizes: Sequence[tuple[int, int]], maps: Sequence[Sequence[int]]) -> list[np.ndarray]:
    """Whether each anchor's cell lies in its own image, padded to a multiple of 32.

    Args:
        sizes: Height and width of each image.
        maps: Height, width and anchors per cell of each level.
    """
    inside = []
    for height, width in sizes:
        levels = []
        for (rows, columns, anchors), stride in zip(maps, (4, 8, 16, 32, 64)):
            rows_inside = np.arange(rows) < np.ceil(np.ceil(height / 32) * 32 / stride)
            columns_inside = np.arange(columns) < np.ceil(np.ceil(width / 32) * 32 / stride)
            cells = rows_inside[:, None] & columns_inside
            levels.append(np.repeat(cells.flatten(), anchors))
        inside.append(np.concatenate(levels))
    return inside


class Detectron2Source:
    """A model of Detectron2 with the data, optimizer and schedule of its config."""

    person = 0

    def __init__(self, name: str, seed: int, checkouts: Sequence[Path], folder: Path) -> None:
        self.checkouts = checkouts
        _import_detectron2(*checkouts)
        from detectron2.config import get_cfg
        from detectron2.data import DatasetMapper, MetadataCatalog
        from detectron2.data.datasets import load_coco_json
        from detectron2.modeling import build_model
        from detectron2.modeling.proposal_generator import proposal_utils, rpn
        from detectron2.modeling.roi_heads import roi_heads
        from detectron2.solver import build_lr_scheduler, build_optimizer

        config, changes = DETECTRON2[name]
        cfg = get_cfg()
        cfg.merge_from_file(str(checkouts[0] / 'configs' / config))
        cfg.merge_from_list([each for pair in NARROW.items() for each in pair])
        cfg.merge_from_list(changes)
        cfg.MODEL.DEVICE, cfg.MODEL.WEIGHTS = 'cpu', ''
        self.settings = _detectron2_settings(cfg)
        cfg.MODEL.RPN.POST_NMS_TOPK_TRAIN = case.MAX_PROPOSALS
        cfg.INPUT.MIN_SIZE_TRAIN, cfg.INPUT.MAX_SIZE_TRAIN = case.SHORT_SIDES, case.LONG_SIDE
        cfg.SOLVER.WARMUP_ITERS = case.WARMUP
        self.about = dict(config=config, changes=changes, narrow={**NARROW})

        self.model = build_model(cfg).double().train()
        self.shapes = _shapes(self.model)
        _load_weights(self.model, self.shapes, seed, other_classes=slice(1, -1))
        self.optimizer = build_optimizer(cfg, self.model)
        self.scheduler = build_lr_scheduler(cfg, self.optimizer)
        self.mapper = DatasetMapper(cfg, is_train=True)
        self._augment = self.mapper.augmentations
        self.mapper.augmentations = self._record_augmentation
        path = case.write_dataset(folder)
        MetadataCatalog.get('training_case')
        self.records = load_coco_json(
            str(path), str(folder), 'training_case', extra_annotation_keys=['keypoints']
        )
        # Boxes are float32 there, and NMS wants scores of the same type.
        suppress = proposal_utils.batched_nms
        proposal_utils.batched_nms = lambda boxes, scores, *args: suppress(
            boxes, scores.float(), *args
        )
        self.sampler = Sampler()
        rpn.subsample_labels = roi_heads.subsample_labels = self.sampler
        self.model.proposal_generator.anchor_generator.register_forward_hook(self._see_anchors)
        self._label = self.model.roi_heads.label_and_sample_proposals
        self.model.roi_heads.label_and_sample_proposals = self._see_proposals

    def versions(self) -> dict[str, str]:
        return {
            name: read_commit(path) for name, path in zip(('detectron2', 'fvcore'), self.checkouts)
        }

    def _record_augmentation(self, augmented: Any) -> Any:
        if self.keep_size:
            from detectron2.data.transforms import NoOpTransform, TransformList

            transforms, flipped = TransformList([NoOpTransform()]), False
        else:
            transforms = self._augment(augmented)
            flipped = any(
                type(each).__name__ == 'HFlipTransform' for each in transforms.transforms
            )
        self.decisions.append((*augmented.image.shape[:2], flipped))
        return transforms

    def _see_anchors(self, module: nn.Module, inputs: Any, anchors: Any) -> None:
        maps = [(*each.shape[-2:], 3) for each in inputs[0]]
        sizes = [each[:2] for each in self.decisions]
        boxes = torch.cat([each.tensor for each in anchors])
        self.sampler.candidates = [boxes] * len(sizes)
        self.sampler.is_inside = _inside(sizes, maps)

    def _see_proposals(self, proposals: Any, targets: Any) -> Any:
        # The boxes of the people come last, as in add_ground_truth_to_proposals.
        self.sampler.candidates = [
            torch.cat([each.proposal_boxes.tensor, target.gt_boxes.tensor])
            for each, target in zip(proposals, targets)
        ]
        self.sampler.is_inside = [np.ones(len(each), bool) for each in self.sampler.candidates]
        return self._label(proposals, targets)

    def step(self, batch: Sequence[int], keep_size: bool) -> Step:
        from detectron2.utils.events import EventStorage

        self.keep_size, self.decisions = keep_size, []
        inputs = [self.mapper(self.records[i - 1]) for i in batch]
        with EventStorage():
            terms = self.model(inputs)
        images = [crc32(each['image'].numpy().tobytes()) for each in inputs]
        return Step(terms, self.decisions, images)


def _import_detectron2(checkout: Path, fvcore: Path) -> None:
    """Put both on the path. On the CPU no compiled operator of Detectron2 runs but deformable
    convolution, whose forward pass is torchvision's operator and whose backward pass is missing:
    torchvision's own takes its place."""
    sys.path[:0] = [str(checkout), str(fvcore)]
    sys.modules.setdefault('detectron2._C', types.ModuleType('detectron2._C'))
    from detectron2.layers import deform_conv

    def convolve(x: Tensor, offset: Tensor, weight: Tensor, *settings: Any) -> Tensor:
        stride, padding, dilation, groups, deform_groups = settings
        assert groups == deform_groups == 1
        return deform_conv2d(x, offset, weight, None, stride, padding, dilation)

    deform_conv.deform_conv = convolve


def _detectron2_settings(cfg: Any) -> dict[str, Any]:
    """Return the settings that this project's config must have, too, as in the full network."""
    rpn, roi = cfg.MODEL.RPN, cfg.MODEL.ROI_HEADS
    return dict(
        rpn_num=rpn.BATCH_SIZE_PER_IMAGE,
        rpn_fraction=rpn.POSITIVE_FRACTION,
        rpn_thresholds=rpn.IOU_THRESHOLDS,
        nms_pre=rpn.PRE_NMS_TOPK_TRAIN,
        max_per_img=rpn.POST_NMS_TOPK_TRAIN,
        nms=rpn.NMS_THRESH,
        roi_num=roi.BATCH_SIZE_PER_IMAGE,
        roi_fraction=roi.POSITIVE_FRACTION,
        roi_thresholds=roi.IOU_THRESHOLDS,
        add_gt=roi.PROPOSAL_APPEND_GT,
    )


class TorchvisionSource:
    """A model of torchvision, trained as its reference script does (references/detection)."""

    person = 1

    def __init__(self, name: str, seed: int, checkouts: Sequence[Path], folder: Path) -> None:
        detection = torchvision.models.detection
        self.keypoints = name.endswith('kps')
        kind = detection.KeypointRCNN if self.keypoints else detection.MaskRCNN
        self.model = _narrow_torchvision(kind, num_classes=2 if self.keypoints else 91)
        self.model.double().train()
        self.shapes = _shapes(self.model)
        _load_weights(self.model, self.shapes, seed, other_classes=slice(2, None))
        rpn, heads, transform = self.model.rpn, self.model.roi_heads, self.model.transform
        self.settings = dict(
            rpn_num=rpn.fg_bg_sampler.batch_size_per_image,
            rpn_fraction=rpn.fg_bg_sampler.positive_fraction,
            rpn_thresholds=[
                rpn.proposal_matcher.low_threshold,
                rpn.proposal_matcher.high_threshold,
            ],
            nms_pre=rpn.pre_nms_top_n(),
            max_per_img=rpn.post_nms_top_n(),
            nms=rpn.nms_thresh,
            roi_num=heads.fg_bg_sampler.batch_size_per_image,
            roi_fraction=heads.fg_bg_sampler.positive_fraction,
            roi_thresholds=[heads.proposal_matcher.high_threshold],
            add_gt=True,
            short_sides=list(kind(_OneLevel(), num_classes=2).transform.min_size),
        )
        rpn._post_nms_top_n['training'] = case.MAX_PROPOSALS
        transform.min_size, transform.max_size = case.SHORT_SIDES, case.LONG_SIDE
        self.about = dict(model=kind.__name__)
        parameters = [each for each in self.model.parameters() if each.requires_grad]
        # Defaults of train.py, and the warm-up of train_one_epoch in engine.py.
        self.optimizer = torch.optim.SGD(parameters, lr=0.02, momentum=0.9, weight_decay=1e-4)
        self.scheduler = torch.optim.lr_scheduler.LinearLR(
            self.optimizer, start_factor=1 / 1000, total_iters=min(1000, case.STEPS - 1)
        )
        self.folder = folder
        content = json.loads(case.write_dataset(folder).read_text())
        self.images = {each['id']: each for each in content['images']}
        self.annotations = [each for each in content['annotations'] if not each['iscrowd']]
        self.random = np.random.RandomState(seed)
        self.sampler = Sampler()
        rpn.fg_bg_sampler = self._batched(rpn.fg_bg_sampler)
        heads.fg_bg_sampler = self._batched(heads.fg_bg_sampler)
        transform.register_forward_hook(self._to_double)
        rpn.anchor_generator.register_forward_hook(self._see_anchors)
        self._select = heads.select_training_samples
        heads.select_training_samples = self._see_proposals

    def versions(self) -> dict[str, str]:
        return {}

    def _to_double(self, module: nn.Module, inputs: Any, output: Any) -> None:
        # Images are resized in float32, as usual.
        output[0].tensors = output[0].tensors.double()

    def _batched(self, own: Any) -> Callable:
        """Sample a batch: a mask of positives and one of negatives for each image."""

        def sample(labels: Sequence[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
            masks: tuple[list, list] = ([], [])
            for each in labels:
                chosen = self.sampler(each, own.batch_size_per_image, own.positive_fraction, 0)
                for mask, indices in zip(masks, chosen):
                    mask.append(torch.zeros(len(each), dtype=torch.bool).index_fill(0, indices, 1))
            return masks

        return sample

    def _see_anchors(self, module: nn.Module, inputs: Any, anchors: list[Tensor]) -> None:
        image_list, features = inputs
        maps = [(*each.shape[-2:], 3) for each in features]
        self.sampler.candidates = list(anchors)
        self.sampler.is_inside = _inside(image_list.image_sizes, maps)
        self.sizes = image_list.image_sizes

    def _see_proposals(self, proposals: list[Tensor], targets: list[dict]) -> Any:
        self.sampler.candidates = [
            torch.cat([boxes, target['boxes']]) for boxes, target in zip(proposals, targets)
        ]
        self.sampler.is_inside = [np.ones(len(each), bool) for each in self.sampler.candidates]
        return self._select(proposals, targets)

    def _load(self, index: int, flip: bool) -> tuple[Tensor, dict[str, Tensor]]:
        """Load an image with its people as the reference script's dataset and flip do."""
        image = self.images[index]
        height, width = image['height'], image['width']
        pixels = np.array(Image.open(self.folder / image['file_name']).convert('RGB'))
        pixels = torch.from_numpy(pixels).permute(2, 0, 1).float() / 255
        people = [each for each in self.annotations if each['image_id'] == index]
        boxes = torch.tensor([each['bbox'] for each in people]).reshape(-1, 4).double()
        boxes[:, 2:] += boxes[:, :2]
        boxes[:, 0::2].clamp_(0, width)
        boxes[:, 1::2].clamp_(0, height)
        masks = torch.zeros(len(people), height, width, dtype=torch.uint8)
        for mask, each in zip(masks, people):
            outlines = coco_mask.frPyObjects(each['segmentation'], height, width)
            mask[:] = torch.from_numpy(coco_mask.decode(outlines).any(2))
        keypoints = torch.tensor([each['keypoints'] for each in people]).reshape(-1, 17, 3)
        keypoints = keypoints.float()
        if flip:
            pixels, masks = pixels.flip(-1), masks.flip(-1)
            boxes[:, [0, 2]] = width - boxes[:, [2, 0]]
            swapped = [0] + [i + 1 if i % 2 else i - 1 for i in range(1, 17)]
            keypoints = keypoints[:, swapped]
            keypoints[..., 0] = width - keypoints[..., 0]
        target = dict(boxes=boxes, labels=torch.ones(len(people), dtype=torch.int64), masks=masks)
        if self.keypoints:
            target['keypoints'] = keypoints
        return pixels, target

    def step(self, batch: Sequence[int], keep_size: bool) -> Step:
        flips = [not keep_size and bool(self.random.rand() < 0.5) for _ in batch]
        self.model.transform._skip_resize = keep_size
        torch.manual_seed(int(self.random.randint(2**31)))
        images, targets = zip(*map(self._load, batch, flips))
        terms = self.model(list(images), list(targets))
        decisions = [(*size, flip) for size, flip in zip(self.sizes, flips)]
        return Step(terms, decisions, [])


class _OneLevel(nn.Module):
    """A backbone that is only asked for its channels."""

    out_channels = case.PYRAMID


def _narrow_torchvision(kind: type, num_classes: int) -> nn.Module:
    """Build Mask or Keypoint R-CNN as torchvision's builders do, of its own classes."""
    from torchvision.models.detection import backbone_utils, faster_rcnn, keypoint_rcnn, mask_rcnn
    from torchvision.models.resnet import Bottleneck, ResNet

    class Body(ResNet):
        """ResNet-50 of few channels; torchvision's has no argument for them."""

        def __init__(self) -> None:
            nn.Module.__init__(self)
            self._norm_layer = _norm
            self.inplanes, self.dilation, self.groups, self.base_width = case.STEM, 1, 1, 64
            self.conv1 = nn.Conv2d(3, case.STEM, 7, 2, 3, bias=False)
            self.bn1 = _norm(case.STEM)
            self.relu, self.maxpool = nn.ReLU(), nn.MaxPool2d(3, 2, 1)
            for i, blocks in enumerate((3, 4, 6, 3)):
                layer = self._make_layer(Bottleneck, case.BASE * 2**i, blocks, 1 + (i > 0))
                setattr(self, f'layer{i + 1}', layer)

    body = Body()
    for name, parameter in body.named_parameters():  # trainable_layers=3
        parameter.requires_grad_(name.startswith(('layer2', 'layer3', 'layer4')))
    backbone = backbone_utils.BackboneWithFPN(
        body,
        {f'layer{i}': str(i - 1) for i in (1, 2, 3, 4)},
        [4 * case.BASE * 2**i for i in range(4)],
        case.PYRAMID,
    )
    heads: dict[str, Any] = dict(
        box_head=faster_rcnn.TwoMLPHead(case.PYRAMID * 49, case.FC),
        box_predictor=faster_rcnn.FastRCNNPredictor(case.FC, num_classes),
    )
    if kind.__name__ == 'KeypointRCNN':
        head = keypoint_rcnn.KeypointRCNNHeads(case.PYRAMID, (case.KEYPOINT,) * 8)
        heads['keypoint_head'] = head
        heads['keypoint_predictor'] = keypoint_rcnn.KeypointRCNNPredictor(case.KEYPOINT, 17)
    else:
        heads['mask_head'] = mask_rcnn.MaskRCNNHeads(case.PYRAMID, (case.MASK,) * 4, 1)
        predictor = mask_rcnn.MaskRCNNPredictor(case.MASK, case.MASK, num_classes)
        heads['mask_predictor'] = predictor
    return kind(backbone, **heads)


def _norm(channels: int) -> nn.Module:
    # As torchvision sets it for its weights trained on COCO.
    return FrozenBatchNorm2d(channels, eps=0.0)


# Layers with rows for each class, and how many.
PER_CLASS = {
    'roi_heads.box_predictor.bbox_pred': 4,
    'roi_heads.mask_head.predictor': 1,
    'roi_heads.mask_predictor.mask_fcn_logits': 1,
}


def _person(source: Any, tensors: dict[str, Tensor]) -> dict[str, np.ndarray]:
    """Set the rows of other classes to 0; this project does not have them."""
    arrays = {}
    for name, values in tensors.items():
        array = values.detach().numpy().copy()
        rows = PER_CLASS.get(name.rsplit('.', 1)[0])
        if rows:
            array[: rows * source.person] = array[rows * (source.person + 1) :] = 0
        arrays[name] = array
    return arrays


def _shapes(model: nn.Module) -> dict[str, list[int]]:
    return {name: list(value.shape) for name, value in model.state_dict().items()}


def _load_weights(model: nn.Module, shapes: dict, seed: int, other_classes: slice) -> None:
    weights = case.draw_training_weights(shapes, seed, other_classes)
    model.load_state_dict({k: torch.from_numpy(v) for k, v in weights.items()}, strict=True)


def make(source: Any, name: str, seed: int) -> dict[str, np.ndarray]:
    """Train, and return the arrays of the golden file by their keys."""
    learned = {k: v for k, v in source.model.named_parameters() if v.requires_grad}
    start = {k: v.detach().clone() for k, v in learned.items()}
    arrays: dict[str, Any] = {}
    losses, rates, updates, decisions, checksums = [], [], [], [], []
    for i, batch in enumerate(case.BATCHES):
        source.sampler.chosen = []
        step = source.step(batch, keep_size=i == 0)
        source.optimizer.zero_grad()
        sum(step.terms.values()).backward()
        if i == 0:
            gradients = {k: v.grad for k, v in learned.items()}
            arrays['gradients'] = case.summarize(_person(source, gradients))
        rates.append(source.optimizer.param_groups[0]['lr'])
        source.optimizer.step()
        source.scheduler.step()
        if i in (0, case.STEPS - 1):
            added = {k: v - start[k] for k, v in learned.items()}
            updates.append(case.summarize(_person(source, added)))
        losses.append([float(value) for value in step.terms.values()])
        decisions.append([(int(h), int(w), bool(flip)) for h, w, flip in step.decisions])
        checksums.append(step.images_crc32)
        count = len(batch)
        for part, chosen in zip(('anchor', 'roi'), np.split(np.arange(2 * count), 2)):
            for image, index in enumerate(chosen):
                boxes, labels = source.sampler.chosen[index]
                arrays[f'{i}/{image}/{part}s'] = boxes
                arrays[f'{i}/{image}/{part}_labels'] = labels
        print(i, dict(zip(step.terms, losses[-1])), decisions[-1], flush=True)
    about = dict(
        command='python tests/test_converters/make_training_golden.py '
        f'{name} OUT.npz --seed {seed}'
        + (' --checkouts DETECTRON2 FVCORE' if name in DETECTRON2 else ''),
        source=name,
        seed=seed,
        **source.about,
        versions=dict(
            torch=torch.__version__, torchvision=torchvision.__version__, **source.versions()
        ),
        conventions=CONVENTIONS,
        terms=list(step.terms),
        parameters=sorted(learned),
        shapes=source.shapes,
        settings=source.settings,
        decisions=decisions,
        images_crc32=checksums,
    )
    arrays.update(losses=losses, rates=rates, updates=updates, about=json.dumps(about))
    return {key: np.asarray(value) for key, value in arrays.items()}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('source', choices=[*DETECTRON2, *TORCHVISION])
    parser.add_argument('out', type=Path)
    parser.add_argument(
        '--seed',
        type=int,
        default=5,
        help='of the weights; with some, the weights after five steps differ, probably since an '
        'input of a ReLU is within rounding of 0',
    )
    parser.add_argument('--checkouts', type=Path, nargs=2, metavar=('DETECTRON2', 'FVCORE'))
    args = parser.parse_args()
    torch.manual_seed(args.seed)
    np.random.seed(args.seed)
    build = Detectron2Source if args.source in DETECTRON2 else TorchvisionSource
    with tempfile.TemporaryDirectory() as folder:
        source = build(args.source, args.seed, args.checkouts or (), Path(folder))
        np.savez_compressed(args.out, **make(source, args.source, args.seed))
    print(f'{args.out}: {args.out.stat().st_size / 1e3:.0f} kB')


if __name__ == '__main__':
    main()
