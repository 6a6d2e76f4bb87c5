"""Who is compared with whom."""
from typing import Any, Dict, NamedTuple, Optional, Tuple

OURS = 'benchmarks.contestants.ours:Ours'
MMDET = 'benchmarks.contestants.mmdet_net:MMDetNet'
DETECTRON2 = 'benchmarks.contestants.detectron2_net:Detectron2Net'
TORCHVISION = 'benchmarks.contestants.torchvision_net:TorchvisionNet'
EVERY_TASK = ('predict', 'step')


class Entrant(NamedTuple):
    """A contestant of a part.

    Attributes:
        contestant: ``module:Class``.
        options: Its arguments.
        tasks: What it does.
        elsewhere: Whether it runs in the contestants' environment.
        stages: Whether its stages are measured, too.
    """

    contestant: str
    options: Dict[str, Any]
    tasks: Tuple[str, ...] = EVERY_TASK
    elsewhere: bool = False
    stages: bool = False


class Part(NamedTuple):
    """Entrants that do the same job.

    Attributes:
        about: What is compared.
        reference: The entrant that the others' seconds are divided by.
        entrants: By name.
        converter: Module of ``tools.model_converters`` that gives the
            reference's weights to the others; None where all have the same
            layout.
        same_outputs: Whether all should find the same people.
        score_threshold: Detections below are dropped: 0.05 is every
            framework's own; weights that are drawn in this project's layout
            do not always find 20 people above it.
    """

    about: str
    reference: str
    entrants: Dict[str, Entrant]
    converter: Optional[str] = None
    same_outputs: bool = True
    score_threshold: float = 0.05


def _coco(variant: str) -> str:
    return f'multitask-rcnn_r50_{variant}_coco.py'


def _against(about: str, reference: str, rival: Entrant, variant: str,
             converter: str) -> Part:
    """A rival and this project's network with its weights."""
    ours = Entrant(
        OURS, dict(config=_coco(f'fpn_{variant}_8xb2-90k')), stages=True)
    return Part(about, reference, {reference: rival, 'ours': ours},
                f'tools.model_converters.{converter}_to_multitask')


def _refined(variant: str, **options: Any) -> Entrant:
    config = _coco(f'fpn-ms_{variant}_4xb3-90k')
    return Entrant(OURS, dict(config=config, **options), stages=True)


def _by_means(*tasks: str, **options: bool) -> Entrant:
    config = _coco('fpn_detectron2_8xb2-90k')
    return Entrant(OURS, dict(config=config, **options), tasks)


PARTS: Dict[str, Part] = {
    'detectron2': _against(
        "Boxes, masks and joints: Detectron2's Keypoint R-CNN R50-FPN with a "
        'mask head', 'detectron2',
        Entrant(
            DETECTRON2,
            dict(config='COCO-Keypoints/keypoint_rcnn_R_50_FPN_3x.yaml'),
            elsewhere=True), 'detectron2', 'detectron2'),
    'torchvision-keypoints': _against(
        "Boxes and joints: torchvision's keypointrcnn_resnet50_fpn",
        'torchvision',
        Entrant(TORCHVISION, dict(task='keypoints'), elsewhere=True),
        'torchvision-kps', 'torchvision'),
    'torchvision-masks': _against(
        "Boxes and masks: torchvision's maskrcnn_resnet50_fpn, 90 classes",
        'torchvision',
        Entrant(TORCHVISION, dict(task='masks'), elsewhere=True),
        'torchvision-mask', 'torchvision'),
    'mmdet': _against(
        "Boxes and masks: mmdet's Mask R-CNN R50-FPN, 80 classes", 'mmdet',
        Entrant(MMDET,
                dict(config='mask_rcnn/mask-rcnn_r50_fpn_1x_coco.py')),
        'mmdet-mask', 'mmdet'),
    'refinement': Part(
        'What refinement costs: none, in the backbone (RB), in the backbone '
        'and the keypoint head (RB+H)', 'regular',
        dict(regular=_refined('regular'), rb=_refined('rb'),
             rb_h=_refined('rb-h')),
        same_outputs=False, score_threshold=0.0),
    'refined-convolution': Part(
        "RB by this project's deformable convolution and by mmcv's", 'mmcv',
        dict(mmcv=_refined('rb', by_mmcv=True), ours=_refined('rb')),
        score_threshold=0.0),
    'means': Part(
        'Options of this project that may make it faster or smaller',
        'plain', {
            'plain': _by_means(*EVERY_TASK),
            'channels-last': _by_means(*EVERY_TASK, channels_last=True),
            'folded-norms': _by_means('predict', fold_norms=True),
            'channels-last and folded-norms': _by_means(
                'predict', channels_last=True, fold_norms=True),
            'bfloat16': _by_means(*EVERY_TASK, bfloat16=True),
            'checkpointing': _by_means('step', checkpointing=True),
        }, score_threshold=0.0),
}
