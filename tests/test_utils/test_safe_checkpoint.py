import os
import pickle

import numpy as np
import pytest
import torch
from mmengine.logging import HistoryBuffer
from mmengine.runner import CheckpointLoader, load_checkpoint

from multitask_refine.engine import DamagedCheckpointError, UnsafeCheckpointError


class Payload:
    """Runs a command when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.system, (f'touch {self.path}',)


def _load(path):
    return CheckpointLoader.load_checkpoint(str(path), map_location='cpu')


@pytest.mark.parametrize('zipped', [True, False])
def test_code_in_a_checkpoint_is_refused_and_not_executed(tmp_path, zipped):
    path, mark = tmp_path / 'bad.pth', tmp_path / 'mark'
    content = dict(state_dict={}, extra=Payload(mark))
    if zipped:
        torch.save(content, path)
    else:
        path.write_bytes(pickle.dumps(content, protocol=2))
    with pytest.raises((UnsafeCheckpointError, DamagedCheckpointError), match='bad.pth') as error:
        _load(path)
    assert not mark.exists()
    if zipped:
        assert 'posix.system' in str(error.value)


def test_getattr_is_limited_to_log_buffers(tmp_path):

    class Attribute:
        def __reduce__(self):
            return getattr, (HistoryBuffer, 'register_statistics')

    torch.save(dict(x=Attribute()), tmp_path / 'bad.pth')
    with pytest.raises(UnsafeCheckpointError):
        _load(tmp_path / 'bad.pth')


def test_training_state_of_mmengine_loads(tmp_path):
    buffer = HistoryBuffer()
    buffer.update(2.5)
    torch.save(
        dict(
            message_hub=dict(log_scalars=dict(loss=buffer)),
            meta=dict(seed=np.int64(3), array=np.arange(3.0)),
            state_dict=dict(weight=torch.ones(2)),
        ),
        tmp_path / 'good.pth',
    )
    loaded = _load(tmp_path / 'good.pth')
    assert loaded['message_hub']['log_scalars']['loss'].mean() == 2.5
    assert loaded['meta']['seed'] == 3
    model = torch.nn.Linear(2, 1, bias=False)
    torch.save(dict(weight=torch.full((1, 2), 7.0)), tmp_path / 'w.pth')
    load_checkpoint(model, str(tmp_path / 'w.pth'))
    assert model.weight.tolist() == [[7, 7]]


@pytest.mark.parametrize('keep', [0, 10, 0.5])
def test_damaged_file_is_named(tmp_path, keep):
    path = tmp_path / 'cut.pth'
    torch.save(dict(weight=torch.ones(1000)), path)
    data = path.read_bytes()
    path.write_bytes(data[: keep if keep >= 1 else int(keep * len(data))])
    with pytest.raises(DamagedCheckpointError, match='cut.pth.*again'):
        _load(path)


def test_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match='nothing.pth'):
        _load(tmp_path / 'nothing.pth')
