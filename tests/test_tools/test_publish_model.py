"""Published checkpoints: small, whole, and the same network."""

import hashlib
import re

import numpy as np
import pytest
import torch
from mmdet.registry import MODELS
from mmengine.config import Config

from multitask_cli import test
from multitask_refine.engine import DamagedCheckpointError, describe_training, load_checkpoint_file
from tests.conftest import SAMPLE_CONFIG, as_arguments, tiny_options
from tests.trainings import runner
from tools.model_converters import publish_model

pytestmark = pytest.mark.slow

CFG = """work_dir = '/home/me/work_dirs/base'
data_root = "/home/me/data/"
ann_file = 'annotations/a.json'
"""


def _publish(source, target, *options):
    assert publish_model.main([str(source), str(target), *options]) == 0
    (file,) = target.parent.glob(f'{target.stem}-*.pth')
    return file


def test_weights_are_rounded_and_the_training_state_is_left_out(tmp_path, capsys):
    variances = torch.tensor([1 / 3, 1e6])
    torch.save(
        dict(
            meta=dict(
                cfg=CFG,
                seed=3,
                iter=7,
                epoch=0,
                hook_msgs='x',
                experiment_name='small_20260102_030405',
                mmengine_version='0.10.7+' + '0123456789' * 4,
                dataset_meta=dict(classes=('person',), sigmas=np.array([0.25])),
            ),
            state_dict={
                'conv.weight': torch.full((2, 1), 1 / 3),
                'bn.running_var': variances,
                'bn.num_batches_tracked': torch.tensor(70000),
            },
            optimizer=dict(state=torch.ones(10)),
            message_hub={},
        ),
        tmp_path / 'iter_7.pth',
    )
    file = _publish(tmp_path / 'iter_7.pth', tmp_path / 'out/small.pth')
    sha256 = hashlib.sha256(file.read_bytes()).hexdigest()
    assert file.name == f'small-{sha256[:8]}.pth'
    said = capsys.readouterr().out
    assert str(file) in said and sha256 in said
    content = load_checkpoint_file(str(file))
    assert content.keys() == {'meta', 'state_dict'}
    # 1/3 in float16: 1365 / 4096. The variance is beyond its 65504.
    assert content['state_dict']['conv.weight'].tolist() == [[1365 / 4096]] * 2
    assert torch.equal(content['state_dict']['bn.running_var'], variances)
    assert content['state_dict']['bn.num_batches_tracked'] == 70000
    assert describe_training(str(file)) == dict(
        trained_with='small', seed=3, iteration=7, training_commit='012345678901'
    )
    meta = content['meta']
    assert meta['cfg'] == (
        "work_dir = 'base'\ndata_root = \"data/\"\nann_file = 'annotations/a.json'\n"
    )
    assert meta['dataset_meta']['sigmas'].tolist() == [0.25]
    assert 'hook_msgs' not in meta


def test_the_same_input_gives_the_same_file_which_is_not_replaced(tmp_path):
    torch.save(dict(meta={}, state_dict=dict(a=torch.rand(3))), tmp_path / 'in.pth')
    one = _publish(tmp_path / 'in.pth', tmp_path / 'a/small')
    other = _publish(tmp_path / 'in.pth', tmp_path / 'b/x')
    assert one.read_bytes() == other.read_bytes()
    before = one.stat().st_mtime_ns
    with pytest.raises(SystemExit, match='expected a new file'):
        publish_model.main([str(tmp_path / 'in.pth'), str(tmp_path / 'a/small')])
    assert one.stat().st_mtime_ns == before


@pytest.mark.parametrize(
    'content',
    [[1], dict(a=torch.ones(1)), dict(meta={}, state_dict=dict(a=1))],
    ids=['list', 'weights', 'number'],
)
def test_other_files_than_training_checkpoints_are_refused(content, tmp_path):
    torch.save(content, tmp_path / 'in.pth')
    with pytest.raises(SystemExit, match='in.pth: expected meta and a state'):
        publish_model.main([str(tmp_path / 'in.pth'), str(tmp_path / 'out')])
    assert not list(tmp_path.glob('out*'))


def test_averaged_weights_are_published(tmp_path):
    """MMEngine's EMAHook: the first average is a copy, the second lies at
    ``momentum`` between it and the new weight."""
    average = dict(type='EMAHook', ema_type='ExponentialMovingAverage', momentum=0.25)
    runner(
        tmp_path,
        custom_hooks=[average],
        val_dataloader=None,
        val_cfg=None,
        val_evaluator=None,
        train_cfg=dict(type='ReproducibleTrainLoop', max_iters=2),
    ).train()
    first, second = (
        load_checkpoint_file(str(tmp_path / f'iter_{i}.pth'))['ema_state_dict']['module.weight']
        for i in (1, 2)
    )
    assert first != second  # those of the training itself
    file = _publish(tmp_path / 'iter_2.pth', tmp_path / 'ema', '--dtype', 'float32')
    published = load_checkpoint_file(str(file))['state_dict']['weight']
    assert published.dtype == torch.float32
    assert published.item() == pytest.approx((first + 0.25 * (second - first)).item(), rel=1e-6)


def test_a_published_file_is_tested_until_a_byte_changes(scene, tmp_path):
    cfg = Config.fromfile(SAMPLE_CONFIG)
    cfg.merge_from_dict(tiny_options(scene))
    network = MODELS.build(cfg.model)
    torch.save(dict(meta={}, state_dict=network.state_dict()), tmp_path / 'in.pth')
    file = _publish(tmp_path / 'in.pth', tmp_path / 'checkpoints/small')
    arguments = [
        str(SAMPLE_CONFIG),
        str(file),
        '--work-dir',
        str(tmp_path),
        *as_arguments(tiny_options(scene)),
    ]
    assert test.main(arguments) == 0
    assert (tmp_path / 'metrics.json').is_file()
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)
    found = hashlib.sha256(data).hexdigest()[:8]
    with pytest.raises(
        SystemExit,
        match=(
            rf'small-.*\.pth: damaged: expected .* {file.stem[-8:]},.* '
            rf'{found} .*git checkout -- {re.escape(str(file))}'
        ),
    ):
        test.main(arguments)


@pytest.mark.parametrize(
    'name, is_checked',
    [
        ('run-0123abcd.pth', True),
        ('run-20261126.pth', False),
        ('run-0123ABCD.pth', False),
        ('run-0123abcde.pth', False),
        ('0123abcd.pth', False),
        ('run-0123abcd.pt', False),
    ],
)
def test_only_checksums_are_taken_for_checksums(name, is_checked, tmp_path):
    torch.save(dict(a=torch.ones(1)), tmp_path / name)
    if is_checked:
        with pytest.raises(DamagedCheckpointError, match='rename it'):
            load_checkpoint_file(str(tmp_path / name))
    else:
        assert load_checkpoint_file(str(tmp_path / name))['a'] == 1
