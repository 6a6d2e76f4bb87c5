"""Fault tolerance: killed workers, full disks, signals, damaged files, losses of NaN."""

import itertools
import json
import os
import random
import re
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import mmengine.optim.optimizer.amp_optimizer_wrapper as amp
import pytest
import torch
import torch.utils.data._utils as data_utils
from mmengine.config import Config
from mmengine.dataset import InfiniteSampler
from mmengine.evaluator import Evaluator
from mmengine.hooks import Hook
from mmengine.model import BaseModel
from mmengine.registry import OPTIM_WRAPPERS
from torch.utils.data import BatchSampler, DataLoader, SequentialSampler

from multitask_refine.engine import (
    AtomicCheckpointHook,
    DamagedCheckpointError,
    FileWriteError,
    LoaderWorkerError,
    PreemptionHook,
    load_checkpoint_file,
)
from multitask_refine.engine.hooks import preemption_hook as preemption
from multitask_refine.engine.hooks.checkpoint_hook import AtomicLocalBackend
from multitask_refine.engine.hooks.resume_hook import find_latest_checkpoint
from multitask_refine.engine.runner.reproducible_loop import ReproducibleLoader
from multitask_refine.models import MultitaskRCNN
from multitask_refine.models.losses.finite import NonFiniteLossError, check_finite
from tests.conftest import CONFIGS, ROOT, SAMPLE_CONFIG, as_arguments, tiny_options
from tests.trainings import (
    SERVER,
    STEPS,
    Dice,
    Scores,
    Training,
    assert_same_end,
    free_port,
    runner,
    train_without_end,
)

WORKERS = {'train_dataloader.num_workers': 2, 'train_dataloader.persistent_workers': True}


@pytest.fixture(scope='module')
def unbroken(scene, tmp_path_factory):
    """Final state of an uninterrupted training."""
    return Training(scene, tmp_path_factory.mktemp('unbroken')).finish()


@pytest.fixture(scope='module')
def unbroken_pair(scene, tmp_path_factory):
    """Final state of an uninterrupted training on two ranks."""
    folder = tmp_path_factory.mktemp('unbroken_pair')
    return Training(scene, folder, ranks=2).finish()


# Loader workers


@pytest.mark.exhaustive
def test_training_continues_when_a_worker_is_killed(unbroken, scene, tmp_path):
    training = Training(scene, tmp_path, **WORKERS)
    training.wait_for(2)
    os.kill(training.workers()[0], signal.SIGKILL)
    assert_same_end(unbroken, training.finish(), 2)
    log = training.log.read_text()
    assert re.search(
        r'worker died before iteration \d+ \(process \d+ ended '
        'with SIGKILL.*restart 1 of at most 3',
        log,
    )


def _loader(dataset, workers=2, sampler=SequentialSampler):
    loader = DataLoader(
        dataset,
        batch_sampler=BatchSampler(sampler(dataset), 2, False),
        collate_fn=list,
        num_workers=workers,
        persistent_workers=workers > 0,
    )
    loader = ReproducibleLoader(loader)
    loader.start_at(0, 5)
    return loader


def _children():
    pid = os.getpid()
    return {int(child) for child in Path(f'/proc/{pid}/task/{pid}/children').read_text().split()}


def test_dead_worker_does_not_interrupt_a_step(monkeypatch):
    """Nor if the worker was writing more than a pipe buffers."""

    class Large(Dice):
        def __getitem__(self, index):
            return *super().__getitem__(index), b'x' * 1_000_000

    monkeypatch.setattr(data_utils, 'MP_STATUS_CHECK_INTERVAL', 0.5)
    before = _children()
    batches = iter(_loader(Large(), 2, InfiniteSampler))
    found = [next(batches)]
    for worker in _children() - before:
        os.kill(worker, signal.SIGKILL)
    for _ in range(20):  # a step, in which the signal comes
        time.sleep(0.01)
    found += itertools.islice(batches, 7)
    assert found == list(itertools.islice(_loader(Large(), 0, InfiniteSampler), 8))


