"""Write the outputs of a source framework's own code with synthetic weights.

    PYTHONPATH=projects/multitask_refine/testing \\
        python tests/test_converters/make_golden.py SOURCE OUT.npz [--photos DIR]

It runs where the source is installed: torchvision, and for ``detectron2-*``
Detectron2 too. The parity test runs elsewhere: it draws the same weights,
converts them and compares what the project gives with these numbers.

Every image is run twice. ``layers``: its top left corner as it is, without
resizing; the numbers are in the pixels of that corner. ``full``: the whole
image through the source's own preprocessing; the numbers are in the pixels of
the image. ``CONVENTIONS`` says what each number is; it is in the file, too.
"""

import argparse
import importlib.util
import json
import subprocess
import sys
import types
from pathlib import Path
from typing import Any, NamedTuple
from zlib import crc32

import numpy as np
import PIL
import torch
import torchvision
from PIL import Image
from synthetic_images import draw_image
from synthetic_weights import draw_indices, draw_weights
from torch import Tensor, nn

# What is built, whether it has a mask head, the most detections of an image:
# many where other classes' would push persons out.
DETECTRON2 = {
    'detectron2-r50-all': ('COCO-Keypoints/keypoint_rcnn_R_50_FPN_3x.yaml', True, 100),
    'detectron2-r101-kps': ('COCO-Keypoints/keypoint_rcnn_R_101_FPN_3x.yaml', False, 100),
    'detectron2-r50-dconv-mask': ('Misc/mask_rcnn_R_50_FPN_3x_dconv_c3-c5.yaml', True, 1000),
    'detectron2-r50-box': ('COCO-Detection/faster_rcnn_R_50_FPN_3x.yaml', False, 1000),
}
TORCHVISION = {
    'torchvision-keypoint': ('keypointrcnn_resnet50_fpn', False, 100),
    'torchvision-mask': ('maskrcnn_resnet50_fpn', True, 1000),
}

SEED = 7
VALUES = 200  # compared numbers of a feature map and of the logits
TOP_PROPOSALS = 100
TOP_DETECTIONS = 20  # with masks and keypoints

CONVENTIONS = dict(
    keys='IMAGE/PART/NAME; IMAGE as in images, PART layers or full. Sizes and '
    'shapes are (height, width) and (channels, height, width)',
    image='RGB, uint8: draw_image(seed, height, width) or the photo as '
    'PIL decodes it; layers see image[:layer_size[0], :layer_size[1]]',
    weights='draw_weights(shapes, seed), for all names of shapes',
    sampled='values of the flattened tensor at draw_indices(key, size, '
    'count), key IMAGE/layers/fpn0 and so on; its shape is in images',
    fpn='(5, count): sampled values of fpn0 to fpn4, strides 4 to 64, of the padded input',
    fpn_stats='(5, 2): mean and standard deviation (divided by n)',
    proposals='the top ones after suppression, best first, (x1, y1, x2, y2)',
    proposal_scores='detectron2: logits; torchvision: probabilities',
    boxes='layers: all detections of the class person, best first, (x1, y1, '
    'x2, y2); full: the first of them',
    order='rounding may swap neighbors whose scores are all but equal',
    scores='probabilities of the softmax over all classes',
    person="the source's number of the class; masks are of its channel",
    mask_logits='sampled, of the first detections, (N, 28, 28), before the sigmoid',
    keypoint_logits='sampled, of the first detections, (N, 17, 56, 56), after '
    'the bilinear upsampling',
    keypoints='(N, 17, 2): (x, y) of the first detections; where two peaks '
    'of a map are all but equally high, rounding decides between them',
    keypoint_scores='detectron2: probability, may exceed 1; torchvision: logit of the peak',
    mask_areas="pixels of at least 0.5 in the first detections' pasted masks",
    input_size='what the network sees of the whole image, without padding',
    detections='how many of all classes there were',
    persons='how many of them were persons',
)

