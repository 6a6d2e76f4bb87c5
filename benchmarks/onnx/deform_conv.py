#!/usr/bin/env python
r"""Time deformable convolutions in onnxruntime: DeformConv, and GridSample before a convolution.

    python -m benchmarks.onnx.deform_conv --json docs/results/onnx/deform-conv.json

The layers are those of ResNet-50 with an image of 480 x 640 pixels, and of the keypoint head with
three people. Each is also timed as the regular convolution with the same weights. Times are CPU
times of one thread, so that other processes of the machine hardly matter.

Shape letters: B images or RoIs, C channels, H x W map, N kernel points.
"""

import argparse
import sys
import time
from statistics import median

import numpy as np
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

from multitask_refine.engine import explained_errors, write_record

# (B, C, H, W) of the input and output of 3x3 convolutions
LAYERS = {
    'conv3': (1, 128, 60, 80),
    'conv4': (1, 256, 30, 40),
    'conv5': (1, 512, 15, 20),
    'keypoint head': (3, 512, 14, 14),
}
KERNEL = 3
FORMS = ('Conv', 'DeformConv', 'GridSample and Conv')
Feed = dict[str, np.ndarray]


def make_session(
    nodes: list, constants: dict[str, np.ndarray], feed: Feed
) -> onnxruntime.InferenceSession:
    """Open a graph of one thread whose inputs are those of ``feed`` and whose output is 'y'."""
    inputs = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, values.shape)
        for name, values in feed.items()
    ]
    graph = helper.make_graph(
        nodes,
        'layer',
        inputs,
        [helper.make_tensor_value_info('y', TensorProto.FLOAT, None)],
        [numpy_helper.from_array(values, name) for name, values in constants.items()],
    )
    # GridSample is called 'linear' since opset 20.
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid('', 20)], ir_version=10)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=['CPUExecutionProvider']
    )


def sample_then_convolve(shape: tuple[int, ...], weight: np.ndarray) -> tuple[list, dict]:
    """Write a deformable convolution of ``x`` by ``offset`` as GridSample and Conv.

    Args:
        shape: (B, C, H, W) of ``x``; ``offset`` is (B, 2N, H, W), y before x.
        weight: Shape (C, C, kernel, kernel).

    Returns:
        Nodes and constants.
    """
    batch, channels, height, width = shape
    num_points = KERNEL**2
    steps = np.arange(KERNEL) - KERNEL // 2
    points = np.stack(np.meshgrid(steps, steps, indexing='ij')).reshape(2, -1).T  # (N, 2): y, x
    cells = np.stack(np.meshgrid(np.arange(height), np.arange(width), indexing='ij'))
    scale = np.array([2 / (height - 1), 2 / (width - 1)])  # from cells to GridSample's -1 to 1
    constants = dict(
        position=(points[:, :, None, None] + cells)[None].astype(np.float32),  # (1, N, 2, H, W)
        scale=scale.reshape(2, 1, 1).astype(np.float32),
        one=np.float32(1),
        x_first=np.array([1, 0]),
        offset_shape=np.array([batch, num_points, 2, height, width]),
        grid_shape=np.array([batch, num_points * height, width, 2]),
        samples_shape=np.array([batch, channels, num_points, height * width]),
        output_shape=np.array(shape),
        weight=weight.reshape(channels, channels, num_points, 1),
        bias=np.zeros(channels, np.float32),
    )
    steps_of_graph = [
        ('Reshape', ['offset', 'offset_shape'], 'moves', {}),
        ('Add', ['moves', 'position'], 'samples_at', {}),
        ('Mul', ['samples_at', 'scale'], 'scaled', {}),
        ('Sub', ['scaled', 'one'], 'normalized', {}),
        ('Gather', ['normalized', 'x_first'], 'xy', dict(axis=2)),
        ('Transpose', ['xy'], 'xy_last', dict(perm=[0, 1, 3, 4, 2])),
        ('Reshape', ['xy_last', 'grid_shape'], 'grid', {}),
        (
            'GridSample',
            ['x', 'grid'],
            'samples',  # (B, C, N H, W)
            dict(mode='linear', padding_mode='zeros', align_corners=1),
        ),
        ('Reshape', ['samples', 'samples_shape'], 'columns', {}),
        ('Conv', ['columns', 'weight', 'bias'], 'rows', dict(kernel_shape=[num_points, 1])),
        ('Reshape', ['rows', 'output_shape'], 'y', {}),
    ]
    nodes = [
        helper.make_node(kind, inputs, [output], **attributes)
        for kind, inputs, output, attributes in steps_of_graph
    ]
    return nodes, constants


def make_layer(form: str, shape: tuple[int, ...], feed: Feed) -> onnxruntime.InferenceSession:
    """Make a layer with random weights, the same in every form."""
    batch, channels, height, width = shape
    generator = np.random.default_rng(1)
    weight = generator.standard_normal((channels, channels, KERNEL, KERNEL), np.float32)
    weight /= np.float32(KERNEL * np.sqrt(channels))
    if form == 'GridSample and Conv':
        return make_session(*sample_then_convolve(shape, weight), feed)
    constants = dict(weight=weight, bias=np.zeros(channels, np.float32))
    settings = dict(kernel_shape=[KERNEL] * 2, pads=[KERNEL // 2] * 4)
    if form == 'Conv':
        node = helper.make_node('Conv', ['x', 'weight', 'bias'], ['y'], **settings)
        return make_session([node], constants, dict(x=feed['x']))
    constants['mask'] = np.ones((batch, KERNEL**2, height, width), np.float32)
    inputs = ['x', 'weight', 'offset', 'bias', 'mask']
    node = helper.make_node('DeformConv', inputs, ['y'], **settings)
    return make_session([node], constants, feed)


def measure(shape: tuple[int, ...], runs: int) -> dict[str, float]:
    """Time a layer in each form, in turns.

    Returns:
        Median CPU time in milliseconds by form.

    Raises:
        ValueError: If the two forms of the deformable convolution differ.
    """
    batch, _, height, width = shape
    generator = np.random.default_rng(0)
    feed = dict(
        x=generator.standard_normal(shape, np.float32),
        offset=generator.standard_normal((batch, 2 * KERNEL**2, height, width), np.float32),
    )
    layers = {form: make_layer(form, shape, feed) for form in FORMS}
    feeds = {form: dict(x=feed['x']) if form == 'Conv' else feed for form in FORMS}
    first, second = (layers[form].run(None, feed)[0] for form in FORMS[1:])
    if not np.allclose(first, second, atol=1e-3):
        raise ValueError(
            f'{FORMS[1:]}: expected the same values, found {abs(first - second).max()}'
        )
    times: dict[str, list[float]] = {form: [] for form in FORMS}
    for _ in range(runs):
        for form, layer in layers.items():
            start = time.process_time()
            layer.run(None, feeds[form])
            times[form].append(time.process_time() - start)
    return {form: round(1000 * median(values), 1) for form, values in times.items()}


@explained_errors()
def main(argv: list[str] | None = None) -> int:
    """Time all layers."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--runs', type=int, default=15, help='per layer (default: %(default)s)')
    parser.add_argument('--json', required=True, help='results file')
    args = parser.parse_args(argv)
    layers = {
        name: dict(shape=shape, milliseconds=measure(shape, args.runs))
        for name, shape in LAYERS.items()
    }
    write_record(
        args.json, dict(layers=layers, runs=args.runs, onnxruntime=onnxruntime.__version__)
    )
    print(f'Results file: {args.json}')
    return 0


if __name__ == '__main__':
    sys.exit(main())
