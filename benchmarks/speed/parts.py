"""What is compared with what: the baselines of each part of the speed comparison."""

from typing import Any, NamedTuple

# By name: another framework can be imported in its own environment only.
MULTITASK = 'benchmarks.speed.baselines.multitask_net:MultitaskNet'
MMDET = 'benchmarks.speed.baselines.mmdet_net:MMDetNet'
ONNX = 'benchmarks.speed.baselines.onnx_net:OnnxNet'
DETECTRON2 = 'benchmarks.speed.baselines.detectron2_net:Detectron2Net'
TORCHVISION = 'benchmarks.speed.baselines.torchvision_net:TorchvisionNet'


class BaselineSpec(NamedTuple):
    """How to build a baseline.

    Attributes:
        baseline: ``module:Class``.
        options: Arguments of the class.
        tasks: Which of inference (``predict``) and training (``step``) are measured.
        is_external: Whether it runs in the environment of ``--baseline-python``.
        has_stages: Whether its stages are profiled.
        prediction: The expected result, written before the comparison.
    """

    baseline: str
    options: dict[str, Any]
    tasks: tuple[str, ...] = ('predict', 'step')
    is_external: bool = False
    has_stages: bool = False
    prediction: str = ''


class Part(NamedTuple):
    """Baselines that do the same work.

    Attributes:
        about: What is compared, the heading of its tables.
        reference: The baseline that the others are compared with.
        baselines: By name.
        converter: Module that converts the reference's weights for the others; None if all have
            the same layout.
        same_outputs: Whether all should detect the same people.
        tasks: What is measured, see benchmarks/speed/compare.py.
        score_threshold: Detections with a lower score are dropped. 0.05 is every framework's
            default, but networks with weights drawn in this project's layout do not always find
            20 people above it.
    """

    about: str
    reference: str
    baselines: dict[str, BaselineSpec]
    converter: str | None = None
    same_outputs: bool = True
    tasks: tuple[str, ...] = ('predict-1', 'predict-8', 'step-2')
    score_threshold: float = 0.05


def against(
    about: str, name: str, baseline: str, model: str, variant: str, is_external: bool = True
) -> Part:
    """Compare a framework's model with this project's network with the same weights."""
    config = f'converted/multitask-rcnn_r50_fpn_{variant}_8xb2-90k_coco.py'
    return Part(
        about,
        name,
        {
            name: BaselineSpec(baseline, dict(config=model), is_external=is_external),
            'multitask_refine': BaselineSpec(
                MULTITASK, dict(config=config, prepare=True), has_stages=True
            ),
        },
        f'tools.model_converters.{name}_to_multitask',
    )


def refined(
    variant: str,
    baseline: str = MULTITASK,
    tasks: tuple[str, ...] = ('predict', 'step'),
    has_stages: bool = True,
    **options: Any,
) -> BaselineSpec:
    """Build the paper's network: ``regular``, ``rb`` or ``rb-h``."""
    config = f'multitask_refine/multitask-rcnn_r50_fpn-ms_{variant}_4xb3-90k_coco.py'
    return BaselineSpec(baseline, dict(config=config, **options), tasks, has_stages=has_stages)


def with_option(prediction: str, *tasks: str, **options: Any) -> BaselineSpec:
    """Build the network of Detectron2's layout with an optimization on or off."""
    config = 'converted/multitask-rcnn_r50_fpn_detectron2_8xb2-90k_coco.py'
    return BaselineSpec(
        MULTITASK,
        dict(config=config, **options),
        tasks or ('predict', 'step'),
        prediction=prediction,
    )


