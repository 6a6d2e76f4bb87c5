"""What runs on a GPU, on a simulated one: tensors are on the right device, and few places wait."""

import gzip
import json
from collections import Counter
from unittest import mock

import pytest
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.runner import Runner

from multitask_cli import train
from multitask_refine.testing.simulated_device import SimulatedDevice
from tests.config_kinds import NETWORKS_WITH_ALL_PARTS
from tests.conftest import SAMPLE_CONFIG, as_arguments, draw_scene, tiny_options
from tests.pins.behavior import pin_file, run_network
from tests.pins.test_pins import compare, count, drop_ill_conditioned_gradients
from tests.shrink import cheap_parts, shrink

# Of the numbers of a network; other operators round differently.
SHARE = 0.01

RPN = 'multitask_refine.models.dense_heads.rpn_heads'
HEAD = 'multitask_refine.models.roi_heads'
CODER = 'mmdet.models.task_modules.coders.delta_xywh_bbox_coder'
BOX_HEAD = 'mmdet.models.roi_heads.bbox_heads.bbox_head'
MASK_HEAD = 'mmdet.models.roi_heads.mask_heads.fcn_mask_head'

# Of each place, the limits for a training step with two images on four levels, and for an
# inference of one image. docs/performance.md gives the reasons.
LIMITS = {
    'step': {
        (RPN, '_bbox_post_process'): 2,  # an image
        ('mmcv.ops.nms', 'batched_nms'): 2,
        ('mmcv.ops.nms', 'forward'): 2,
        ('multitask_refine.models.task_modules.sync_free', '_sample'): 8,  # 4 an image
        ('mmdet.models.losses.cross_entropy_loss', '_expand_onehot_labels'): 4,  # a level
        ('mmdet.models.losses.smooth_l1_loss', 'forward'): 5,  # a level, and the box head
        (CODER, 'bbox2delta'): 8,  # 4 an image
        (CODER, 'delta2bbox'): 4,  # 2 an image
        (BOX_HEAD, 'loss'): 6,
        (f'{HEAD}.roi_extractor', 'group_by_level'): 2,
        (f'{HEAD}.multitask_roi_head', '_find_labeled'): 1,
        ('multitask_refine.models.detectors.multitask_rcnn', 'parse_losses'): 1,
        ('mmengine.optim.optimizer.optimizer_wrapper', 'backward'): 1,
        ('mmengine.optim.optimizer.optimizer_wrapper', '_clip_grad'): 1,
    },
    'predict': {
        (RPN, '_bbox_post_process'): 1,
        ('mmcv.ops.nms', 'batched_nms'): 2,
        ('mmcv.ops.nms', 'forward'): 2,
        ('mmdet.models.layers.bbox_nms', 'multiclass_nms'): 1,
        (CODER, 'delta2bbox'): 4,
        (MASK_HEAD, '_predict_by_feat_single'): 2,
        (MASK_HEAD, '_do_paste_mask'): 2,
        (f'{HEAD}.roi_extractor', 'group_by_level'): 2,
        (f'{HEAD}.multitask_roi_head', 'predict_bbox'): 1,
        # The results are converted to COCO's format on the host.
        ('multitask_refine.evaluation.coco_metric', '_encode'): 6,
    },
}


@pytest.fixture(scope='module')
def data_root(tmp_path_factory):
    return draw_scene(tmp_path_factory.mktemp('scene'))


@pytest.fixture(scope='module')
def pinned():
    return json.loads(gzip.decompress(pin_file('networks').read_bytes()))


@pytest.mark.parametrize('leaf', NETWORKS_WITH_ALL_PARTS, ids=lambda leaf: leaf.stem)
def test_networks_with_all_parts_give_the_numbers_of_the_cpu(leaf, data_root, pinned):
    """The device takes the implementations of CUDA, such as mmcv's operators."""
    cfg = shrink(Config.fromfile(leaf), data_root)
    with cheap_parts():
        expected = pinned.get(leaf.stem) or run_network(cfg)
        with SimulatedDevice() as device:
            found = run_network(cfg, device.device)
    expected, found = (
        drop_ill_conditioned_gradients({leaf.stem: json.loads(json.dumps(each))})[leaf.stem]
        for each in (expected, found)
    )
    for numbers in (expected, found):
        # Rounding decides the order of proposals of almost equal scores.
        if 'convnext' in leaf.stem:
            del numbers['gradients'], numbers['predictions']
            for name in [name for name in numbers['losses'] if 'rpn' not in name]:
                del numbers['losses'][name]
    differences = list(compare(expected, found, leaf.stem))
    assert len(differences) <= SHARE * count(expected), differences[:20]
    assert device.synchronizations


class _Counter(Hook):
    """Count the synchronizations of each training iteration and each tested image."""

    priority = 'LOW'  # before the checkpoint is written

    def __init__(self, device):
        self.device, self.found = device, dict(step=[], predict=[])

    def _begin(self, *args, **kwargs):
        self.device.synchronizations.clear()

    before_train_iter = before_val_iter = _begin

    def after_train_iter(self, *args, **kwargs):
        self.found['step'].append(self._count())

    def after_val_iter(self, *args, **kwargs):
        self.found['predict'].append(self._count())

    def _count(self):
        return Counter((each.module, each.function) for each in self.device.synchronizations)


@pytest.mark.exhaustive
def test_a_training_on_the_device(data_root, tmp_path):
    """Data, hooks, checkpoints and metric included."""
    options = {**tiny_options(data_root), 'default_hooks.checkpoint.interval': 2}
    with cheap_parts(), SimulatedDevice() as device:
        counter = _Counter(device)
        register_hooks = Runner.register_hooks

        def register_also_the_counter(runner, *hooks):
            register_hooks(runner, *hooks)
            runner.register_hook(counter)

        with (
            mock.patch('mmengine.runner.runner.get_device', lambda: device.device),
            mock.patch.object(Runner, 'register_hooks', register_also_the_counter),
        ):
            train.main(
                [str(SAMPLE_CONFIG), '--work-dir', str(tmp_path), '--seed', '3']
                + as_arguments(options)
            )
    assert (tmp_path / 'iter_2.pth').exists()
    for task, limits in LIMITS.items():
        assert counter.found[task]
        for counts in counter.found[task]:
            over = {place: (n, limits.get(place, 0)) for place, n in counts.items()}
            assert not {each for each, (n, limit) in over.items() if n > limit}, over
