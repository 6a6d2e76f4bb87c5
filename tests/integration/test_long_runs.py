"""Killed and resumed runs: checkpoints, logs and curves."""

import itertools
import os
import re
import signal
from pathlib import Path

import mmengine.dataset.sampler
import numpy as np
import pytest
import torch
from mmdet.datasets.samplers import AspectRatioBatchSampler
from mmengine.config import Config
from mmengine.dataset import DefaultSampler, InfiniteSampler
from mmengine.hooks import Hook
from mmengine.registry import VISBACKENDS
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch.utils.data import BatchSampler, DataLoader

from multitask_cli import train
from multitask_refine.datasets import AspectRatioGroupedBatchSampler
from multitask_refine.engine import ResumeError
from multitask_refine.engine.hooks.checkpoint_hook import AtomicLocalBackend
from multitask_refine.engine.hooks.resume_hook import (
    collect_training_settings,
    find_latest_checkpoint,
)
from multitask_refine.engine.runner import reproducible_loop
from multitask_refine.engine.runner.reproducible_loop import ReproducibleLoader
from multitask_refine.utils.safe_checkpoint import load_checkpoint_file
from tests.conftest import SAMPLE_CONFIG, as_arguments, tiny_options
from tests.trainings import STEPS, Dice, OneNumber, Training, assert_same_end, runner


@pytest.fixture(scope='module')
def unbroken(scene, tmp_path_factory):
    """Work dir of an uninterrupted run in one process without loader workers."""
    work_dir = tmp_path_factory.mktemp('unbroken')
    Training(scene, work_dir, '--tensorboard').finish()
    return work_dir


@pytest.mark.parametrize('workers', [0, 2])
@pytest.mark.exhaustive
def test_resume_after_a_kill_is_bit_exact(unbroken, scene, tmp_path, workers):
    options = {
        'train_dataloader.num_workers': workers,
        'train_dataloader.persistent_workers': workers > 0,
    }
    moment = Training(scene, tmp_path, **options).kill()
    resumed = Training(scene, tmp_path, '--resume', **options).finish()
    expected = load_checkpoint_file(unbroken / f'iter_{STEPS}.pth')
    assert_same_end(expected, resumed, moment)
    begin, end = (tmp_path / 'out.txt').read_text().split('Load checkpoint from')
    assert 3 <= int(re.search(r'iter_(\d+)\.pth', end).group(1)) < STEPS
    for part in (begin, end):
        lines = [line for line in part.splitlines() if 'Iter(train)' in line]
        assert all(re.search(r'eta: \d+:\d\d:\d\d', line) for line in lines)
    assert f'[{STEPS}/{STEPS}]' in lines[-1] and 'eta: 0:00:00' in lines[-1]


@pytest.mark.exhaustive
def test_resume_of_two_ranks_is_bit_exact(scene, tmp_path):
    expected = Training(scene, tmp_path / 'unbroken', ranks=2)
    stopped = Training(scene, tmp_path / 'stopped', ranks=2)
    moment = stopped.kill()
    expected = expected.finish()
    resumed = Training(scene, tmp_path / 'stopped', '--resume', ranks=2)
    assert_same_end(expected, resumed.finish(), moment)


def test_log_contains_eta_and_losses(unbroken):
    (log,) = unbroken.glob('*/*.log')
    lines = [line for line in log.read_text().splitlines() if 'Iter(train)' in line]
    assert len(lines) == STEPS
    for line in lines:
        assert re.search(r'eta: \d+:\d\d:\d\d', line)
        for loss in ('loss_rpn_cls', 'loss_cls', 'loss_mask', 'loss_keypoint'):
            assert re.search(rf'{loss}: \d+\.\d+', line)
    assert 'eta: 0:00:00' in lines[-1]


def test_tensorboard_by_a_config_option(tmp_path):
    """As with mim, without --tensorboard."""
    cfg = Config.fromfile(SAMPLE_CONFIG)
    cfg.merge_from_dict({'visualizer.vis_backends.0.type': 'TensorboardVisBackend'})
    (backend,) = cfg.visualizer.vis_backends
    assert VISBACKENDS.build(dict(backend, save_dir=str(tmp_path))).experiment


