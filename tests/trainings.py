"""Small trainings and tests on several ranks: real processes, and a model with one parameter."""

import itertools
import multiprocessing
import os
import random
import signal
import socket
import sys
import time
from pathlib import Path

import numpy as np
import torch
from mmdet.registry import HOOKS
from mmengine.config import Config
from mmengine.config import config as mmengine_config
from mmengine.dataset import InfiniteSampler
from mmengine.dist import get_rank
from mmengine.evaluator import BaseMetric, Evaluator
from mmengine.hooks import Hook
from mmengine.model import BaseModel
from mmengine.runner import Runner
from torch.utils.data import BatchSampler, DataLoader, Dataset

from multitask_cli import train
from multitask_refine.utils.safe_checkpoint import load_checkpoint_file
from tests.conftest import SAMPLE_CONFIG, as_arguments, tiny_options

STEPS = 10
# A server imports everything once, and ranks are forked from it.
SERVER = multiprocessing.get_context('forkserver')
# What every training imports later would be imported in each process: optimizers import dynamo.
SERVER.set_forkserver_preload(
    [
        'multitask_refine',
        'mmdet.apis',
        'mmdet.utils',
        'multitask_cli.train',
        'multitask_refine.apis.train',
        'torch._dynamo',
        'torch.utils.data.datapipes',
    ]
)


def _run_rank(main, argv, log, environ):
    """Do what `python tools/TOOL.py ARGV` does, in a process group of its own."""
    os.setsid()
    os.environ.update(environ)
    for stream in (sys.stdout, sys.stderr):
        os.dup2(os.open(log, os.O_CREAT | os.O_APPEND | os.O_WRONLY), stream.fileno())
    torch.set_num_threads(1)
    # Formatting the config for every checkpoint takes longer than a step.
    mmengine_config.FormatCode = lambda text, style_config: (text, True)
    sys.exit(main(argv))


def start_ranks(main, argv, log, ranks):
    """Start the main function of a tool in one process per rank, as torchrun does."""
    launcher = 'pytorch' if ranks > 1 else 'none'
    environ = dict(
        WORLD_SIZE=str(ranks),
        MASTER_ADDR='127.0.0.1',
        MASTER_PORT=str(free_port()),
        OMP_NUM_THREADS='1',
    )
    processes = [
        SERVER.Process(
            target=_run_rank,
            args=(
                main,
                ['--launcher', launcher, *argv],
                str(log),
                dict(environ, RANK=str(rank), LOCAL_RANK=str(rank)),
            ),
        )
        for rank in range(ranks)
    ]
    for process in processes:
        process.start()
    return processes


def join_ranks(processes, log, statuses=(0,)):
    """Wait for the end of all ranks and return their output."""
    for process in processes:
        process.join(300)
        assert process.exitcode in statuses, (process.exitcode, Path(log).read_text()[-3000:])
    return Path(log).read_text()


class Training:
    """Training in real processes, one per rank, which can be killed."""

    def __init__(self, scene, work_dir, *argv, ranks=1, config=SAMPLE_CONFIG, **options):
        self.work_dir = Path(work_dir)
        self.work_dir.mkdir(exist_ok=True)
        self.log = self.work_dir / 'out.txt'
        options = {
            **tiny_options(scene),
            'train_cfg.max_iters': STEPS,
            'train_cfg.val_interval': 6,
            'default_hooks.checkpoint.interval': 3,
            **options,
        }
        command = [str(config), '--work-dir', str(work_dir), *argv]
        command += as_arguments(options)
        self.processes = start_ranks(train.main, command, self.log, ranks)

    def finish(self):
        """Wait for the end and return the last checkpoint."""
        self.end_with(0)
        return load_checkpoint_file(self.work_dir / f'iter_{STEPS}.pth')

    def end_with(self, *statuses):
        """Wait for the end of all ranks and return their output."""
        return join_ranks(self.processes, self.log, statuses)

    def wait_for(self, iteration):
        wait(lambda: self._has_done(iteration), self)

    def workers(self, rank=0):
        """Return the process ids of the loader workers."""
        pid = self.processes[rank].pid
        children = Path(f'/proc/{pid}/task/{pid}/children').read_text()
        return [int(child) for child in children.split()]

    def kill(self):
        """Kill all processes with their loader workers at a random moment after the first
        checkpoint, and return the last iteration logged."""
        moment = random.randint(4, STEPS - 4)
        self.wait_for(1)
        start = time.monotonic()
        self.wait_for(moment)
        time.sleep(random.random() * (time.monotonic() - start) / (moment - 1))
        for process in self.processes:
            os.killpg(process.pid, signal.SIGKILL)
        for process in self.processes:
            process.join()
            assert process.exitcode == -signal.SIGKILL
        assert not (self.work_dir / f'iter_{STEPS}.pth').exists()
        return moment

    def _has_done(self, iteration):
        return f'[{iteration:2d}/{STEPS}]' in self.log.read_text()