# Drawn images by key: (seed, height, width), and the largest corner for the
# layers. A corner of 300 x 250 is padded to 320 x 256.
DRAWN = {'drawn:1': ((1, 300, 250), (320, 256)), 'drawn:2': ((2, 480, 640), (320, 256))}
PHOTOS = {
    '000000037777.jpg': (320, 256),  # 230 x 352
    '000000331352.jpg': (320, 256),  # 500 x 351
    '000000403817.jpg': (300, 250),  # 375 x 500
    '000000555705.jpg': (320, 250),  # 371 x 640
    '000000322864.jpg': (300, 256),  # 640 x 427
}
ONLY_LAYERS = ('drawn:1',)


class Found(NamedTuple):
    """Detections of one image as the source gives them, best first."""

    boxes: Tensor
    scores: Tensor
    classes: Tensor
    keypoints: Tensor | None = None  # (N, 17, 2)
    keypoint_scores: Tensor | None = None  # (N, 17)
    keypoint_logits: Tensor | None = None  # (N, 17, 56, 56)
    mask_logits: Tensor | None = None  # (N, 28, 28)
    masks: Tensor | None = None  # (N, H, W), pasted

    def take(self, keep: Any) -> 'Found':
        return Found(*[x if x is None else x[keep] for x in self])


class Layers(NamedTuple):
    """Outputs of the parts of the network, from first to last."""

    fpn: list[Tensor]
    proposals: Tensor
    proposal_scores: Tensor
    found: Found


class Tap:
    """Keep the last output of a module."""

    def __init__(self, module: nn.Module) -> None:
        self.output: Any = None
        module.register_forward_hook(self)

    def __call__(self, module: nn.Module, inputs: Any, output: Any) -> None:
        self.output = output


def _let_deform_conv_load() -> None:
    """On the CPU Detectron2 calls torchvision's deformable convolution, but
    where its extension is not compiled, the module would not load."""
    if importlib.util.find_spec('detectron2._C') is None:
        name = 'detectron2._C'
        sys.modules[name] = types.ModuleType(name)


class Detectron2Source:
    """A model of Detectron2's zoo.

    Args:
        config: File below its folder of configs.
        configs: That folder; None for the model zoo's.
        mask: Whether there is a mask head.
        detections: The most detections of an image.
    """

    person = 0

    def __init__(self, config: str, configs: Path | None, mask: bool, detections: int) -> None:
        _let_deform_conv_load()
        from detectron2 import model_zoo
        from detectron2.config import get_cfg
        from detectron2.engine import DefaultPredictor

        cfg = get_cfg()
        cfg.merge_from_file(
            str(configs / config) if configs else model_zoo.get_config_file(config)
        )
        cfg.MODEL.DEVICE, cfg.MODEL.WEIGHTS = 'cpu', ''
        cfg.MODEL.MASK_ON = mask
        cfg.TEST.DETECTIONS_PER_IMAGE = detections
        self.config, self.cfg = config, cfg
        self.predictor = DefaultPredictor(cfg)
        self.model = self.predictor.model
        self.fpn = Tap(self.model.backbone)
        self.rpn = Tap(self.model.proposal_generator)
        self.mask = Tap(self.model.roi_heads.mask_head.predictor) if mask else None

    def versions(self) -> dict[str, str]:
        import detectron2

        folder = str(Path(detectron2.__file__).parent)
        git = subprocess.run(
            ['git', '-C', folder, 'rev-parse', 'HEAD'], capture_output=True, text=True
        )
        return dict(
            detectron2=detectron2.__version__, detectron2_commit=git.stdout.strip() or 'unknown'
        )

    def settings(self) -> dict[str, Any]:
        cfg = self.cfg
        return dict(
            config=self.config,
            mask=cfg.MODEL.MASK_ON,
            keypoints=cfg.MODEL.KEYPOINT_ON,
            classes=cfg.MODEL.ROI_HEADS.NUM_CLASSES,
            format=cfg.INPUT.FORMAT,
            mean=cfg.MODEL.PIXEL_MEAN,
            std=cfg.MODEL.PIXEL_STD,
            min_size=cfg.INPUT.MIN_SIZE_TEST,
            max_size=cfg.INPUT.MAX_SIZE_TEST,
            rpn_pre_nms=cfg.MODEL.RPN.PRE_NMS_TOPK_TEST,
            rpn_post_nms=cfg.MODEL.RPN.POST_NMS_TOPK_TEST,
            rpn_nms=cfg.MODEL.RPN.NMS_THRESH,
            score_threshold=cfg.MODEL.ROI_HEADS.SCORE_THRESH_TEST,
            nms=cfg.MODEL.ROI_HEADS.NMS_THRESH_TEST,
            detections_per_image=cfg.TEST.DETECTIONS_PER_IMAGE,
        )

    def _found(self, instances: Any) -> Found:
        found = Found(instances.pred_boxes.tensor, instances.scores, instances.pred_classes)
        if instances.has('pred_keypoints'):
            points = instances.pred_keypoints
            found = found._replace(
                keypoints=points[..., :2],
                keypoint_scores=points[..., 2],
                keypoint_logits=instances.pred_keypoint_heatmaps,
            )
        return found

    def layers(self, rgb: np.ndarray) -> Layers:
        bgr = torch.from_numpy(rgb[..., ::-1].copy()).permute(2, 0, 1).float()
        results = self.model.inference([dict(image=bgr)], do_postprocess=False)
        found = self._found(results[0])
        if self.mask:
            found = found._replace(mask_logits=self.mask.output[:, self.person])
        proposals = self.rpn.output[0][0]
        return Layers(
            list(self.fpn.output.values()),
            proposals.proposal_boxes.tensor,
            proposals.objectness_logits,
            found,
        )

    def full(self, rgb: np.ndarray) -> tuple[Found, tuple[int, int]]:
        bgr = rgb[..., ::-1]
        instances = self.predictor(bgr)['instances']
        found = self._found(instances)
        if self.mask:
            found = found._replace(masks=instances.pred_masks)
        resized = self.predictor.aug.get_transform(bgr).apply_image(bgr)
        return found, resized.shape[:2]