def test_tensorboard_event_files(unbroken):
    """The curves are averages over the last iterations, as in the log."""
    (events,) = unbroken.glob('*/vis_data/events.*')
    curves = EventAccumulator(str(events))
    curves.Reload()
    state = load_checkpoint_file(unbroken / f'iter_{STEPS}.pth')
    for name in ('loss', 'loss_mask', 'loss_keypoint'):
        points = curves.Scalars(name)
        assert [point.step for point in points] == list(range(1, STEPS + 1))
        history = state['message_hub']['log_scalars'][f'train/{name}'].data[0]
        means = history.cumsum() / np.arange(1, STEPS + 1)
        np.testing.assert_allclose([point.value for point in points], means, rtol=1e-5)
    assert [point.step for point in curves.Scalars('coco/keypoints_AP')] == [6, STEPS]


# The order of the images and their augmentation


def _loader(
    dataset, start=0, seed=5, sampler=InfiniteSampler, batches=BatchSampler, size=3, **kwargs
):
    sampler = sampler(dataset, seed=0)
    loader = DataLoader(
        dataset, batch_sampler=batches(sampler, size, False), collate_fn=list, **kwargs
    )
    loader = ReproducibleLoader(loader)
    loader.start_at(start, seed)
    return loader


def _take(loader, number):
    return list(itertools.islice(loader, number))


def test_loader_follows_the_order_of_the_sampler():
    order = [item[0] for batch in _take(_loader(Dice()), 10) for item in batch]
    assert order == list(itertools.islice(InfiniteSampler(Dice(), seed=5), 30))


@pytest.mark.parametrize('sampler', [InfiniteSampler, DefaultSampler])
@pytest.mark.parametrize('batches', [BatchSampler, AspectRatioGroupedBatchSampler])
def test_loader_starts_anywhere_with_any_number_of_workers(sampler, batches):
    kinds = dict(sampler=sampler, batches=batches)
    whole = _take(_loader(Dice(), **kinds), 30)
    assert _take(_loader(Dice(), 17, **kinds), 13) == whole[17:]
    assert _take(_loader(Dice(), 17, num_workers=2, **kinds), 13) == whole[17:]
    assert _take(_loader(Dice(), seed=6, **kinds), 30) != whole
    numbers = {item[1:] for batch in whole for item in batch}
    assert len(numbers) == sum(map(len, whole))  # each draw has its own random numbers


def test_skipped_batches_are_not_loaded():
    dataset = Dice()
    (batch,) = _take(_loader(dataset, 1000), 1)
    assert len(dataset.drawn) == len(batch) == 3


def test_ranks_share_the_draws_of_one_process(monkeypatch):
    whole = _take(_loader(Dice(), size=4), 5)
    shares = []
    for rank in range(2):
        for module in (reproducible_loop, mmengine.dataset.sampler):
            monkeypatch.setattr(module, 'get_dist_info', lambda rank=rank: (rank, 2))
        shares.append(_take(_loader(Dice(), size=2), 5))
    for batch, *parts in zip(whole, *shares, strict=True):
        assert sorted(batch) == sorted(itertools.chain(*parts))


def test_aspect_ratio_batches_match_mmdet():
    for sampler in (InfiniteSampler, DefaultSampler):
        ours, theirs = (
            list(itertools.islice(kind(sampler(Dice(), seed=2), 3), 40))
            for kind in (AspectRatioGroupedBatchSampler, AspectRatioBatchSampler)
        )
        assert ours[:3] == theirs[:3]
        if sampler is InfiniteSampler:
            assert ours == theirs and len(ours) == 40
        else:
            assert sorted(sum(ours, [])) == list(range(10))


def test_empty_dataset_is_refused():
    with pytest.raises(ValueError, match='at least one image'):
        ReproducibleLoader(DataLoader(Dice(0)))


# Checkpoints of a model with one parameter


def _kept(work_dir, pattern):
    return sorted(path.name for path in work_dir.glob(pattern))


