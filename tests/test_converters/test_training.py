"""Training steps of the converted configs against those of the frameworks they come from.

``golden/training-*.npz`` holds what Detectron2's and torchvision's own code gave;
``make_training_golden.py`` wrote it and ``about`` in each file says what is what. Here the
config's network, as narrow as there, with the same weights, trains on the same images with the
same sizes, flips, anchors and RoIs, in float64. MMDetection is installed: its steps are taken
beside those of this project.
"""

import copy
import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import NamedTuple
from zlib import crc32

import numpy as np
import pytest
import torch
from mmdet.models.task_modules.samplers import BaseSampler, RandomSampler
from mmdet.registry import DATASETS, MODELS, PARAM_SCHEDULERS
from mmengine.config import Config
from mmengine.dataset import Compose
from mmengine.hooks import ParamSchedulerHook
from mmengine.hub import get_config
from mmengine.optim import build_optim_wrapper
from mmengine.structures import InstanceData

from multitask_refine.converters import detectron2 as detectron2_to_multitask
from multitask_refine.converters import mmdet as mmdet_to_multitask
from multitask_refine.converters import torchvision as torchvision_to_multitask
from multitask_refine.converters.conversion import match_names
from multitask_refine.converters.layout import arrange
from multitask_refine.converters.weights_file import Checkpoint
from multitask_refine.testing import synthetic_images, synthetic_weights
from tests.test_converters.networks import config_path

# training_case imports nothing of the project, so that it also runs beside other frameworks.
sys.modules.setdefault('synthetic_images', synthetic_images)
sys.modules.setdefault('synthetic_weights', synthetic_weights)
from tests.test_converters import training_case as case  # noqa: E402

GOLDEN = Path(__file__).parent / 'golden'
SOURCES = {
    'detectron2-all': 'r50_fpn_detectron2',
    'detectron2-kps': 'r50_fpn_detectron2-kps',
    'detectron2-mask': 'r50_fpn_detectron2-mask',
    'detectron2-rb-mask': 'r50_fpn_detectron2-rb-mask',
    'torchvision-kps': 'r50_fpn_torchvision-kps',
    'torchvision-mask': 'r50_fpn_torchvision-mask',
}
TERMS = {
    'loss_rpn_loc': 'loss_rpn_bbox',
    'loss_box_reg': 'loss_bbox',
    'loss_objectness': 'loss_rpn_cls',
    'loss_rpn_box_reg': 'loss_rpn_bbox',
    'loss_classifier': 'loss_cls',
}


class GivenSampler(BaseSampler):
    """Sample the anchors that the source sampled."""

    def __init__(self, anchors, is_person):
        super().__init__(len(anchors), pos_fraction=1, add_gt_as_proposals=False)
        self.anchors = torch.from_numpy(anchors).double()
        self.is_person = torch.from_numpy(is_person)

    def sample(self, assign_result, pred_instances, gt_instances):
        same = (pred_instances.priors[:, None] == self.anchors).all(-1)
        assert (same.sum(0) == 1).all()
        self.indices = same.int().argmax(0)
        assigned = assign_result.gt_inds[self.indices]
        assert (assigned >= 0).all()
        assert ((assigned > 0) == self.is_person).all()
        return super().sample(assign_result, pred_instances, gt_instances)

    def _sample_pos(self, assign_result, *args, **kwargs):
        return self.indices[self.is_person]

    def _sample_neg(self, assign_result, *args, **kwargs):
        return self.indices[~self.is_person]


class Sampling(NamedTuple):
    """Anchors and RoIs that a source sampled in an image."""

    anchors: np.ndarray
    anchor_labels: np.ndarray
    rois: np.ndarray
    roi_labels: np.ndarray


def narrow(cfg):
    """Give a config's network the widths of ``training_case``."""
    model = cfg.model
    model.backbone.update(base_channels=case.BASE, stem_channels=case.STEM, init_cfg=None)
    widths = [4 * case.BASE * 2**i for i in range(4)]
    model.neck.update(in_channels=widths, out_channels=case.PYRAMID)
    model.rpn_head.update(in_channels=case.PYRAMID, feat_channels=case.PYRAMID)
    head = model.roi_head
    head.bbox_head.update(in_channels=case.PYRAMID, fc_out_channels=case.FC)
    for name in ('bbox_roi_extractor', 'instance_roi_extractor', 'mask_roi_extractor'):
        if name in head:
            head[name].out_channels = case.PYRAMID
    if head.get('mask_head'):
        head.mask_head.update(in_channels=case.PYRAMID, conv_out_channels=case.MASK)
    if head.get('keypoint_head'):
        head.keypoint_head.update(in_channels=case.PYRAMID, conv_channels=case.KEYPOINT)
    return cfg


