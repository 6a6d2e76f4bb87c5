"""Count the synchronizations of Detectron2's Keypoint R-CNN with a mask head.

benchmarks.cuda.synchronizations runs it where Detectron2 can be imported, with the folder of
``simulated_device.py`` in PYTHONPATH. It prints the counts as JSON.
"""

import importlib.util
import json
import sys
import types
from collections import Counter
from pathlib import Path

import detectron2
import torch

if importlib.util.find_spec('detectron2._C') is None:
    # The extension is not compiled; none of its operators is called on the CPU.
    sys.modules['detectron2._C'] = types.ModuleType('detectron2._C')

from detectron2.config import get_cfg
from detectron2.engine import SimpleTrainer
from detectron2.modeling import build_model
from detectron2.solver import build_optimizer
from detectron2.structures import BitMasks, Boxes, Instances, Keypoints
from detectron2.utils.events import EventStorage
from simulated_device import SimulatedDevice
from synthetic_weights import draw_weights

from benchmarks.cuda.inputs import DETECTIONS, IMAGES, ROIS, SEED, draw_batch


def main() -> None:
    """Count a training step and an inference."""
    cfg = get_cfg()
    folder = Path(detectron2.__file__).parents[1] / 'configs/COCO-Keypoints'
    cfg.merge_from_file(str(folder / 'keypoint_rcnn_R_50_FPN_1x.yaml'))
    cfg.MODEL.DEVICE, cfg.MODEL.WEIGHTS, cfg.MODEL.MASK_ON = 'cpu', '', True
    cfg.INPUT.MASK_FORMAT = 'bitmask'
    # Few RoIs: their number does not change the counts.
    cfg.MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE = ROIS
    cfg.MODEL.RPN.PRE_NMS_TOPK_TRAIN = cfg.MODEL.RPN.PRE_NMS_TOPK_TEST = ROIS
    cfg.MODEL.RPN.POST_NMS_TOPK_TRAIN = cfg.MODEL.RPN.POST_NMS_TOPK_TEST = 2 * ROIS
    cfg.MODEL.ROI_HEADS.SCORE_THRESH_TEST = 0.0
    cfg.TEST.DETECTIONS_PER_IMAGE = DETECTIONS
    model = build_model(cfg)
    shapes = {name: tuple(values.shape) for name, values in model.state_dict().items()}
    weights = draw_weights(shapes, SEED)
    model.load_state_dict({name: torch.from_numpy(value) for name, value in weights.items()})
    train, test = _make_batch(IMAGES), _make_batch(1)
    with SimulatedDevice() as device, EventStorage():
        model.to(device.device)
        trainer = SimpleTrainer(model, [train], build_optimizer(cfg, model))

        def predict() -> None:
            model.eval()
            with torch.no_grad():
                found = model(test)
            assert len(found[0]['instances']) == DETECTIONS

        places = {}
        for name, task in dict(step=trainer.run_step, predict=predict).items():
            model.train()
            device.synchronizations.clear()
            task()
            places[name] = [
                dict(place._asdict(), count=count)
                for place, count in Counter(device.synchronizations).most_common()
            ]
    print(json.dumps(places))


def _make_batch(num_images: int) -> list[dict]:
    batch = []
    for image, people in draw_batch(num_images):
        keypoints = torch.from_numpy(people.keypoints)
        instances = Instances(
            image.shape[1:],
            gt_boxes=Boxes(torch.from_numpy(people.boxes)),
            gt_classes=torch.zeros(len(keypoints), dtype=torch.int64),
            gt_masks=BitMasks(torch.from_numpy(people.masks)),
            gt_keypoints=Keypoints(
                torch.cat([keypoints, torch.full_like(keypoints[..., :1], 2)], -1)
            ),
        )
        height, width = image.shape[1:]
        batch.append(
            dict(image=torch.from_numpy(image), height=height, width=width, instances=instances)
        )
    return batch


if __name__ == '__main__':
    main()