def test_checkpoint_limit_and_best_checkpoint_survive_interruptions(tmp_path):
    """Interrupted in the second validation, after it, and resumed."""
    with pytest.raises(KeyboardInterrupt):
        runner(tmp_path, [0.3, False]).train()
    assert _kept(tmp_path, 'best*') == ['best_coco_keypoints_AP_iter_2.pth']
    assert _kept(tmp_path, 'iter*') == [f'iter_{i}.pth' for i in (2, 3, 4)]
    with pytest.raises(KeyboardInterrupt):  # 4 is made up for, then 6
        runner(tmp_path, [0.5, False], resume=True).train()
    assert _kept(tmp_path, 'best*') == ['best_coco_keypoints_AP_iter_4.pth']
    runner(tmp_path, [0.4, 0.45], resume=True).train()
    assert _kept(tmp_path, 'best*') == ['best_coco_keypoints_AP_iter_4.pth']
    assert _kept(tmp_path, 'iter*') == [f'iter_{i}.pth' for i in (6, 7, 8)]
    best = load_checkpoint_file(tmp_path / 'best_coco_keypoints_AP_iter_4.pth')
    assert best['meta']['iter'] == 4


def _log(runner):
    return (Path(runner.log_dir) / f'{runner.timestamp}.log').read_text()


def test_changed_order_of_images_is_logged(tmp_path):
    runner(tmp_path, train_cfg=_steps(3)).train()
    same = runner(tmp_path, train_cfg=_steps(4), resume=True)
    same.train()
    assert 'another order' not in _log(same)
    loader = DataLoader(
        Dice(),
        batch_sampler=BatchSampler(InfiniteSampler(Dice(), seed=0), 5, False),
        collate_fn=list,
    )
    other = runner(tmp_path, train_cfg=_steps(5), resume=True, train_dataloader=loader)
    other.train()
    assert (
        'trained with 1 x 2 images a step out of 10, and this run continues with 1 x 5'
    ) in _log(other)


def _steps(number):
    return dict(type='ReproducibleTrainLoop', max_iters=number, val_interval=100)


def test_seed_is_restored_from_the_checkpoint(tmp_path):
    """Without a seed in the config, MMEngine draws one for each run."""
    loader = dict(
        dataset=Dice(),
        sampler=dict(type='InfiniteSampler'),
        batch_size=2,
        num_workers=0,
        collate_fn=list,
    )
    begun = runner(tmp_path / 'begun', train_cfg=_steps(2), train_dataloader=loader)
    begun.train()
    go_on = dict(
        train_cfg=_steps(6),
        train_dataloader=loader,
        resume=True,
        load_from=str(tmp_path / 'begun/iter_2.pth'),
    )
    weights = [runner(tmp_path / name, **go_on).train().state_dict() for name in ('one', 'other')]
    assert torch.equal(weights[0]['weight'], weights[1]['weight'])


def test_newest_whole_checkpoint_is_found(tmp_path):
    for age, name in enumerate(('best_x_iter_9', 'iter_10', 'iter_5')):
        torch.save(dict(x=1), tmp_path / f'{name}.pth')
        os.utime(tmp_path / f'{name}.pth', (1000 - age, 1000 - age))
    newest = str(tmp_path / 'iter_10.pth')
    assert find_latest_checkpoint(str(tmp_path)) == newest
    note = tmp_path / 'last_checkpoint'
    note.write_text('/moved/since/iter_5.pth')
    assert find_latest_checkpoint(str(tmp_path)).endswith('iter_5.pth')
    whole = (tmp_path / 'iter_5.pth').read_bytes()
    (tmp_path / 'iter_5.pth').write_bytes(whole[:-40])
    assert find_latest_checkpoint(str(tmp_path)) == newest
    note.write_text('')
    assert find_latest_checkpoint(str(tmp_path)) == newest