class Deadly(Dice):
    """Dataset with an item that kills its reader, or raises an error."""

    def __init__(self, error=None):
        super().__init__()
        self.error = error

    def __getitem__(self, index):
        if index == 4 and self.error:
            raise self.error
        if index == 4:
            time.sleep(0.5)  # the batch before is on its way
            os.kill(os.getpid(), signal.SIGKILL)
        return super().__getitem__(index)


class SlowDeath(Dice):
    """Dataset with an item whose reader closes its files, and ends a second later."""

    def __init__(self, flag):
        super().__init__()
        self.flag = flag

    def __getitem__(self, index):
        if index == 8 and not self.flag.exists():
            self.flag.touch()
            os.closerange(3, 1000)
            time.sleep(1)
            os.kill(os.getpid(), signal.SIGKILL)
        return torch.tensor(index)


def test_death_is_noticed_after_the_worker_closed_its_files(tmp_path):
    """Its tensors cannot be received any more, and the process still exists."""
    flag = tmp_path / 'closed'
    batches = iter(_loader(SlowDeath(flag)))
    found = [next(batches)]
    while not flag.exists():
        time.sleep(0.01)
    time.sleep(0.3)
    found += itertools.islice(batches, 4)
    assert torch.tensor(found).flatten().tolist() == list(range(10))


def test_repeated_worker_deaths_end_the_training(monkeypatch):
    # Other workers may wait for the lock of the dead one until PyTorch ends them.
    monkeypatch.setattr(data_utils, 'MP_STATUS_CHECK_INTERVAL', 0.5)
    batches = iter(_loader(Deadly()))
    with pytest.raises(
        LoaderWorkerError,
        match=r'before iteration [23] '
        r'\(process \d+ ended with SIGKILL.*num_workers.*'
        'number 4.*--resume',
    ):
        for delivered in range(9):  # noqa: B007
            next(batches)
    assert delivered in (1, 2)


def test_exceptions_in_a_worker_propagate():
    with pytest.raises(KeyError, match='no such keypoint'):
        list(itertools.islice(_loader(Deadly(KeyError('no such keypoint'))), 3))


# Full disks


class FullDisk(Hook):
    """Limit files to 1000 bytes from the third iteration on."""

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        if batch_idx == 2:
            resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))


def _on_a_full_disk(work_dir):
    run = runner(work_dir, checkpoint=dict(max_keep_ckpts=1))
    run.register_hook(FullDisk())
    try:
        run.train()
    except FileWriteError as error:
        (Path(work_dir) / 'error').write_text(str(error))
        sys.exit(3)


def test_full_disk_leaves_the_former_checkpoint(tmp_path):
    """MMEngine would remove the only checkpoint before it writes the next."""
    process = SERVER.Process(target=_on_a_full_disk, args=(str(tmp_path),))
    process.start()
    process.join(300)
    assert process.exitcode == 3
    assert sorted(
        path.name for path in tmp_path.iterdir() if path.suffix in ('.pth', '.part')
    ) == ['best_coco_keypoints_AP_iter_2.pth', 'iter_2.pth']
    assert re.search(
        r'iter_3.pth: 0.0 MB could not be written \(File too large\); '
        r'\d+.\d MB is free there.*--resume',
        (tmp_path / 'error').read_text(),
    )
    newest = find_latest_checkpoint(str(tmp_path))
    assert load_checkpoint_file(newest)['meta']['iter'] == 2


def test_no_space_left(tmp_path):
    mounted = subprocess.run(
        ['mount', '-t', 'tmpfs', '-o', 'size=64k', 'tmpfs', str(tmp_path)],
        capture_output=True,
        text=True,
    )
    if mounted.returncode:
        pytest.skip(f'no small disk can be mounted: {mounted.stderr}')
    try:
        backend = AtomicLocalBackend()
        backend.put(b'old', tmp_path / 'iter_1.pth')
        with pytest.raises(
            FileWriteError,
            match='0.1 MB could .*No space '
            r'left on device\); 0.1 MB is free',
        ):
            backend.put(b'n' * 100_000, tmp_path / 'iter_1.pth')
        assert [path.name for path in tmp_path.iterdir()] == ['iter_1.pth']
        assert (tmp_path / 'iter_1.pth').read_bytes() == b'old'
    finally:
        subprocess.run(['umount', str(tmp_path)], check=True)


