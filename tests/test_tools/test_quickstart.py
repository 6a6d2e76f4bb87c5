"""The quickstart, with stubs of the tools, and its real commands."""

import json
import multiprocessing
import os
import signal
import sys
import time

import pytest

from multitask_cli import test, train
from multitask_cli.options import parse_cfg_options
from multitask_refine.apis.test import configure_test
from multitask_refine.apis.train import configure_training
from tests.conftest import ROOT
from tests.trainings import runner
from tools import quickstart
from tools.dataset import make_sample

pytestmark = pytest.mark.slow

# Each stub records its arguments. The training exits with status 75 at SIGTERM, as with
# PreemptionHook, and can be resumed.
TOOLS = {
    'dataset/make_sample.py': """
for split, count in ('train', 4), ('val', 2):
    for i in range(1, count + 1):
        print(f'{split}: {i}/{count} images, 1 s left')
""",
    'train.py': """
import os, signal, time
if os.path.exists('broken'):
    print('weights.pth: damaged')
    sys.exit(3)
signal.signal(signal.SIGTERM, lambda *_: (
    (work / 'iter_1.pth').touch(), sys.exit(75)))
for i in range(1, 4):
    print(f'Iter(train) [ {i}/3]  eta: 0:00:01')
    if os.path.exists('slow'):
        time.sleep(60)
(work / 'iter_3.pth').touch()
(work / 'last_checkpoint').write_text(str(work / 'iter_3.pth'))
""",
    'test.py': """
import json
(work / 'images').mkdir(exist_ok=True)
for i in range(1, 3):
    (work / f'images/{i}.jpg').touch()
    print(f'Iter(test) [{i}/2]')
(work / 'metrics.json').write_text(json.dumps(dict(bbox_AP=61.5, run={})))
""",
}
HEAD = """
import sys
from pathlib import Path
with open('calls.txt', 'a') as file:
    print(*sys.argv, file=file)
if '--work-dir' in sys.argv:
    work = Path(sys.argv[sys.argv.index('--work-dir') + 1])
"""


@pytest.fixture
def root(tmp_path, monkeypatch):
    """A project with stubs of the tools."""
    for name, code in TOOLS.items():
        tool = tmp_path / 'tools' / name
        tool.parent.mkdir(exist_ok=True, parents=True)
        tool.write_text(HEAD + code)
    (tmp_path / 'config.py').write_text("load_from = 'base.pth'")
    (tmp_path / 'base.pth').touch()
    monkeypatch.setattr(quickstart, 'ROOT', tmp_path)
    return tmp_path


ARGV = ['--config', 'config.py', '--work-dir', 'work', '--train', '4', '--val', '2']


def test_all_stages_run_and_are_summarized(root, capsys):
    assert quickstart.main(ARGV) == 0
    names = [line.split()[0] for line in (root / 'calls.txt').read_text().splitlines()]
    assert names == ['tools/dataset/make_sample.py', 'tools/train.py', 'tools/test.py']
    out = capsys.readouterr().out
    for words in (
        'Drawing people',
        'Training',
        'Testing',
        '| 61.50 |',
        f'Results file: {root}/work/metrics.json',
        '2 images',
        f'{root}/work/images/1.jpg',
    ):
        assert words in out, words
    log = (root / 'work/log.txt').read_text()
    assert 'Iter(train) [ 3/3]' in log and 'val: 2/2' in log
    run = json.loads((root / 'work/metrics.json').read_text())['run']
    assert list(run['stages']) == ['Drawing people', 'Training', 'Testing']
    assert quickstart.main(ARGV) == 0  # a second run records no durations
    run = json.loads((root / 'work/metrics.json').read_text())['run']
    assert 'stages' not in run


def test_progress_bar_covers_all_stages(root, monkeypatch):
    seen = []
    monkeypatch.setattr(
        quickstart.ProgressBar, 'show', lambda bar, text, done: seen.append((text, done))
    )
    quickstart.main(ARGV)
    draw, learn, check = (6 * 0.05, quickstart.FROM_BASE.seconds, 2 * 0.15)
    expected = [('Drawing people', 0)]
    expected += [(f'Drawing people {i}/6', draw * i / 6) for i in range(1, 7)]
    expected += [('Training', draw)]
    expected += [(f'Training {i}/3', draw + learn * i / 3) for i in range(1, 4)]
    expected += [('Testing', draw + learn)]
    expected += [(f'Testing {i}/2', draw + learn + check * i / 2) for i in range(1, 3)]
    expected += [('Done', draw + learn + check)]
    assert [text for text, _ in seen] == [text for text, _ in expected]
    assert [done for _, done in seen] == pytest.approx([done for _, done in expected])


