"""The framework of a checkpoint, by the names of its weights."""

import pickle

import pytest
import torch

from multitask_refine.converters import CONVERTERS, ConversionError, detect_framework

NAMES = {
    'detectron2': 'backbone.bottom_up.stem.conv1.weight',
    'torchvision': 'backbone.body.conv1.weight',
    'mmdet': 'backbone.conv1.weight',
}


@pytest.mark.parametrize('framework', CONVERTERS)
@pytest.mark.parametrize('prefix', ['', 'module.'])
def test_names_tell_the_framework(framework, prefix, tmp_path):
    path = tmp_path / 'net.pth'
    torch.save(dict(state_dict={prefix + NAMES[framework]: torch.zeros(1)}), path)
    assert detect_framework(str(path)) == framework


def test_pickles_and_files_without_weights(tmp_path):
    path = tmp_path / 'net.pkl'
    path.write_bytes(pickle.dumps(dict(model={NAMES['detectron2']: torch.zeros(1).numpy()})))
    assert detect_framework(str(path)) == 'detectron2'
    with pytest.raises(ConversionError, match='expected a file that ends in .pkl, .pth, .pt'):
        detect_framework(str(tmp_path / 'net.txt'))
    with pytest.raises(ConversionError, match='nothing.pth'):
        detect_framework(str(tmp_path / 'nothing.pth'))