def _freeze_norms(module: nn.Module) -> None:
    """Batch norms as torchvision sets them for its weights trained on COCO."""
    for name, child in module.named_children():
        if isinstance(child, nn.BatchNorm2d):
            frozen = torchvision.ops.misc.FrozenBatchNorm2d(child.num_features, eps=0.0)
            setattr(module, name, frozen)
        else:
            _freeze_norms(child)


class TorchvisionSource:
    """A model of torchvision.

    Args:
        builder: Function of ``torchvision.models.detection``.
        mask: Whether it has a mask head.
        detections: The most detections of an image.
    """

    person = 1

    def __init__(self, builder: str, mask: bool, detections: int) -> None:
        self.builder = builder
        self.model = getattr(torchvision.models.detection, builder)(
            weights=None, weights_backbone=None, box_detections_per_img=detections
        ).eval()
        _freeze_norms(self.model)
        heads = self.model.roi_heads
        self.fpn = Tap(self.model.backbone)
        self.mask = Tap(heads.mask_predictor) if mask else None
        self.keypoint = None if mask else Tap(heads.keypoint_predictor)
        self._filter = self.model.rpn.filter_proposals
        self.model.rpn.filter_proposals = self._keep_proposals

    def _keep_proposals(self, *args: Any) -> tuple[list, list]:
        self.proposals = self._filter(*args)
        return self.proposals

    def versions(self) -> dict[str, str]:
        return {}

    def settings(self) -> dict[str, Any]:
        rpn, heads = self.model.rpn, self.model.roi_heads
        transform = self.model.transform
        return dict(
            builder=self.builder,
            mask=self.mask is not None,
            keypoints=self.keypoint is not None,
            classes=heads.box_predictor.cls_score.out_features,
            format='RGB / 255',
            mean=transform.image_mean,
            std=transform.image_std,
            norm_eps=self.model.backbone.body.bn1.eps,
            min_size=transform.min_size[-1],
            max_size=transform.max_size,
            rpn_pre_nms=rpn.pre_nms_top_n(),
            rpn_post_nms=rpn.post_nms_top_n(),
            rpn_nms=rpn.nms_thresh,
            rpn_min_size=rpn.min_size,
            rpn_score_threshold=rpn.score_thresh,
            score_threshold=heads.score_thresh,
            nms=heads.nms_thresh,
            detections_per_image=heads.detections_per_img,
        )

    def _found(self, result: dict[str, Tensor]) -> Found:
        found = Found(result['boxes'], result['scores'], result['labels'])
        if self.keypoint:
            found = found._replace(
                keypoints=result['keypoints'][..., :2],
                keypoint_scores=result['keypoints_scores'],
                keypoint_logits=self.keypoint.output,
            )
        return found

    def _tensor(self, rgb: np.ndarray) -> Tensor:
        return torch.from_numpy(rgb.copy()).permute(2, 0, 1).float() / 255

    def layers(self, rgb: np.ndarray) -> Layers:
        transform = self.model.transform
        image = transform.normalize(self._tensor(rgb))
        batch = transform.batch_images([image], transform.size_divisible)
        sizes = [tuple(image.shape[-2:])]
        images = torchvision.models.detection.image_list.ImageList(batch, sizes)
        features = self.model.backbone(batch)
        proposals, _ = self.model.rpn(images, features)
        results, _ = self.model.roi_heads(features, proposals, sizes)
        found = self._found(results[0])
        if self.mask:
            found = found._replace(mask_logits=self.mask.output[:, self.person])
        return Layers(list(features.values()), proposals[0], self.proposals[1][0], found)

    def full(self, rgb: np.ndarray) -> tuple[Found, tuple[int, int]]:
        image = self._tensor(rgb)
        result = self.model([image])[0]
        found = self._found(result)
        if self.mask:
            found = found._replace(masks=result['masks'][:, 0] >= 0.5)
        return found, self.model.transform([image])[0].image_sizes[0]


