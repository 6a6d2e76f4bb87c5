"""Pinned behavior: each function computes one part of it."""

import json
import random
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from mmdet.registry import DATASETS, MODELS
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.registry import init_default_scope
from torch import nn

from demo import image_demo
from multitask_cli import test, train
from multitask_refine.deployment import export
from tests.config_kinds import KINDS_OF_NETWORK, LEAVES
from tests.conftest import SAMPLE_CONFIG, as_arguments, draw_scene, tiny_options
from tests.shrink import cheap_parts, shrink


def pin_file(name: str) -> Path:
    """Return the file of one part."""
    return Path(__file__).parent / f'{name}.json.gz'


def pin_settings(folder: Path) -> dict[str, dict]:
    """Merged settings of every config."""
    return {
        file.stem: json.loads(json.dumps(Config.fromfile(file).to_dict(), default=repr))
        for file in LEAVES
    }


def pin_state_dicts(folder: Path) -> dict[str, dict[str, list]]:
    """Names and shapes in the state dict of every config's network."""
    init_default_scope('mmdet')
    pins = {}
    for file in LEAVES:
        config = Config.fromfile(file).model
        # mmdet's Swin reads values of tensors while it is built.
        with torch.device('cpu' if config.backbone.type == 'SwinTransformer' else 'meta'):
            model = MODELS.build(config)
        pins[file.stem] = {name: list(tensor.shape) for name, tensor in model.state_dict().items()}
    return pins


def pin_networks(folder: Path) -> dict[str, dict]:
    """A training step and a prediction of a narrow network of each kind."""
    init_default_scope('mmdet')
    data_root = draw_scene(folder)
    pins = {}
    for file in KINDS_OF_NETWORK:
        cfg = shrink(Config.fromfile(file), data_root)
        with cheap_parts():
            pins[file.stem] = run_network(cfg)
    return pins


def run_network(cfg: Config, device: str | torch.device = 'cpu') -> dict:
    """Losses, norms of the gradients and a prediction of a network with drawn weights."""
    model = MODELS.build(cfg.model)
    _draw_weights(model)
    model.to(device)
    _set_seeds(1)
    dataset = DATASETS.build(cfg.train_dataloader.dataset)
    batch = pseudo_collate([dataset[0], dataset[0]])
    model.train()
    _set_seeds(2)
    losses = model(**model.data_preprocessor(batch, True), mode='loss')
    total, _ = model.parse_losses(losses)
    total.backward()
    gradients = {
        name: parameter.grad.double().norm().item()
        for name, parameter in model.named_parameters()
        if parameter.grad is not None
    }
    model.eval()
    batch = pseudo_collate([DATASETS.build(cfg.test_dataloader.dataset)[0]])
    with torch.no_grad():
        sample = model(**model.data_preprocessor(batch, False), mode='predict')[0]
    found = sample.pred_instances.cpu()
    return dict(
        losses={
            name: sum(each.sum() for each in (loss if isinstance(loss, list) else [loss])).item()
            for name, loss in losses.items()
        },
        gradients=gradients,
        predictions={
            # Of a mask (N, H, W) its area.
            name: np.asarray(found[name], dtype=float)
            .sum((1, 2) if name == 'masks' else ())
            .tolist()
            for name in sorted(found.keys())
        },
    )


def _draw_weights(model: nn.Module) -> None:
    """Set every weight, in the order of the modules, whatever its name."""
    generator = torch.Generator().manual_seed(0)
    for module in model.modules():
        for name, parameter in module.named_parameters(recurse=False):
            drawn = torch.randn(parameter.shape, generator=generator)
            if parameter.dim() > 1:
                drawn *= parameter[0].numel() ** -0.5
            else:
                drawn *= 0.1
                if name == 'weight':  # of a norm
                    drawn += 1
            parameter.data.copy_(drawn)


def _set_seeds(seed: int) -> None:
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


def pin_training(folder: Path) -> dict:
    """Losses of a short training, and the fields of the files it leaves."""
    scene = draw_scene(folder)
    options = {
        name: value for name, value in tiny_options(scene).items() if 'pipeline' not in name
    }
    options.update({'train_cfg.max_iters': 8, 'train_cfg.val_interval': 8})
    work_dir = folder / 'work'
    train.main(
        [str(SAMPLE_CONFIG), '--work-dir', str(work_dir), '--seed', '3', *as_arguments(options)]
    )
    checkpoint = str(work_dir / 'iter_8.pth')
    test.main(
        [
            str(SAMPLE_CONFIG),
            checkpoint,
            '--work-dir',
            str(folder / 'tested'),
            *as_arguments(
                {**options, 'test_evaluator.predictions_file': folder / 'tested/predictions.json'}
            ),
        ]
    )
    (config,) = work_dir.glob('*.py')
    image_demo.main(
        [str(scene / 'val2017'), str(config), checkpoint, '--out-dir', str(folder / 'drawn')]
    )
    metrics = json.loads((folder / 'tested/metrics.json').read_text())
    (scalars,) = work_dir.glob('*/vis_data/scalars.json')
    losses = [
        {
            name: value
            for name, value in json.loads(line).items()
            if name.startswith('loss') or name == 'grad_norm'
        }
        for line in scalars.read_text().splitlines()[:8]
    ]
    return dict(
        losses=losses,
        metrics={name: value for name, value in metrics.items() if name != 'run'},
        fields={
            str(file.relative_to(folder)): sorted(set(_list_fields(json.loads(file.read_text()))))
            for file in (
                folder / 'tested/metrics.json',
                folder / 'tested/predictions.json',
                folder / 'drawn/predictions.json',
            )
        },
    )


def _list_fields(tree: object, prefix: str = '') -> Iterator[str]:
    if isinstance(tree, dict):
        for name, value in tree.items():
            yield f'{prefix}{name}'
            yield from _list_fields(value, f'{prefix}{name}.')
    elif isinstance(tree, list):
        for value in tree:
            yield from _list_fields(value, f'{prefix}*.')


def pin_onnx(folder: Path) -> dict:
    """Inputs, outputs and metadata of an exported file, run by onnxruntime."""
    import onnxruntime

    cfg = shrink(Config.fromfile(SAMPLE_CONFIG), draw_scene(folder))
    init_default_scope('mmdet')
    _set_seeds(1)
    model = MODELS.build(cfg.model)
    model.init_weights()
    torch.save(model.state_dict(), folder / 'weights.pth')
    export(cfg, folder / 'weights.pth', folder / 'out.onnx')
    session = onnxruntime.InferenceSession(str(folder / 'out.onnx'))
    image = np.random.default_rng(0).uniform(0, 255, (1, 3, 64, 96))
    outputs = session.run(
        None, {node.name: image.astype(np.float32) for node in session.get_inputs()}
    )
    metadata = session.get_modelmeta().custom_metadata_map
    return dict(
        metadata={name: sorted(_list_fields(_parse(text))) for name, text in metadata.items()},
        inputs=[node.name for node in session.get_inputs()],
        outputs={
            node.name: dict(
                shape=list(output.shape), values=output.astype(float).reshape(-1)[:200].tolist()
            )
            for node, output in zip(session.get_outputs(), outputs)
        },
    )


def _parse(text: str) -> object:
    try:
        return json.loads(text)
    except ValueError:
        return None


PINS: dict[str, Callable[[Path], dict]] = dict(
    settings=pin_settings,
    state_dicts=pin_state_dicts,
    networks=pin_networks,
    training=pin_training,
    onnx=pin_onnx,
)