def shorten(cfg):
    """End the warm-up and choose the image sizes as ``training_case`` does."""
    cfg.param_scheduler[0].end = case.WARMUP + 1
    # A crowd is background to Detectron2 and torchvision.
    for stage in ('rpn', 'rcnn'):
        cfg.model.train_cfg[stage].assigner.ignore_iof_thr = -1
    return cfg


class Trainer:
    """A network with the data, optimizer and schedule of its config.

    Args:
        cfg (Config): Narrowed and shortened.
        model (nn.Module): Its network.
        annotations (Path): What ``write_dataset`` wrote.
    """

    def __init__(self, cfg, model, annotations):
        self.model = model.double().train()
        self.optim_wrapper = build_optim_wrapper(model, cfg.optim_wrapper)
        self.hook = ParamSchedulerHook()
        schedulers = [
            PARAM_SCHEDULERS.build(
                dict(each), default_args=dict(optimizer=self.optim_wrapper.optimizer)
            )
            for each in cfg.param_scheduler
        ]
        self.runner = SimpleNamespace(param_schedulers=schedulers)
        self.start = {name: value.detach().clone() for name, value in self.learned.items()}
        data = cfg.train_dataloader.dataset
        self.steps = data.pipeline
        data.update(data_root='', ann_file=str(annotations), filter_cfg=None, pipeline=[])
        data.data_prefix = dict(img=str(annotations.parent))
        dataset = DATASETS.build(data)
        infos = [dataset.get_data_info(i) for i in range(len(dataset))]
        self.infos = {info['img_id']: info for info in infos}

    @property
    def learned(self):
        return {k: v for k, v in self.model.named_parameters() if v.requires_grad}

    @property
    def added(self):
        """What the steps added to the weights."""
        return {name: value - self.start[name] for name, value in self.learned.items()}

    def load(self, image, side, flip):
        """Run the config's pipeline on an image with this short side and flip."""
        steps = []
        for step in self.steps:
            step = dict(step)
            if step['type'] == 'RandomFlip':
                step['prob'] = float(flip)
            elif step['type'] == 'Resize':
                step['scale'] = (case.LONG_SIDE, side)
            elif step.get('resize_type') == 'ResizeShortestEdge':
                step.update(scales=[side], max_size=case.LONG_SIDE)
            elif step['type'] == 'RandomChoiceResize':
                step['scales'] = [(case.LONG_SIDE, side)]
            steps.append(step)
        return Compose(steps)(copy.deepcopy(self.infos[image]))

    def load_size(self, image, height, width, flip):
        """Load an image with the short side that gives this size."""
        for side in case.SHORT_SIDES:
            data = self.load(image, side, flip)
            if data['data_samples'].img_shape == (height, width):
                return data
        raise AssertionError(f'no short side gives {height} x {width}')

    def losses(self, batch):
        """Return the losses of loaded images."""
        inputs = [each['inputs'] for each in batch]
        samples = [each['data_samples'] for each in batch]
        data = self.model.data_preprocessor(dict(inputs=inputs, data_samples=samples), True)
        losses = self.model(**data, mode='loss')
        return {
            name: sum(value) if isinstance(value, list) else value
            for name, value in losses.items()
            if 'loss' in name
        }

    def feed(self, samplings):
        """Let the network take these anchors and RoIs of each image."""
        model = self.model
        samplers = [GivenSampler(each.anchors, each.anchor_labels) for each in samplings]
        model.rpn_head.sampler = SimpleNamespace(
            sample=lambda *args, **kwargs: samplers.pop(0).sample(*args)
        )
        proposals = [
            InstanceData(bboxes=torch.from_numpy(each.rois).double()) for each in samplings
        ]
        model.rpn_head.predict_by_feat = lambda *args, **kwargs: proposals
        # All of them: they were sampled.
        sampler = RandomSampler(10**6, pos_fraction=1.0, add_gt_as_proposals=False)
        labels = [each.roi_labels for each in samplings]

        def sample(assigned, *args):
            assert ((assigned.gt_inds > 0).numpy() == labels.pop(0)).all()
            return sampler.sample(assigned, *args)

        model.roi_head.bbox_sampler = SimpleNamespace(sample=sample)

    def step(self, losses, iteration):
        """Take an optimizer step and one of the schedule; return the gradients by name."""
        total, _ = self.model.parse_losses(losses)
        self.optim_wrapper.backward(total)
        gradients = {name: value.grad.clone() for name, value in self.learned.items()}
        self.optim_wrapper.step()
        self.optim_wrapper.zero_grad()
        self.hook.after_train_iter(self.runner, iteration)
        return gradients