@pytest.mark.exhaustive
def test_best_checkpoint_of_the_same_iteration_is_not_removed(tmp_path):
    """The validation that is made up for after the resume improves on it."""
    runner(tmp_path, [0.3] * 4).train()
    hub = load_checkpoint_file(tmp_path / 'iter_8.pth')
    hub['message_hub']['runtime_info'].update(
        best_score=0.1, best_ckpt=str(tmp_path / 'best_coco_keypoints_AP_iter_8.pth')
    )
    torch.save(hub, tmp_path / 'iter_8.pth')
    runner(tmp_path, [0.5], resume=True).train()
    assert (tmp_path / 'best_coco_keypoints_AP_iter_8.pth').is_file()


# Signals


@pytest.mark.parametrize(
    'sign', ['SIGTERM', pytest.param('SIGUSR1', marks=pytest.mark.exhaustive)]
)
def test_signal_stops_a_single_process(sign, unbroken, scene, tmp_path):
    """SIGUSR1 is sent to its loader workers, too."""
    training = Training(scene, tmp_path, **WORKERS)
    training.wait_for(2)
    send = os.killpg if sign == 'SIGUSR1' else os.kill
    for _ in range(2):
        send(training.processes[0].pid, signal.Signals[sign])
    log = training.end_with(75)
    done = int(re.search(rf'Stopped by {sign} after (\d+) iterations', log)[1])
    assert 2 <= done < STEPS and f'iter_{done}.pth is written' in log
    assert 'worker died' not in log
    assert load_checkpoint_file(str(tmp_path / f'iter_{done}.pth'))['meta']['iter'] == done
    resumed = Training(scene, tmp_path, '--resume', **WORKERS).finish()
    assert_same_end(unbroken, resumed, done)


@pytest.mark.exhaustive
def test_signal_to_one_of_two_ranks_stops_both(unbroken_pair, scene, tmp_path):
    """At an even iteration, when the ranks agree."""
    options = {'default_hooks.preemption.interval': 2}
    training = Training(scene, tmp_path, ranks=2, **options)
    training.wait_for(2)
    os.kill(training.processes[1].pid, signal.SIGTERM)
    log = training.end_with(75)
    done = int(re.search(r'Stopped by SIGTERM after (\d+) iterations', log)[1])
    assert done % 2 == 0 and done < STEPS
    resumed = Training(scene, tmp_path, '--resume', ranks=2, **options)
    assert_same_end(unbroken_pair, resumed.finish(), done)


def test_signal_while_the_ranks_agree_is_kept(monkeypatch):
    """It takes effect at the next agreement."""
    hook = PreemptionHook()
    hook._group = 'a group'
    late = [signal.SIGTERM]
    monkeypatch.setattr(
        preemption.distributed,
        'all_reduce',
        lambda *args: late and hook._set_flag(late.pop(), None),
    )
    assert [hook._any_rank_signalled(), hook._any_rank_signalled()] == [False, True]


@pytest.fixture
def own_handlers():
    """Restore the signal handlers of this process."""
    former = {sign: signal.getsignal(sign) for sign in (signal.SIGTERM, signal.SIGUSR1)}
    yield former
    for sign, handler in former.items():
        signal.signal(sign, handler)


class SignallingScores(Scores):
    def process(self, data_batch, data_samples):
        super().process(data_batch, data_samples)
        os.kill(os.getpid(), signal.SIGUSR1)


def test_signal_in_a_validation(own_handlers, tmp_path):
    """The validation is made up for when the run is resumed."""
    evaluator = Evaluator(SignallingScores([0.9]))
    with pytest.raises(SystemExit) as stop:
        runner(tmp_path, val_evaluator=evaluator, checkpoint=dict(interval=5)).train()
    assert stop.value.code == 75
    assert [path.name for path in tmp_path.glob('*.pth')] == ['iter_2.pth']
    runner(tmp_path, [0.5, 0.1, 0.1, 0.1], resume=True).train()
    assert [path.name for path in tmp_path.glob('best*')] == ['best_coco_keypoints_AP_iter_2.pth']


