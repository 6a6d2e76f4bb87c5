"""Baselines of each part of the speed comparison."""

from typing import Any, NamedTuple

MULTITASK = 'benchmarks.speed.baselines.multitask_net:MultitaskNet'
MMDET = 'benchmarks.speed.baselines.mmdet_net:MMDetNet'
ONNX = 'benchmarks.speed.baselines.onnx_net:OnnxNet'
DETECTRON2 = 'benchmarks.speed.baselines.detectron2_net:Detectron2Net'
TORCHVISION = 'benchmarks.speed.baselines.torchvision_net:TorchvisionNet'
EVERY_TASK = ('predict', 'step')
EVERY_BATCH = ('predict-1', 'predict-8', 'step-2')


class BaselineSpec(NamedTuple):
    """How to build a baseline of a part.

    Attributes:
        baseline: ``module:Class``.
        options: Its arguments.
        tasks: What it does.
        elsewhere: Whether it runs in the baselines' environment.
        stages: Whether its stages are measured, too.
        prediction: What it was expected to bring, before the comparison.
    """

    baseline: str
    options: dict[str, Any]
    tasks: tuple[str, ...] = EVERY_TASK
    elsewhere: bool = False
    stages: bool = False
    prediction: str = ''


class Part(NamedTuple):
    """Entrants that do the same job.

    Attributes:
        about: What is compared.
        reference: The baseline that the others' seconds are divided by.
        baselines: By name.
        converter: Module of ``tools.model_converters`` that gives the
            reference's weights to the others; None where all have the same
            layout.
        same_outputs: Whether all should find the same people.
        tasks: What is measured; see benchmarks/speed/compare.py.
        score_threshold: Detections below are dropped: 0.05 is every
            framework's own; weights that are drawn in this project's layout
            do not always find 20 people above it.
    """

    about: str
    reference: str
    baselines: dict[str, BaselineSpec]
    converter: str | None = None
    same_outputs: bool = True
    tasks: tuple[str, ...] = EVERY_BATCH
    score_threshold: float = 0.05


def _coco(variant: str) -> str:
    folder = 'multitask_refine' if variant.startswith('fpn-ms') else 'converted'
    return f'{folder}/multitask-rcnn_r50_{variant}_coco.py'


def _against(
    about: str, reference: str, baseline: BaselineSpec, variant: str, converter: str
) -> Part:
    """A baseline and this project's network with its weights."""
    multitask = BaselineSpec(
        MULTITASK, dict(config=_coco(f'fpn_{variant}_8xb2-90k'), prepare=True), stages=True
    )
    return Part(
        about,
        reference,
        {reference: baseline, 'ours': multitask},
        f'tools.model_converters.{converter}_to_multitask',
    )


def _refined(variant: str, **options: Any) -> BaselineSpec:
    config = _coco(f'fpn-ms_{variant}_4xb3-90k')
    return BaselineSpec(MULTITASK, dict(config=config, **options), stages=True)


def _exported(variant: str, baseline: str, **options: bool) -> BaselineSpec:
    config = _coco(f'fpn-ms_{variant}_4xb3-90k')
    return BaselineSpec(baseline, dict(config=config, **options), ('predict',))


def _by_means(prediction: str, *tasks: str, **options: bool) -> BaselineSpec:
    config = _coco('fpn_detectron2_8xb2-90k')
    return BaselineSpec(
        MULTITASK, dict(config=config, **options), tasks or EVERY_TASK, prediction=prediction
    )


