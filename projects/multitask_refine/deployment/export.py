"""A trained network as one ONNX file of standard operators."""

import copy
import io
import warnings
from pathlib import Path
from typing import Dict, Union

import torch
from mmdet.registry import MODELS
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmengine.runner.checkpoint import _load_checkpoint_to_model
from torch import nn

from multitask_refine.apis.settings import find_dataset_meta
from multitask_refine.engine import load_checkpoint_file
from multitask_runtime.utils.files import atomic_write

from .checks import ExportError, check_network, check_opset
from .export_model import OnnxNetwork
from .metadata import build_metadata
from .parity import Difference, check_parity

_INSTALL = 'pip install onnx onnxruntime'


def export(
    cfg: Config, checkpoint: Union[str, Path], out: Union[str, Path], opset: int = 19
) -> Dict[str, Difference]:
    """Write a network as an ONNX file.

    The file holds everything from the resized image to boxes, masks and
    joints. It gets its name only after the graph ran in onnxruntime and gave
    what PyTorch gives.

    Args:
        cfg (Config): The config that the network was trained with.
        checkpoint (str | Path): Its weights, all of them.
        out (str | Path): The file to write, ``.onnx``.
        opset (int): Version of ONNX's operators, 19 or 20. Defaults to 19.

    Returns:
        dict[str, Difference]: How far each output is from PyTorch's, on a
        drawn picture.

    Raises:
        ExportError: If a package is missing, the weights are of another
            network, or a part of the network cannot be exported.
        FileNotFoundError: If there is no such checkpoint.
    """
    out = Path(out)
    if out.suffix != '.onnx':
        raise ExportError(f'{out}: expected a file that ends in .onnx')
    check_opset(opset)
    onnx = _import_onnx()
    model = load_model(cfg, checkpoint)
    check_network(model)
    metadata = build_metadata(cfg, checkpoint, model, opset)
    graph = onnx.load_from_string(to_onnx(model, opset))
    onnx.helper.set_model_props(graph, metadata)
    _check_graph(onnx, graph)
    # Recording took the network apart.
    differences = check_parity(graph, load_model(cfg, checkpoint))
    with atomic_write(out) as draft:
        draft.write_bytes(graph.SerializeToString())
    return differences


def load_model(cfg: Config, checkpoint: Union[str, Path]) -> nn.Module:
    """Build a config's network with a checkpoint's weights.

    Returns:
        nn.Module: On the CPU, in eval mode, with ``dataset_meta``.

    Raises:
        ExportError: If the weights are of another network.
        ConfigError: If config, checkpoint and network contradict each other.
    """
    init_default_scope(cfg.get('default_scope', 'mmdet'))
    model = MODELS.build(copy.deepcopy(cfg.model)).eval()
    content = load_checkpoint_file(str(checkpoint), 'cpu')
    try:
        _load_checkpoint_to_model(model, content, strict=True)
    except RuntimeError as error:
        raise ExportError(
            f'{error}\n{checkpoint}: these are not the weights of this '
            f"config's network ({Path(cfg.filename or 'config').name}). "
            'Export it with the config that it was trained with.'
        ) from None
    model.dataset_meta = find_dataset_meta(cfg, content, model)
    return model


@torch.no_grad()
def to_onnx(model: nn.Module, opset: int) -> bytes:
    """Record what a network computes, as ONNX.

    Args:
        model (nn.Module): The network; it cannot be used afterwards.
        opset (int): Version of ONNX's operators.

    Raises:
        ExportError: If a part has no operator in ONNX.
    """
    network, content = OnnxNetwork(model), io.BytesIO()
    names = network.output_names
    axes = dict(image={2: 'height', 3: 'width'}, **{name: {0: 'people'} for name in names})
    with warnings.catch_warnings():
        # Of shapes that become constants: those of a RoI's features are.
        warnings.simplefilter('ignore')
        try:
            torch.onnx.export(
                network,
                (torch.rand(1, 3, 96, 128) * 255,),
                content,
                opset_version=opset,
                input_names=['image'],
                output_names=names,
                dynamic_axes=axes,
                dynamo=False,
                autograd_inlining=False,
            )
        except torch.onnx.errors.OnnxExporterError as error:
            raise ExportError(
                'This network cannot be exported: a part of it has no '
                f'operator in ONNX ({str(error).splitlines()[0]})'
            ) from None
    return content.getvalue()


def _check_graph(onnx, graph) -> None:
    """Refuse a graph that is no ONNX or needs more than its operators."""
    foreign = sorted(
        {
            f'{node.domain}::{node.op_type}'
            for node in graph.graph.node
            if node.domain not in ('', 'ai.onnx')
        }
    )
    if foreign:
        raise ExportError(
            'This network cannot be exported: ONNX has no operator for '
            f'{", ".join(foreign)}. Of deformable convolutions it holds '
            'RefinedConv2d, of RoI poolings RoIAlign and DeformRoIPool.'
        )
    onnx.checker.check_model(graph, full_check=True)


def _import_onnx():
    try:
        import onnx
        import onnxruntime  # noqa: F401
    except ImportError as error:
        raise ExportError(
            'The packages onnx and onnxruntime are needed to '
            f'export, and cannot be imported ({error}). '
            f'Install them: {_INSTALL}'
        ) from None
    return onnx