def test_kill_during_a_write_keeps_the_former_file(tmp_path):
    backend = AtomicLocalBackend()
    backend.put(b'old', tmp_path / 'iter_1.pth')
    pid = os.fork()
    if pid == 0:
        os.fsync = lambda file: os.kill(os.getpid(), signal.SIGKILL)
        backend.put(b'new', tmp_path / 'iter_1.pth')
        os._exit(1)
    assert os.WTERMSIG(os.waitpid(pid, 0)[1]) == signal.SIGKILL
    assert (tmp_path / 'iter_1.pth').read_bytes() == b'old'
    backend.put(b'newer', tmp_path / 'iter_1.pth')
    assert [file.name for file in tmp_path.iterdir()] == ['iter_1.pth']
    assert (tmp_path / 'iter_1.pth').read_bytes() == b'newer'


def test_missing_checkpoint_is_logged(tmp_path):
    run = runner(tmp_path, train_cfg=_steps(1), resume=True)
    run.train()
    assert 'there is no checkpoint to resume from' in _log(run)


def test_checkpoint_without_training_state_is_refused(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        runner(tmp_path, [0.5, False]).train()
    (best,) = tmp_path.glob('best*')
    with pytest.raises(ResumeError, match='no optimizer.*load_from'):
        runner(tmp_path, resume=True, load_from=str(best)).train()
    runner(tmp_path / 'new', load_from=str(best), train_cfg=_steps(1)).train()


def test_checkpoint_of_another_network_is_refused(tmp_path):
    runner(tmp_path, train_cfg=_steps(1)).train()
    other = OneNumber()
    other.bias = torch.nn.Parameter(torch.zeros(2))
    run = runner(tmp_path, model=other, resume=True)
    with pytest.raises(ResumeError, match='1 weights.* bias. .*long_run_'):
        run.train()


# Settings of a run that is resumed

SGD = dict(type='SGD', lr=0.1, momentum=0.9)
WARMUP = [dict(type='LinearLR', start_factor=0.5, by_epoch=False, end=4)]


@pytest.mark.parametrize(
    'changed, told',
    [
        (
            dict(optim_wrapper=dict(optimizer=dict(SGD, lr=0.2))),
            ['optim_wrapper.optimizer.lr: 0.1 in the checkpoint, 0.2 now'],
        ),
        (
            dict(optim_wrapper=dict(optimizer=dict(type='AdamW', lr=0.1))),
            [
                "optimizer.type: 'SGD' in the checkpoint, 'AdamW' now",
                'optimizer.momentum: 0.9 in the checkpoint, not set now',
            ],
        ),
        (
            dict(
                optim_wrapper=dict(
                    optimizer=SGD, paramwise_cfg=dict(custom_keys=dict(weight=dict(lr_mult=0)))
                )
            ),
            ['custom_keys.weight.lr_mult: not set in the checkpoint, 0 now'],
        ),
        (
            dict(param_scheduler=[dict(WARMUP[0], end=6)]),
            ['param_scheduler.0.end: 4 in the checkpoint, 6 now'],
        ),
    ],
    ids=['lr', 'optimizer', 'lr_mult', 'schedule'],
)
def test_other_optimizer_or_schedule_is_refused(tmp_path, changed, told):
    runner(tmp_path, train_cfg=_steps(2), param_scheduler=WARMUP).train()
    other = runner(tmp_path, resume=True, **{'param_scheduler': WARMUP, **changed})
    with pytest.raises(ResumeError, match='load_from=FILE') as error:
        other.train()
    for line in told:
        assert line in str(error.value)
    assert str(error.value).count(' now\n') == len(told)


def test_other_changed_settings_are_logged(tmp_path):
    """The gradients of this model exceed 1, so clipping changes the step."""
    runner(tmp_path / 'plain', train_cfg=_steps(4)).train()
    begin = tmp_path / 'plain/iter_2.pth'
    clipped = dict(optimizer=SGD, clip_grad=dict(max_norm=0.01))
    resumed = runner(
        tmp_path / 'clipped',
        resume=True,
        load_from=str(begin),
        train_cfg=_steps(4),
        optim_wrapper=clipped,
    )
    weights = [
        resumed.train().weight,
        load_checkpoint_file(tmp_path / 'plain/iter_4.pth')['state_dict']['weight'],
    ]
    assert not torch.equal(*weights)
    assert ('optim_wrapper.clip_grad.max_norm: not set in the checkpoint, 0.01 now') in _log(
        resumed
    )


def test_equivalent_settings_are_equal(tmp_path):
    """Lists equal tuples, and settings without influence on the result are left out."""

    def cfg(kind, **extra):
        return Config(
            dict(
                train_cfg=dict(max_iters=8, **extra),
                model=dict(out_indices=kind([1, 2]), init_cfg=extra or None),
            )
        )

    settings = [
        collect_training_settings(each) for each in (cfg(list), cfg(tuple, val_interval=3))
    ]
    assert settings[0] == settings[1] == {'train_cfg.max_iters': 8, 'model.out_indices': '[1, 2]'}


def test_max_iters_below_the_checkpoint_is_refused(tmp_path):
    runner(tmp_path, train_cfg=_steps(3)).train()
    with pytest.raises(ResumeError, match='at least 3.*found 2'):
        runner(tmp_path, train_cfg=_steps(2), resume=True).train()


def test_checkpoint_without_settings_is_logged(tmp_path):
    runner(tmp_path, train_cfg=_steps(2)).train()
    state = load_checkpoint_file(tmp_path / 'iter_2.pth')
    del state['meta']['training_settings']
    torch.save(state, tmp_path / 'iter_2.pth')
    old = runner(tmp_path, train_cfg=_steps(3), resume=True)
    old.train()
    assert 'does not contain the settings' in _log(old)


# Gradient accumulation


def _accumulating(work_dir, **kwargs):
    return runner(
        work_dir,
        optim_wrapper=dict(optimizer=SGD, accumulative_counts=4),
        checkpoint=dict(interval=3, max_keep_ckpts=-1),
        train_cfg=_steps(14),
        randomness=dict(seed=0),  # otherwise each run draws a seed of its own
        **kwargs,
    )


def test_checkpoints_are_written_after_optimizer_steps(tmp_path):
    """Due after 3, 6, 9, 12 and at the end; steps after 4, 8, 12 and 14."""
    unbroken = _accumulating(tmp_path).train().weight
    assert _kept(tmp_path, 'iter*') == [f'iter_{done}.pth' for done in (12, 14, 4, 8)]
    for done in (4, 8, 12):
        resumed = _accumulating(
            tmp_path / f'{done}', resume=True, load_from=str(tmp_path / f'iter_{done}.pth')
        )
        assert torch.equal(resumed.train().weight, unbroken)


def test_checkpoint_between_two_optimizer_steps_is_logged(tmp_path):
    """As the state before a non-finite loss may be."""
    runner(tmp_path, train_cfg=_steps(3)).train()
    resumed = runner(
        tmp_path,
        resume=True,
        train_cfg=_steps(4),
        optim_wrapper=dict(optimizer=SGD, accumulative_counts=2),
    )
    resumed.train()
    assert '3 iterations done, accumulative_counts=2' in _log(resumed)
    assert 'accumulative_counts: not set in the checkpoint, 2 now' in _log(resumed)


class SignalAfter(Hook):
    """Send the signal of a scheduler in the middle of an iteration."""

    def __init__(self, done):
        self.done = done

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        if runner.iter + 1 == self.done:
            signal.raise_signal(signal.SIGTERM)


def test_preempted_run_finishes_the_optimizer_step(tmp_path):
    stopped = _accumulating(tmp_path / 'stopped')
    stopped.register_hook(SignalAfter(5))
    with pytest.raises(SystemExit) as status:
        stopped.train()
    assert status.value.code == 75
    assert _kept(tmp_path / 'stopped', 'iter*') == ['iter_4.pth', 'iter_8.pth']
    unbroken = _accumulating(tmp_path / 'unbroken').train().weight
    resumed = _accumulating(tmp_path / 'stopped', resume=True).train().weight
    assert torch.equal(resumed, unbroken)


def test_train_tool_reports_mistakes(scene, tmp_path):
    """By a message without a traceback."""
    command = [str(SAMPLE_CONFIG), '--work-dir', str(tmp_path)]
    with pytest.raises(SystemExit, match='nothing.pth: there is no such'):
        train.main([*command, '--resume', 'nothing.pth', *as_arguments(tiny_options(scene))])