def _build(name: str, configs: Path | None) -> Any:
    if name in TORCHVISION:
        return TorchvisionSource(*TORCHVISION[name])
    config, mask, detections = DETECTRON2[name]
    return Detectron2Source(config, configs, mask, detections)


def _load_drawn(model: nn.Module) -> tuple[dict[str, list[int]], int]:
    """Load the synthetic weights and return all shapes and a checksum."""
    shapes = {k: list(v.shape) for k, v in model.state_dict().items()}
    weights = draw_weights(shapes, SEED)
    model.load_state_dict({k: torch.from_numpy(v) for k, v in weights.items()}, strict=True)
    checksum = 0
    for name in sorted(weights):
        checksum = crc32(weights[name].tobytes(), checksum)
    return shapes, checksum


def _sample(key: str, values: Tensor) -> np.ndarray:
    """Return some values of a tensor; the key determines which ones."""
    flat = values.flatten().numpy()
    return flat[draw_indices(key, flat.size, VALUES)]


def _persons(source: Any, found: Found) -> tuple[Found, dict[str, Any]]:
    """Return the persons among the detections and their number."""
    persons = found.take(found.classes == source.person)
    return persons, dict(detections=len(found.boxes), persons=len(persons.boxes))


def _layers(key: str, source: Any, rgb: np.ndarray) -> tuple[dict, dict]:
    """Arrays and description of the layers' numbers."""
    layers = source.layers(rgb)
    persons, about = _persons(source, layers.found)
    best = persons.take(slice(TOP_DETECTIONS))
    sampled = {f'fpn{i}': x[0] for i, x in enumerate(layers.fpn)}
    sampled.update(mask_logits=best.mask_logits, keypoint_logits=best.keypoint_logits)
    sampled = {k: x for k, x in sampled.items() if x is not None}
    about['shapes'] = {k: list(x.shape) for k, x in sampled.items()}
    arrays = {k: _sample(f'{key}/{k}', x) for k, x in sampled.items()}
    arrays['fpn'] = np.stack([arrays.pop(f'fpn{i}') for i in range(len(layers.fpn))])
    arrays.update(
        fpn_stats=[[x.mean().item(), x.std(correction=0).item()] for x in layers.fpn],
        proposals=layers.proposals[:TOP_PROPOSALS],
        proposal_scores=layers.proposal_scores[:TOP_PROPOSALS],
        boxes=persons.boxes,
        scores=persons.scores,
        keypoints=best.keypoints,
        keypoint_scores=best.keypoint_scores,
    )
    return arrays, about