class Match:
    """Which entry of the source's tensors each entry of this project's is.

    Args:
        describe (Callable): Of the source's converter.
        shapes (dict): Shape of each of the source's tensors.
        network (nn.Module): This project's.
    """

    def __init__(self, describe, shapes, network):
        self.describe, self.shapes, self.network = describe, shapes, network
        self.indices, self.found = self._convert(
            {
                name: torch.arange(int(np.prod(shape)), dtype=torch.float64).reshape(tuple(shape))
                for name, shape in shapes.items()
            }
        )

    def _convert(self, weights):
        checkpoint = Checkpoint('source', '', {}, weights)
        layout = self.describe(checkpoint)
        match = match_names(checkpoint, layout, self.network.state_dict())
        assert not match.unknown
        return arrange(checkpoint, layout, match.found, self.network), match.found

    def convert(self, weights):
        """Return this project's tensors of a source's weights, by name."""
        return self._convert({name: torch.from_numpy(value) for name, value in weights.items()})[0]

    def summarize(self, tensors):
        """Summarize tensors of this project as the source's; what was not converted is 0."""
        inverted = {}
        for name, value in tensors.items():
            theirs = self.found[name]
            flat = np.zeros(int(np.prod(self.shapes[theirs])))
            flat[self.indices[name].flatten().long().numpy()] = value.detach().numpy().flatten()
            inverted[theirs] = flat
        return case.summarize(inverted), sorted(inverted)


def load_converted(model, match, weights):
    """Load all of a network's weights."""
    left = model.load_state_dict(match.convert(weights), strict=False)
    assert not left.unexpected_keys
    assert all(key.endswith('num_batches_tracked') for key in left.missing_keys)


class Run(NamedTuple):
    """What the steps of a network gave; see the conventions of make_training_golden.py."""

    losses: np.ndarray
    rates: np.ndarray
    gradients: np.ndarray
    updates: np.ndarray
    parameters: list


def run(trainer, summarize, prepare):
    """Train for all steps.

    Args:
        trainer (Trainer): The network.
        summarize (Callable): Of tensors by name; returns names, too.
        prepare (Callable): From a step's number to its losses in the order of their names.
    """
    losses, rates, updates = [], [], []
    for i in range(case.STEPS):
        terms = prepare(i)
        losses.append([value.item() for value in terms.values()])
        rates.append(trainer.optim_wrapper.get_lr()['lr'][0])
        step_gradients = trainer.step(terms, i)
        if i == 0:
            gradients, parameters = summarize(step_gradients)
        if i in (0, case.STEPS - 1):
            updates.append(summarize(trainer.added)[0])
    return Run(np.array(losses), np.array(rates), gradients, np.array(updates), parameters)


def relative_errors(found, expected):
    """Compare summaries of tensors.

    Returns:
        ndarray: For each tensor the norm of the difference, estimated by the projections, and the
        difference of the norms, relative to the norm; (tensors, 2). Tensors that are 0 but for
        rounding, 1e-10 of the largest, are compared with that.
    """
    norms = np.maximum(expected[:, 0], 1e-10 * expected[:, 0].max())
    apart = np.sqrt(((found - expected)[:, 1:] ** 2).mean(1))
    return np.stack([apart, abs(found - expected)[:, 0]], 1) / norms[:, None]


def compare_with_golden(name, path, folder):
    """Return what a source gave and what its converted config gives."""
    with np.load(path) as file:
        golden = dict(file)
    about = json.loads(str(golden.pop('about')))
    cfg = shorten(narrow(Config.fromfile(config_path(SOURCES[name]))))
    is_detectron2 = name.startswith('detectron2')
    describe = (detectron2_to_multitask if is_detectron2 else torchvision_to_multitask).describe
    others = slice(1, -1) if is_detectron2 else slice(2, None)
    model = MODELS.build(cfg.model)
    match = Match(describe, about['shapes'], model)
    weights = case.draw_training_weights(about['shapes'], about['seed'], others)
    load_converted(model, match, weights)
    trainer = Trainer(cfg, model, case.write_dataset(folder))

    def losses(i):
        batch = [
            trainer.load_size(image, *decision)
            for image, decision in zip(case.BATCHES[i], about['decisions'][i], strict=True)
        ]
        if about['images_crc32'][i]:
            found = [crc32(each['inputs'].numpy().tobytes()) for each in batch]
            assert found == about['images_crc32'][i]
        trainer.feed(
            [
                Sampling(*[golden[f'{i}/{image}/{part}'] for part in Sampling._fields])
                for image in range(len(batch))
            ]
        )
        terms = trainer.losses(batch)
        names = [TERMS.get(term, term) for term in about['terms']]
        assert set(names) == set(terms)
        return {name: terms[name] for name in names}

    found = run(trainer, match.summarize, losses)
    expected = Run(*[golden[field] for field in Run._fields[:-1]], about['parameters'])
    return expected, found