def test_signal_handlers_are_restored_after_training(own_handlers, tmp_path):
    runner(tmp_path).train()
    for sign, handler in own_handlers.items():
        assert signal.getsignal(sign) == handler


def _scripts(folder, work_dir):
    """Commands that start two ranks, and their environment variables."""
    stand_in = ROOT / 'tests/integration/distributed/stand_in_srun.py'
    for name, line in (
        ('srun', f'exec "{sys.executable}" "{stand_in}" "$@"'),
        ('scontrol', 'echo localhost'),
    ):
        (folder / name).write_text(f'#!/bin/sh\n{line}\n')
        (folder / name).chmod(0o755)
    variables = dict(
        os.environ,
        PYTHON=sys.executable,
        OMP_NUM_THREADS='1',
        GPUS='2',
        PORT=str(free_port()),
        PATH=f'{folder}:{os.environ["PATH"]}',
        SRUN_RECORD=str(folder / 'srun.json'),
    )
    config, work_dir = str(SAMPLE_CONFIG), str(work_dir)
    torchrun = ['tools/dist_train.sh', config, '2', '--work-dir', work_dir]
    slurm = ['tools/slurm_train.sh', 'part', 'job', config, work_dir]
    return dict(torchrun=torchrun, slurm=slurm), variables


@pytest.mark.parametrize(
    'launcher, sign, send',
    [
        ('torchrun', signal.SIGTERM, os.kill),
        ('torchrun', signal.SIGUSR1, os.killpg),
        ('slurm', signal.SIGUSR1, os.kill),
    ],
)
@pytest.mark.exhaustive
def test_launch_scripts_exit_with_the_status_of_their_processes(
    launcher, sign, send, scene, tmp_path
):
    """torchrun alone would exit with 1, and abandon its processes at SIGUSR1."""
    options = dict(
        tiny_options(scene),
        **{
            'train_cfg.max_iters': 300,
            'train_cfg.val_interval': 300,
            'default_hooks.checkpoint.interval': 300,
            'default_hooks.preemption.interval': 2,
        },
    )
    work_dir, log = tmp_path / 'run', tmp_path / 'out.txt'
    commands, variables = _scripts(tmp_path, work_dir)
    with open(log, 'w') as file:
        script = subprocess.Popen(
            ['bash', *commands[launcher], *as_arguments(options)],
            cwd=ROOT,
            stdout=file,
            stderr=file,
            start_new_session=True,
            env=variables,
        )
    try:
        while '[  2/300]' not in log.read_text():
            assert script.poll() is None, log.read_text()[-3000:]
            time.sleep(0.05)
        send(script.pid, sign)
        assert script.wait(300) == 75, log.read_text()[-3000:]
    finally:
        if script.poll() is None:
            os.killpg(script.pid, signal.SIGKILL)
    (saved,) = work_dir.glob('iter_*.pth')
    text = log.read_text()
    assert f'{saved.name} is written' in text
    assert 'GPU number: 2' in text
    assert f'Distributed launcher: {"slurm" if launcher == "slurm" else "pytorch"}' in text


# Damaged checkpoints


@pytest.mark.parametrize('damage', ['flipped', 'zeroed'])
def test_damaged_checkpoint_is_skipped(damage, tmp_path):
    runner(tmp_path).train()
    newest = tmp_path / 'iter_8.pth'
    whole = newest.read_bytes()
    assert find_latest_checkpoint(str(tmp_path)) == str(newest)
    weight = load_checkpoint_file(newest)['state_dict']['weight']
    place = whole.index(weight.numpy().tobytes())
    if damage == 'flipped':
        newest.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
    else:
        newest.write_bytes(whole[:-900] + bytes(900))
    found = find_latest_checkpoint(str(tmp_path))
    assert found == str(tmp_path / 'iter_7.pth')
    with pytest.raises(DamagedCheckpointError, match='iter_8.pth: not a '):
        load_checkpoint_file(str(newest))