PLAIN = with_option('the network as configured, not prepared for inference')
# Only some options per part: the processes of all of them stay in memory.
OPTIONS = {
    'on by default, switched off one at a time': {
        "PyTorch's 3x3 convolutions": with_option(
            'slower: 0.7 of the speed; Winograd needs a quarter of the products where most of the '
            'work is',
            reference_ops=['WinogradConv2d'],
        ),
        "mmcv's RoIAlign": with_option(
            'slower: 0.4 of the speed in inference, 0.6 in training; it walks through every value '
            'on its own',
            reference_ops=['SeparableRoIAlign'],
        ),
        "mmcv's NMS, over all levels at once": with_option(
            'slower: 0.93 of the speed; it takes four times the pairs, one after the other',
            reference_ops=['SyncAvgFactorRPNHead'],
        ),
        'mask and keypoint head pool twice': with_option(
            'slower: 0.98 of the speed; pooling 20 people is cheap', pool_twice=True
        ),
    },
    'for inference': {
        'channels last': with_option('1.05 times as fast', 'predict', channels_last=True),
        'fused batch norms': with_option('1.03 times as fast', 'predict', fuse_norms=True),
        'both and prepacked weights, as the inferencer does': with_option(
            '1.1 times as fast', 'predict', prepare=True
        ),
        'compiled backbone and FPN': with_option(
            'little: convolutions stay what they are', 'predict', compiled=True
        ),
    },
    'off by default': {
        'channels last in training': with_option('1.05 times as fast', 'step', channels_last=True),
        'freed memory is kept': with_option(
            '1.05 times as fast: no pages to be mapped anew, for more memory', keep_memory=True
        ),
        'bfloat16': with_option(
            'faster where the processor multiplies in bfloat16, with other results', bfloat16=True
        ),
        'checkpointing of the backbone': with_option(
            'slower by the forward pass of the backbone, less memory', 'step', checkpointing=True
        ),
    },
}

PARTS: dict[str, Part] = {
    'detectron2': against(
        "Boxes, masks and keypoints: Detectron2's Keypoint R-CNN R50-FPN with a mask head",
        'detectron2',
        DETECTRON2,
        'COCO-Keypoints/keypoint_rcnn_R_50_FPN_3x.yaml',
        'detectron2',
    ),
    'torchvision-keypoints': against(
        "Boxes and keypoints: torchvision's keypointrcnn_resnet50_fpn",
        'torchvision',
        TORCHVISION,
        'keypoints',
        'torchvision-kps',
    ),
    'torchvision-masks': against(
        "Boxes and masks: torchvision's maskrcnn_resnet50_fpn, 90 classes",
        'torchvision',
        TORCHVISION,
        'masks',
        'torchvision-mask',
    ),
    'mmdet': against(
        "Boxes and masks: MMDetection's Mask R-CNN R50-FPN, 80 classes",
        'mmdet',
        MMDET,
        'mmdet::mask_rcnn/mask-rcnn_r50_fpn_1x_coco.py',
        'mmdet-mask',
        is_external=False,
    ),
    'refinement': Part(
        'What refinement costs: none, in the backbone (RB), in the backbone and the keypoint head '
        '(RB+H)',
        'regular',
        dict(regular=refined('regular'), rb=refined('rb'), rb_h=refined('rb-h')),
        same_outputs=False,
        score_threshold=0.0,
    ),
    # Winograd's method would make regular alone faster: this is the cost of refinement.
    'refinement-usual': Part(
        "What refinement costs with PyTorch's 3x3 convolutions in both networks",
        'regular',
        dict(
            regular=refined('regular', reference_ops=['WinogradConv2d']),
            rb_h=refined('rb-h', reference_ops=['WinogradConv2d']),
        ),
        same_outputs=False,
        score_threshold=0.0,
    ),
    'refined-convolution': Part(
        "RB by this project's deformable convolution and by mmcv's",
        'mmcv',
        dict(mmcv=refined('rb', reference_ops=['RefinedConv2d']), multitask_refine=refined('rb')),
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
        for number, (title, baselines) in enumerate(OPTIONS.items(), 1)
    },
    'onnx': Part(
        'ONNX Runtime on the exported file beside PyTorch',
        'regular',
        {
            f'{variant.replace("-", "_")}{suffix}': refined(
                variant, baseline, ('predict',), has_stages=False, prepare=not suffix
            )
            for variant in ('regular', 'rb', 'rb-h')
            for baseline, suffix in ((MULTITASK, ''), (ONNX, ', ONNX'))
        },
        same_outputs=False,
        tasks=('predict-1',),
        score_threshold=0.0,
    ),
}
