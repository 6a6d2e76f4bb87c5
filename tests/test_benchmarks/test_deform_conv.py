"""The two forms of the deformable convolution that are timed, against mmcv's operator."""

import numpy as np
import pytest
import torch
from mmcv.ops import deform_conv2d

onnxruntime = pytest.importorskip('onnxruntime', minversion='1.25')

from benchmarks.onnx.deform_conv import FORMS, make_layer  # noqa: E402

SHAPE = (2, 3, 5, 6)


def test_forms_are_the_same_convolution():
    generator = np.random.default_rng(0)
    feed = dict(
        x=generator.standard_normal(SHAPE, np.float32),
        # Some of the positions are outside of the map.
        offset=3 * generator.standard_normal((2, 18, 5, 6), np.float32),
    )
    outputs = {}
    for form in FORMS:
        layer = make_layer(form, SHAPE, feed)
        inputs = {node.name: feed[node.name] for node in layer.get_inputs()}
        (outputs[form],) = layer.run(None, inputs)
    weight = np.random.default_rng(1).standard_normal((3, 3, 3, 3), np.float32) / np.sqrt(27)
    tensors = [torch.from_numpy(each).float() for each in (feed['x'], feed['offset'], weight)]
    expected = deform_conv2d(*tensors, 1, 1, 1, 1, 1).numpy()
    for form in ('DeformConv', 'GridSample and Conv'):
        np.testing.assert_allclose(outputs[form], expected, atol=1e-4)
    regular = torch.conv2d(tensors[0], tensors[2], padding=1).numpy()
    np.testing.assert_allclose(outputs['Conv'], regular, atol=1e-4)