def test_checkpoint_newer_than_the_note_is_found(tmp_path):
    """As after a kill between the two; files of an earlier, longer run are ignored."""
    for moment, name in enumerate(('iter_9', 'iter_5', 'iter_6')):
        torch.save(dict(x=1), tmp_path / f'{name}.pth')
        os.utime(tmp_path / f'{name}.pth', (moment, moment))
    note = tmp_path / 'last_checkpoint'
    note.write_text('iter_5.pth')
    os.utime(note, (1.5, 1.5))
    assert find_latest_checkpoint(str(tmp_path)).endswith('iter_6.pth')
    note.write_bytes(b'\0\xff' * 9)
    assert find_latest_checkpoint(str(tmp_path)).endswith('iter_6.pth')


@pytest.mark.exhaustive
def test_kill_at_any_moment_leaves_a_whole_checkpoint(tmp_path):
    """Three are kept, and one more while the next is written."""
    reached = 0
    for _ in range(15):
        process = SERVER.Process(target=train_without_end, args=(str(tmp_path),))
        process.start()
        deadline = time.monotonic() + 300
        while _newest(tmp_path) <= reached:
            assert process.is_alive() and time.monotonic() < deadline
            time.sleep(0.005)
        time.sleep(random.random() * 0.1)
        process.kill()
        process.join()
        highest = _newest(tmp_path)
        found = find_latest_checkpoint(str(tmp_path))
        assert Path(found).name == f'iter_{highest}.pth'
        assert load_checkpoint_file(found)['meta']['iter'] == highest
        assert min(highest, 3) <= len(list(tmp_path.glob('iter_*.pth'))) <= 4
        reached = highest


def test_leftovers_of_a_killed_process_are_removed(tmp_path, monkeypatch):
    """Killed between writing the third and removing the second."""
    remove = AtomicCheckpointHook._remove

    def die(hook, outdated):
        if (tmp_path / 'iter_3.pth').exists():
            raise KeyboardInterrupt
        remove(hook, outdated)

    keep = dict(checkpoint=dict(max_keep_ckpts=1))
    monkeypatch.setattr(AtomicCheckpointHook, '_remove', die)
    with pytest.raises(KeyboardInterrupt):
        runner(tmp_path, **keep).train()
    assert {path.name for path in tmp_path.glob('iter_*')} == {'iter_2.pth', 'iter_3.pth'}
    monkeypatch.setattr(AtomicCheckpointHook, '_remove', remove)
    runner(tmp_path, resume=True, **keep).train()
    assert [path.name for path in tmp_path.glob('iter_*')] == ['iter_8.pth']


def _newest(folder):
    return max((int(path.stem[5:]) for path in folder.glob('iter_*.pth')), default=0)


# Losses that are not finite


def test_non_finite_loss_stops_the_training_and_can_be_reproduced(scene, tmp_path):
    """The learning rate is far too high; the weights are still finite."""
    options = {'optim_wrapper.optimizer.lr': 1e30}
    log = Training(scene, tmp_path, **options).end_with(1)
    assert 'Traceback' not in log
    (iteration,) = re.findall(
        r'The loss is not finite: .*loss_\w+ is '
        r'(?:nan|inf).* in iteration (\d+)',
        log,
    )
    folder = tmp_path / 'non_finite'
    file = folder / f'iter_{int(iteration) - 1}.pth'
    assert log.rstrip().endswith(f'--resume {file}')
    told = json.loads(file.with_suffix('.json').read_text())
    assert (told['iteration'], told['seed'], told['rank']) == (int(iteration), 0, 0)
    assert len(told['images']) == 2
    assert all(f'{scene}/train2017/' in path and path in log for path in told['images'])
    assert {'nan', 'inf'} & set(told['terms'].values())
    state = load_checkpoint_file(str(file))
    assert state['meta']['iter'] == int(iteration) - 1
    assert all(
        value.isfinite().all()
        for name, value in state['state_dict'].items()
        if 'running' not in name
    )
    moments = state['optimizer']['state'][0]
    assert moments['step'] == int(iteration) - 1

    again = Training(scene, tmp_path / 'again', '--resume', str(file), **options).end_with(1)
    assert f'in iteration {iteration}, on rank 0' in again
    repeated = tmp_path / 'again/non_finite' / file.with_suffix('.json').name
    assert json.loads(repeated.read_text()) == told


