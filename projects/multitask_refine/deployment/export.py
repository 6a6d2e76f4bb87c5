"""Export a trained model as one ONNX file of standard operators."""

import copy
import io
import warnings
from pathlib import Path

import torch
from mmdet.registry import MODELS
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmengine.runner.checkpoint import _load_checkpoint_to_model
from torch import nn

from multitask_refine.engine import load_checkpoint_file
from multitask_refine.engine.inference_settings import find_dataset_meta
from multitask_runtime.utils.files import atomic_write

from .checks import ExportError, check_model, check_opset
from .export_model import OnnxExportModel
from .metadata import build_metadata
from .parity import Difference, check_parity


def export(
    cfg: Config, checkpoint: str | Path, out: str | Path, opset: int = 19
) -> dict[str, Difference]:
    """Export a model as an ONNX file.

    The file maps the resized image to boxes, masks and keypoints. It appears only after
    onnxruntime has run the graph and given what PyTorch gives.

    Args:
        cfg (Config): The config that the model was trained with.
        checkpoint (str | Path): The weights, all of them.
        out (str | Path): The file to write, ``.onnx``.
        opset (int): Opset version, 19 or 20. Defaults to 19.

    Returns:
        dict[str, Difference]: Difference of each output from PyTorch's on a drawn image.

    Raises:
        ExportError: If a package is missing, the weights are of another model, or a part of
            the model cannot be exported.
        FileNotFoundError: If the checkpoint does not exist.
    """
    out = Path(out)
    if out.suffix != '.onnx':
        raise ExportError(f'{out}: expected a file that ends in .onnx')
    check_opset(opset)
    try:
        import onnx
        import onnxruntime  # noqa: F401
    except ImportError as error:
        raise ExportError(
            'The packages onnx and onnxruntime are needed to export, and cannot be imported '
            f'({error}). Install them: pip install onnx onnxruntime'
        ) from None
    model = load_model(cfg, checkpoint)
    check_model(model)
    metadata = build_metadata(cfg, checkpoint, model, opset)
    graph = onnx.load_from_string(to_onnx(model, opset))
    onnx.helper.set_model_props(graph, metadata)
    operators = {
        f'{node.domain}::{node.op_type}'
        for node in graph.graph.node
        if node.domain not in ('', 'ai.onnx')
    }
    if operators:
        raise ExportError(
            'This model cannot be exported: ONNX has no operator for '
            f'{", ".join(sorted(operators))}. Supported are RefinedConv2d of the deformable '
            'convolutions, and RoIAlign and DeformRoIPool of the RoI poolings.'
        )
    onnx.checker.check_model(graph, full_check=True)
    # A new model, because to_onnx modifies it.
    differences = check_parity(graph, load_model(cfg, checkpoint))
    with atomic_write(out) as part:
        part.write_bytes(graph.SerializeToString())
    return differences


def load_model(cfg: Config, checkpoint: str | Path) -> nn.Module:
    """Build the model of a config and load its weights.

    Args:
        cfg (Config): The config.
        checkpoint (str | Path): The weights, all of them.

    Returns:
        nn.Module: On the CPU, in eval mode, with ``dataset_meta``.

    Raises:
        ExportError: If the weights are of another model.
        ConfigError: If config, checkpoint and model contradict each other.
    """
    init_default_scope(cfg.get('default_scope', 'mmdet'))
    model = MODELS.build(copy.deepcopy(cfg.model)).eval()
    content = load_checkpoint_file(str(checkpoint), 'cpu')
    try:
        _load_checkpoint_to_model(model, content, strict=True)
    except RuntimeError as error:
        raise ExportError(
            f"{error}\n{checkpoint}: these are not the weights of this config's model "
            f'({Path(cfg.filename or "config").name}). Export it with the config that it was '
            'trained with.'
        ) from None
    model.dataset_meta = find_dataset_meta(cfg, content, model)
    return model


@torch.no_grad()
def to_onnx(model: nn.Module, opset: int) -> bytes:
    """Trace a model to an ONNX graph.

    Args:
        model (nn.Module): The model; it cannot be used afterwards.
        opset (int): Opset version.

    Returns:
        bytes: Serialized ``onnx.ModelProto``.

    Raises:
        ExportError: If ONNX has no operator for a part of the model.
    """
    export_model, content = OnnxExportModel(model), io.BytesIO()
    names = export_model.output_names
    axes = dict(image={2: 'height', 3: 'width'}, **{name: {0: 'instances'} for name in names})
    with warnings.catch_warnings():
        # Shapes become constants, as those of a RoI's feature are.
        warnings.simplefilter('ignore')
        try:
            torch.onnx.export(
                export_model,
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
                'This model cannot be exported: ONNX has no operator for a part of it '
                f'({str(error).splitlines()[0]})'
            ) from None
    return content.getvalue()