def _full(source: Any, rgb: np.ndarray) -> tuple[dict, dict]:
    """Arrays and description of the numbers of the whole image."""
    found, size = source.full(rgb)
    persons, about = _persons(source, found)
    best = persons.take(slice(TOP_DETECTIONS))
    arrays = dict(
        boxes=best.boxes,
        scores=best.scores,
        keypoints=best.keypoints,
        keypoint_scores=best.keypoint_scores,
    )
    if best.masks is not None:
        arrays['mask_areas'] = best.masks.sum((1, 2))
    return arrays, dict(about, input_size=list(size))


def _images(photos: Path | None) -> dict[str, tuple]:
    """Pixels, largest corner and description of every image by its key."""
    images = {}
    for key, (args, corner) in DRAWN.items():
        about = dict(zip(('seed', 'height', 'width'), args))
        images[key] = (draw_image(*args), corner, about)
    for name, corner in PHOTOS.items() if photos else ():
        rgb = np.array(Image.open(photos / name).convert('RGB'))
        about = dict(height=rgb.shape[0], width=rgb.shape[1])
        images[f'photo:{name}'] = (rgb, corner, about)
    return images


def _run(source: Any, photos: Path | None) -> tuple[dict, dict]:
    """Arrays by key, and the description of every image."""
    arrays, described = {}, {}
    for key, (rgb, (height, width), about) in _images(photos).items():
        corner = rgb[:height, :width]
        about.update(layer_size=corner.shape[:2], crc32=crc32(rgb.tobytes()))
        parts = dict(layers=_layers(f'{key}/layers', source, corner))
        if key not in ONLY_LAYERS:
            parts['full'] = _full(source, rgb)
        for part, (numbers, about_part) in parts.items():
            about[part] = about_part
            arrays.update(
                {
                    f'{key}/{part}/{name}': torch.as_tensor(x).float().numpy()
                    for name, x in numbers.items()
                    if x is not None
                }
            )
        described[key] = about
        print(key, {part: about[part]['persons'] for part in parts}, flush=True)
    return arrays, described


def make(name: str, photos: Path | None, configs: Path | None) -> dict[str, np.ndarray]:
    """Return all outputs of a source by their keys."""
    source = _build(name, configs)
    shapes, checksum = _load_drawn(source.model)
    arrays, images = _run(source, photos)
    versions = dict(
        torch=torch.__version__,
        torchvision=torchvision.__version__,
        numpy=np.__version__,
        pillow=PIL.__version__,
    )
    about = dict(
        command=f'python tests/test_converters/make_golden.py {name} OUT.npz'
        + (' --photos DIR' if photos else ''),
        source=name,
        versions=dict(versions, **source.versions()),
        seed=SEED,
        person=source.person,
        settings=source.settings(),
        conventions=CONVENTIONS,
        images=images,
        weights_crc32=checksum,
        shapes=shapes,
    )
    return dict(arrays, about=np.array(json.dumps(about)))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('source', choices=[*DETECTRON2, *TORCHVISION])
    parser.add_argument('out', type=Path)
    parser.add_argument('--photos', type=Path, help="folder of COCO's photos")
    parser.add_argument(
        '--configs',
        type=Path,
        help="folder of Detectron2's configs, where its model zoo lacks them",
    )
    parser.add_argument('--threads', type=int, default=2)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.set_grad_enabled(False)
    numbers = make(args.source, args.photos, args.configs)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(args.out, **numbers)
    print(f'{args.out}: {args.out.stat().st_size / 1e3:.0f} kB')


if __name__ == '__main__':
    main()
