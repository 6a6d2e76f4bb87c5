"""Small ONNX files made by hand, and the backends that run them."""

import json

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from multitask_runtime.onnx.session import is_supported, openvino_version

NEEDS_OPENVINO = pytest.mark.skipif(
    not is_supported(openvino_version() or '0'), reason='OpenVINO is not installed'
)
EVERY_BACKEND = pytest.mark.parametrize(
    'backend', ['onnxruntime', pytest.param('openvino', marks=NEEDS_OPENVINO)]
)

# In pixels of the resized image, which is twice as large as the original.
BOXES = [[20, 10, 60, 80], [64, 20, 104, 60]]


KEYPOINTS = [[[40, 20], [44, 60]], [[80, 30], [84, 50]]]


MASK = [[1, 1, 0, 0]] * 4  # the left half of the box


DESCRIPTION = dict(
    classes=['person'],
    keypoint_names=['head', 'foot'],
    skeleton=[[0, 1]],
    keypoint_colors=[[0, 255, 0], [255, 0, 0]],
    skeleton_colors=[[0, 0, 255]],
    flip_indices=[0, 1],
    sigmas=[0.05, 0.08],
    resize=dict(type='Resize', scale=[128, 96], keep_ratio=True),
    image_backend='cv2',
    keypoint_shift=0.5,
    mask_threshold=0.5,
    config='drawn_config.py',
    checkpoint='drawn.pth',
    checkpoint_sha256='0' * 64,
)


def save_graph(path, nodes, outputs, metadata, opset=17):
    image = helper.make_tensor_value_info('image', TensorProto.FLOAT, [1, 3, 'H', 'W'])
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs]
    graph = helper.make_graph(nodes, 'drawn', [image], values)
    model = helper.make_model(
        graph,
        ir_version=8,
        opset_imports=[helper.make_opsetid('', opset), helper.make_opsetid('other', 1)],
    )
    helper.set_model_props(model, metadata)
    onnx.save(model, path)
    return str(path)


def make_constant(name, values):
    value = numpy_helper.from_array(np.array(values, np.float32))
    return helper.make_node('Constant', [], [name], value=value)


# Of the branches, which few models have.
BRANCHES = dict(
    keypoints_visible_probs=[
        [[0.1, 0.1, 0.8], [0.2, 0.6, 0.2]],
        [[0.7, 0.2, 0.1], [0.1, 0.2, 0.7]],
    ],
    mask_scores=[0.75, 0.5],
    pose_scores=[0.25, 0.125],
)


def make_file(path, metadata=None, leave_out=(), branches=(), **changes):
    """A graph that always finds the same two people; their scores are how
    blue and how green the image is, so they tell the channels' order."""
    nodes = [
        make_constant('boxes', BOXES),
        make_constant('masks', [MASK] * 2),
        make_constant('keypoints', KEYPOINTS),
        make_constant('keypoint_scores', [[0.9, 0.8], [0.7, 0.1]]),
        *(make_constant(name, BRANCHES[name]) for name in branches),
        make_constant('white', [255, 255, 255]),
        helper.make_node('ReduceMean', ['image'], ['means'], axes=[0, 2, 3], keepdims=0),
        helper.make_node('Div', ['means', 'white'], ['shares']),
        helper.make_node(
            'Constant', [], ['two'], value=numpy_helper.from_array(np.array([0, 1], np.int64))
        ),
        helper.make_node('Gather', ['shares', 'two'], ['scores']),
    ]
    outputs = [
        name
        for name in ('boxes', 'scores', 'masks', 'keypoints', 'keypoint_scores', *branches)
        if name not in leave_out
    ]
    usual = dict(
        format='multitask_refine',
        format_version='2',
        description=json.dumps(dict(DESCRIPTION, **changes)),
    )
    return save_graph(path, nodes, outputs, usual if metadata is None else metadata)