def compare_with_mmdet(folder):
    """Return what MMDetection's Mask R-CNN and the converted config give."""
    theirs = narrow(get_config('mmdet::mask_rcnn/mask-rcnn_r50_fpn_1x_coco.py'))
    ours = shorten(narrow(Config.fromfile(config_path('r50_fpn_mmdet-mask'))))
    theirs.param_scheduler[0].end = case.WARMUP + 1
    for cfg in (theirs, ours):
        cfg.model.train_cfg.rpn_proposal.max_per_img = case.MAX_PROPOSALS
    source, model = [MODELS.build(cfg.model) for cfg in (theirs, ours)]
    shapes = {
        name: tuple(value.shape)
        for name, value in source.state_dict().items()
        if not name.endswith('num_batches_tracked')
    }
    weights = case.draw_training_weights(shapes, 5, slice(1, -1))
    source.load_state_dict({k: torch.from_numpy(v) for k, v in weights.items()}, strict=False)
    match = Match(mmdet_to_multitask.describe, shapes, model)
    load_converted(model, match, weights)
    path = case.write_dataset(folder)
    runs = []
    for cfg, network in ((theirs, source), (ours, model)):
        _run_nms_in_float32(network.rpn_head)
        trainer = Trainer(cfg, network, path)
        random = np.random.RandomState(0)

        def losses(i, trainer=trainer, random=random):
            batch = []
            for image in case.BATCHES[i]:
                side, flip = random.choice(case.SHORT_SIDES), random.randint(2)
                batch.append(
                    trainer.load(image, int(side), flip) if i else trainer.load(image, 96, 0)
                )
            torch.manual_seed(i)  # anchors and RoIs are sampled with the same numbers
            terms = trainer.losses(batch)
            return {name: terms[name] for name in sorted(terms)}

        summarize = match.summarize if network is model else summarize_persons
        runs.append(run(trainer, summarize, losses))
    return runs


def _run_nms_in_float32(rpn_head):
    """mmcv's NMS takes nothing else."""
    own = rpn_head._bbox_post_process

    def post_process(results, **kwargs):
        kept = own(InstanceData(**{k: v.float() for k, v in results.items()}), **kwargs)
        kept.bboxes = kept.bboxes.double()
        return kept

    rpn_head._bbox_post_process = post_process


def summarize_persons(tensors):
    """Summarize MMDetection's tensors without the box deltas and masks of other classes."""
    arrays = {}
    for name, value in tensors.items():
        arrays[name] = value.detach().numpy().copy()
        rows = {'fc_reg': 4, 'conv_logits': 1}.get(name.split('.')[-2])
        if rows:
            arrays[name][rows:] = 0
    return case.summarize(arrays), sorted(arrays)


@pytest.fixture(scope='module', params=[*SOURCES, 'mmdet-mask'])
def runs(request, tmp_path_factory):
    """What the source gave, and what this project gives."""
    folder = tmp_path_factory.mktemp(request.param)
    if request.param == 'mmdet-mask':
        return compare_with_mmdet(folder)
    path = GOLDEN / f'training-{request.param}.npz'
    return compare_with_golden(request.param, path, folder)


def test_losses(runs):
    expected, found = runs
    np.testing.assert_allclose(found.losses[0], expected.losses[0], rtol=1e-6)
    np.testing.assert_allclose(found.losses, expected.losses, rtol=1e-5)


def test_gradients(runs):
    expected, found = runs
    assert found.parameters == expected.parameters
    assert relative_errors(found.gradients, expected.gradients).max() < 1e-4


def test_weights_after_one_and_five_steps(runs):
    expected, found = runs
    np.testing.assert_allclose(found.rates, expected.rates, rtol=1e-12)
    for i in range(2):
        assert relative_errors(found.updates[i], expected.updates[i]).max() < 1e-4