def test_non_finite_loss_on_one_rank_ends_both(scene, tmp_path):
    config = tmp_path / 'corrupt.py'
    config.write_text(
        f"_base_ = '{SAMPLE_CONFIG}'\n"
        "custom_hooks = [dict(type='NaNImageHook', rank=1, iteration=4)]"
    )
    training = Training(scene, tmp_path, ranks=2, config=config)
    training.processes[1].join(300)
    assert training.processes[1].exitcode == 1
    # The other waits for it: gloo fails, NCCL is ended by the launcher.
    training.processes[0].join(300)
    assert training.processes[0].exitcode not in (0, None)
    assert 'in iteration 4, on rank 1' in training.log.read_text()
    name = 'non_finite/iter_3_rank_1'
    told = json.loads((tmp_path / f'{name}.json').read_text())
    assert (told['rank'], told['iteration']) == (1, 4)
    assert load_checkpoint_file(str(tmp_path / f'{name}.pth'))['meta']['iter'] == 3


def test_non_finite_terms_are_named():
    terms = dict(
        loss_a=torch.tensor(1.0), loss_b=torch.tensor(torch.inf), acc=torch.tensor(torch.nan)
    )
    check_finite(terms['loss_a'], terms)
    with pytest.raises(NonFiniteLossError, match='finite: loss_b is inf$'):
        check_finite(terms['loss_a'] + terms['loss_b'], terms)


class OneTerm(MultitaskRCNN):
    """The sum of losses of the detector, for a model with one parameter."""

    def __init__(self):
        BaseModel.__init__(self, data_preprocessor=None)
        self.weight = torch.nn.Parameter(torch.zeros(1))

    def forward(self, factor, mode='loss'):
        return dict(loss_one=(self.weight * factor + 1).sum())


def test_overflow_of_the_scaled_loss_is_no_error(monkeypatch):
    """GradScaler skips the step and halves the scale."""
    monkeypatch.setattr(amp, 'is_cuda_available', lambda: True)
    monkeypatch.setattr(amp, 'GradScaler', lambda **kwargs: torch.amp.GradScaler('cpu', **kwargs))
    model = OneTerm()
    wrapper = OPTIM_WRAPPERS.build(
        dict(
            type='AmpOptimWrapper',
            loss_scale=dict(init_scale=2.0**127),
            dtype='bfloat16',
            optimizer=torch.optim.SGD(model.parameters(), lr=1e-3),
        )
    )
    model.train_step(dict(factor=1e3), wrapper)
    assert model.weight.item() == 0  # left out
    assert wrapper.loss_scaler.get_scale() == 2.0**126
    for _ in range(12):
        model.train_step(dict(factor=1e3), wrapper)
    assert model.weight.item() < 0


def test_gradient_clipping(tmp_path):
    name = 'multitask_refine/multitask-rcnn_r50_fpn-ms_rb-h_4xb3-90k_coco.py'
    settings = Config.fromfile(CONFIGS / name).optim_wrapper
    assert 'clip_grad' not in settings
    cfg = Config(dict(optim_wrapper=settings))
    cfg.merge_from_dict({'optim_wrapper.clip_grad.max_norm': 35})
    weight = torch.nn.Parameter(torch.zeros(1))
    cfg.optim_wrapper.optimizer = torch.optim.SGD([weight], lr=1)
    wrapper = OPTIM_WRAPPERS.build(cfg.optim_wrapper)
    wrapper.update_params(1000 * weight.sum())
    assert weight.item() == pytest.approx(-35)
    norm = wrapper.message_hub.get_scalar('train/grad_norm')
    assert norm.current() == pytest.approx(1000)
