"""A tiny network with random weights that detects some people.

Fixtures import PyTorch when they run: xdist reads this file, too, in the process that only
distributes the tests.
"""

from types import SimpleNamespace

import numpy as np
import pytest

from tests.conftest import SAMPLE_CONFIG, tiny_options

FIVE_KEYPOINTS = """
dataset_info = dict(
    dataset_name='five',
    paper_info=dict(),
    keypoint_info={
        i: dict(name=f'keypoint_{i}', id=i, color=[50 * i, 0, 255],
                type='', swap='')
        for i in range(5)
    },
    skeleton_info={0: dict(link=('keypoint_0', 'keypoint_4'), id=0,
                           color=[0, 255, 0])},
    joint_weights=[1.] * 5,
    sigmas=[0.05] * 5)
"""


@pytest.fixture(scope='module', autouse=True)
def one_thread():
    """For so small a network two threads mostly wait for each other."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope='session')
def make_network(scene, tmp_path_factory):
    """Write config and weights of a network with changed settings."""
    import torch
    from mmdet.registry import MODELS
    from mmengine.config import Config

    def make(meta=None, **options):
        folder = tmp_path_factory.mktemp('network')
        cfg = Config.fromfile(SAMPLE_CONFIG)
        cfg.merge_from_dict(tiny_options(scene))
        cfg.merge_from_dict(
            {'model.test_cfg.rpn.max_per_img': 30, 'model.test_cfg.rcnn.max_per_img': 4, **options}
        )
        torch.manual_seed(0)
        model = MODELS.build(cfg.model)
        # Random scores are nearly equal; rounding must not change the order.
        model.roi_head.bbox_head.fc_cls.weight.data *= 30
        config, checkpoint = folder / 'tiny.py', folder / 'tiny.pth'
        cfg.dump(config)
        torch.save(dict(state_dict=model.state_dict(), meta=dict(dataset_meta=meta)), checkpoint)
        return SimpleNamespace(config=config, checkpoint=checkpoint)

    return make


@pytest.fixture(scope='session')
def network(make_network):
    return make_network()


@pytest.fixture(scope='session')
def make_inferencer(make_network):
    from multitask_refine.apis import MultitaskInferencer

    def make(meta=None, **options):
        network = make_network(meta, **options)
        return MultitaskInferencer(network.config, network.checkpoint, device='cpu')

    return make


@pytest.fixture(scope='session')
def inferencer(network):
    from multitask_refine.apis import MultitaskInferencer

    return MultitaskInferencer(network.config, network.checkpoint, device='cpu')


@pytest.fixture(scope='session')
def photos(scene):
    """Three image files of one size, 64 x 48 pixels."""
    return [str(scene / f'val2017/{i:012d}.png') for i in (1, 2, 3)]


@pytest.fixture
def noise():
    """Images of given sizes with something to see everywhere."""
    random = np.random.default_rng(0)
    return lambda height, width: random.integers(0, 256, (height, width, 3), dtype=np.uint8)