def test_failure_shows_the_end_of_the_log(root):
    (root / 'broken').touch()
    with pytest.raises(SystemExit) as stop:
        quickstart.main(ARGV)
    first, *rest = stop.value.code.splitlines()
    assert first == (
        f'Training failed: tools/train.py ended with status 3. The end of {root}/work/log.txt:'
    )
    assert rest[-1] == 'weights.pth: damaged'


def test_other_settings_and_missing_base_are_refused(root):
    quickstart.main(ARGV)
    with pytest.raises(SystemExit, match='train: 4 there, 5 now.*--work-dir'):
        quickstart.main([*ARGV, '--train', '5'])
    (root / 'base.pth').unlink()
    with pytest.raises(SystemExit, match='base.pth: .*--from-scratch'):
        quickstart.main(ARGV)
    with pytest.raises(SystemExit):
        quickstart.main([*ARGV, '--train', '0'])


def _run_in_a_process(errors):
    with open(errors, 'w') as sys.stderr:
        sys.exit(quickstart.main(ARGV))


@pytest.mark.parametrize('sign', [signal.SIGINT, signal.SIGTERM])
def test_interrupted_run_continues(root, sign):
    (root / 'slow').touch()
    process = multiprocessing.get_context('fork').Process(
        target=_run_in_a_process, args=(root / 'errors.txt',)
    )
    process.start()
    log = root / 'work/log.txt'
    deadline = time.monotonic() + 120
    while not (log.exists() and 'Iter(train)' in log.read_text()):
        assert process.is_alive() and time.monotonic() < deadline
        time.sleep(0.05)
    os.kill(process.pid, sign)
    process.join(60)
    assert process.exitcode == 130
    assert (root / 'errors.txt').read_text() == (
        f'Stopped. {root}/work keeps the finished parts; continue with the same command.\n'
    )
    assert (root / 'work/iter_1.pth').exists()  # the training was signalled
    (root / 'slow').unlink()
    assert quickstart.main(ARGV) == 0
    last = (root / 'calls.txt').read_text().splitlines()[-2]
    assert last.startswith('tools/train.py') and ' --resume ' in last


@pytest.mark.parametrize('options', [[], ['--from-scratch']])
def test_real_tools_accept_the_commands(options, tmp_path):
    args = quickstart.parse_args(
        [*options, '--work-dir', str(tmp_path), '--cfg-options', 'train_cfg.max_iters=3']
    )
    (tmp_path / 'last_checkpoint').write_text('iter_3.pth')
    commands = {}

    class Recorder:
        run = staticmethod(
            lambda title, seconds, total, tool, *command: commands.update({tool: list(command)})
        )

    quickstart.run_stages(args, Recorder())
    sample = make_sample.parse_args(commands['tools/dataset/make_sample.py'])
    assert (sample.train, sample.size) == (args.train, args.preset.size)
    for tool, configure in ((train, configure_training), (test, configure_test)):
        name = tool.__name__.split('.')[-1]
        params = tool.command.make_context(name, commands[f'tools/{name}.py']).params
        params['cfg_options'] = parse_cfg_options(params['cfg_options'])
        # What is done beside the config, or with exported models.
        for option in ('results_file', 'out', 'tensorboard', 'backend', 'precision', 'threads'):
            params.pop(option, None)
        cfg = configure(str(ROOT / params.pop('config')), **params)
        assert cfg.train_cfg.max_iters == 3
        if tool is train:
            # A validation, also that after the last iteration, fails for lack of a score.
            runner(tmp_path / 'run', scores=(), train_cfg=cfg.train_cfg).train()
        for part in (cfg.train_dataloader, cfg.test_dataloader):
            assert part.dataset.data_root == f'{sample.out}/'