PLAIN = _by_means('what the configs give, before any preparation')
# A few at a time: all stay in memory.
MEANS = {
    'on by default, switched off one at a time': {
        "PyTorch's 3x3 convolutions": _by_means(
            'slower: 0.7 of the speed; Winograd needs a quarter of the '
            'products where most of the work is',
            usual_convs=True,
        ),
        "mmcv's RoIAlign": _by_means(
            'slower: 0.4 of the speed in inference, 0.6 in training; it walks '
            'through every value on its own',
            mmcv_pooling=True,
        ),
        "mmcv's suppression, of all levels at once": _by_means(
            'slower: 0.93 of the speed; it takes four times the pairs, one after the other',
            mmcv_nms=True,
        ),
        'mask and keypoint head pool twice': _by_means(
            'slower: 0.98 of the speed; pooling 20 people is cheap', pool_twice=True
        ),
    },
    'for inference': {
        'channels last': _by_means('1.05 times as fast', 'predict', channels_last=True),
        'folded norms': _by_means('1.03 times as fast', 'predict', fold_norms=True),
        'both and kept factors, as the inferencer does': _by_means(
            '1.1 times as fast', 'predict', prepare=True
        ),
        'compiled backbone and FPN': _by_means(
            'little: convolutions stay what they are', 'predict', compiled=True
        ),
    },
    'off by default': {
        'channels last in training': _by_means('1.05 times as fast', 'step', channels_last=True),
        'freed memory is kept': _by_means(
            '1.05 times as fast: no pages to be mapped anew, for more memory', keep_memory=True
        ),
        'bfloat16': _by_means(
            'faster where the processor multiplies in bfloat16, with other results', bfloat16=True
        ),
        'checkpointing of the backbone': _by_means(
            'slower by the forward pass of the backbone, less memory', 'step', checkpointing=True
        ),
    },
}

PARTS: dict[str, Part] = {
    'detectron2': _against(
        "Boxes, masks and keypoints: Detectron2's Keypoint R-CNN R50-FPN with a mask head",
        'detectron2',
        BaselineSpec(
            DETECTRON2,
            dict(config='COCO-Keypoints/keypoint_rcnn_R_50_FPN_3x.yaml'),
            elsewhere=True,
        ),
        'detectron2',
        'detectron2',
    ),
    'torchvision-keypoints': _against(
        "Boxes and keypoints: torchvision's keypointrcnn_resnet50_fpn",
        'torchvision',
        BaselineSpec(TORCHVISION, dict(task='keypoints'), elsewhere=True),
        'torchvision-kps',
        'torchvision',
    ),
    'torchvision-masks': _against(
        "Boxes and masks: torchvision's maskrcnn_resnet50_fpn, 90 classes",
        'torchvision',
        BaselineSpec(TORCHVISION, dict(task='masks'), elsewhere=True),
        'torchvision-mask',
        'torchvision',
    ),
    'mmdet': _against(
        "Boxes and masks: mmdet's Mask R-CNN R50-FPN, 80 classes",
        'mmdet',
        BaselineSpec(MMDET, dict(config='mask_rcnn/mask-rcnn_r50_fpn_1x_coco.py')),
        'mmdet-mask',
        'mmdet',
    ),
    'refinement': Part(
        'What refinement costs: none, in the backbone (RB), in the backbone '
        'and the keypoint head (RB+H)',
        'regular',
        dict(regular=_refined('regular'), rb=_refined('rb'), rb_h=_refined('rb-h')),
        same_outputs=False,
        score_threshold=0.0,
    ),
    'refinement-usual': Part(
        "What refinement costs with PyTorch's 3x3 convolutions in both networks",
        'regular',
        dict(
            regular=_refined('regular', usual_convs=True), rb_h=_refined('rb-h', usual_convs=True)
        ),
        same_outputs=False,
        score_threshold=0.0,
    ),
    'refined-convolution': Part(
        "RB by this project's deformable convolution and by mmcv's",
        'mmcv',
        dict(mmcv=_refined('rb', mmcv_deform=True), ours=_refined('rb')),
        score_threshold=0.0,
    ),
    **{
        f'means-{number}': Part(
            f'What makes it faster or smaller: {title}',
            'plain',
            dict(plain=PLAIN, **baselines),
            tasks=('predict-1', 'step-2'),
            score_threshold=0.0,
        )
        for number, (title, baselines) in enumerate(MEANS.items(), 1)
    },
    'onnx': Part(
        'onnxruntime on the exported file beside PyTorch',
        'regular',
        {
            'regular': _exported('regular', MULTITASK, prepare=True),
            'regular, ONNX': _exported('regular', ONNX),
            'rb': _exported('rb', MULTITASK, prepare=True),
            'rb, ONNX': _exported('rb', ONNX),
            'rb_h': _exported('rb-h', MULTITASK, prepare=True),
            'rb_h, ONNX': _exported('rb-h', ONNX),
        },
        same_outputs=False,
        tasks=('predict-1',),
        score_threshold=0.0,
    ),
}