@HOOKS.register_module()
class NaNImageHook(Hook):
    """Replace one image by NaN, in one iteration on one rank."""

    def __init__(self, rank, iteration):
        self.rank = rank
        self.iteration = iteration

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        if (get_rank(), batch_idx + 1) == (self.rank, self.iteration):
            image = data_batch['inputs'][0]
            data_batch['inputs'][0] = torch.full(image.shape, torch.nan)


def train_without_end(work_dir):
    """Train for very many short iterations with a checkpoint after each."""
    loop = dict(type='ReproducibleTrainLoop', max_iters=10**6, val_interval=10**6)
    runner(work_dir, train_cfg=loop, resume=True).train()


def free_port():
    with socket.socket() as probe:
        probe.bind(('127.0.0.1', 0))
        return probe.getsockname()[1]


def wait(condition, training):
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline:
        if training.log.exists() and condition():
            return
        alive = all(process.is_alive() for process in training.processes)
        assert alive, training.log.read_text()[-3000:]
        time.sleep(0.01)
    raise AssertionError('waited for five minutes')


def same(one, other):
    """Return whether two states are bit-identical."""
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, (list, tuple)):
        return len(one) == len(other) and all(map(same, one, other))
    if torch.is_tensor(one):
        return torch.equal(one, other)
    return one == other


def assert_same_end(unbroken, resumed, moment):
    for part in ('state_dict', 'optimizer', 'param_schedulers'):
        assert same(unbroken[part], resumed[part]), (part, moment)
    losses = [
        state['message_hub']['log_scalars']['train/loss'].data for state in (unbroken, resumed)
    ]
    assert len(losses[0][0]) == STEPS
    assert np.array_equal(*losses), moment


class Dice(Dataset):
    """Dataset whose items are their index and a number of each random generator."""

    def __init__(self, size=10):
        self.size = size
        self.drawn = []

    def __len__(self):
        return self.size

    def get_data_info(self, index):
        return dict(width=index * 7 % 5, height=2)

    def __getitem__(self, index):
        self.drawn.append(index)
        return index, random.random(), np.random.rand(), float(torch.rand(()))


class OneNumber(BaseModel):
    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))

    def forward(self, *items, mode='tensor'):
        noise = torch.rand(1)
        if mode == 'loss':
            index, throw, *_ = items[0]
            return dict(loss=(self.weight * (index + throw + noise)).sum())
        return [0]


class Scores(BaseMetric):
    """Metric with given scores; False interrupts the run."""

    def __init__(self, scores):
        super().__init__()
        self.scores = iter(scores)

    def process(self, data_batch, data_samples):
        self.results.append(0)

    def compute_metrics(self, results):
        score = next(self.scores)
        if score is False:
            raise KeyboardInterrupt
        return {'coco/keypoints_AP': score}


def runner(work_dir, scores=(0,) * 9, model=None, checkpoint=None, **kwargs):
    """Build MMEngine's runner with this project's hooks."""
    cfg = Config.fromfile(SAMPLE_CONFIG)
    hooks = dict(
        checkpoint=dict(cfg.default_hooks.checkpoint, **{'interval': 1, **(checkpoint or {})}),
        resume=dict(type='ResumeHook'),
        preemption=cfg.default_hooks.preemption,
    )
    options = dict(
        model=model or OneNumber(),
        work_dir=str(work_dir),
        train_dataloader=DataLoader(
            Dice(),
            batch_sampler=BatchSampler(InfiniteSampler(Dice(), seed=0), 2, False),
            collate_fn=list,
        ),
        train_cfg=dict(type='ReproducibleTrainLoop', max_iters=8, val_interval=2),
        optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.1, momentum=0.9)),
        val_dataloader=DataLoader(Dice(1), collate_fn=list),
        val_cfg={},
        val_evaluator=Evaluator(Scores(scores)),
        default_hooks=hooks,
        default_scope='mmdet',
        experiment_name=f'long_run_{next(_NAMES)}',
    )
    options.update(kwargs)
    settings = {
        name: options[name]
        for name in ('resume', 'optim_wrapper', 'param_scheduler', 'train_cfg', 'custom_hooks')
        if name in options
    }
    return Runner(cfg=Config(settings), **options)


_NAMES = itertools.count()
