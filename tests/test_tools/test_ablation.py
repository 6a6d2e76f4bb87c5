"""The ablation of the offsets, with a smaller model or a stub of the tools."""

import fcntl
import importlib
import json
import re
from pathlib import Path

import pytest
import torch
from mmdet.registry import MODELS
from mmengine.config import Config

from multitask_refine.analysis.ablation import protocol as ablation_protocol
from multitask_refine.analysis.ablation import tables as offsets_tables
from multitask_refine.engine import read_config
from multitask_refine.utils.safe_checkpoint import load_checkpoint_file
from multitask_runtime.utils.files import file_sha256
from tests.conftest import ROOT, as_arguments, tiny_options
from tools import ablation

pytestmark = pytest.mark.slow

WEIGHTS = {'conv.weight': torch.zeros(2, 3), 'norm.running_mean': torch.zeros(2)}
REGULAR = ROOT / ablation_protocol.CONFIG.format('fpn-ms_regular')


@pytest.fixture
def options(tmp_path, monkeypatch):
    """Options for a model that trains in seconds, and its base."""
    monkeypatch.setattr(ablation.torch.cuda, 'is_available', lambda: False)
    settings = {
        name: value
        for name, value in tiny_options(tmp_path).items()
        if not re.search('data_root|ann_file|pipeline|val_interval|checkpoint', name)
    }
    settings['custom_hooks.0.interval'] = 1
    cfg = read_config(REGULAR, settings)
    _save_base(cfg, tmp_path / 'base.pth')
    return [
        '--jobs',
        '1',
        '--base',
        str(tmp_path / 'base.pth'),
        '--work-dir',
        str(tmp_path / 'runs'),
        '--results',
        str(tmp_path / 'results'),
        '--data',
        str(tmp_path / 'data'),
        *as_arguments(settings),
    ]


def _save_base(cfg, path):
    model = MODELS.build(cfg.model)
    torch.save(dict(meta={}, state_dict=model.state_dict()), path)


class Stub:
    """Stub of the tools that draw, train and test.

    AP is higher at higher rates and with refinement.
    """

    def __init__(self):
        self.trained, self.break_at = [], None

    def __call__(self, log, env, tool, *args):
        if tool == 'dataset/make_sample.py':
            folder = Path(args[0])
            folder.mkdir(parents=True, exist_ok=True)
            (folder / 'sample.json').write_text(json.dumps(dict(sha256='f')))
            return
        options = dict(arg.split('=', 1) for arg in args if arg.startswith('--') and '=' in arg)
        work_dir = Path(options['--work-dir'])
        if tool == 'train.py':
            if len(self.trained) == self.break_at:
                raise SystemExit('killed')
            self.trained.append(work_dir.name)
            vis_data = work_dir / 'time/vis_data'
            vis_data.mkdir(parents=True)
            (vis_data / 'scalars.json').write_text(
                '\n'.join(
                    map(
                        json.dumps,
                        (dict(step=50, loss=2.0, time=0.5), dict(step=100, loss=1.0, time=0.7)),
                    )
                )
                + '\n{"lo'
            )
            torch.save(dict(state_dict=WEIGHTS), work_dir / 'iter_500.pth')
            (work_dir / 'last_checkpoint').write_text(str(work_dir / 'iter_500.pth'))
            return
        if work_dir.parent.name == 'base':
            run = dict(config='c.py', checkpoint_sha256=file_sha256(args[1]))
            content = dict(bbox_AP=41.5, segm_AP=40.0, keypoints_AP=30.0, run=run)
            file = Path(options['--json'])
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(json.dumps(content))
            return
        run = work_dir.parent.name
        rate = next(
            float(each.split('=')[1])
            for each in args
            if each.startswith('optim_wrapper.optimizer.lr')
        )
        seed = int(run[-1])
        gain = seed / 10 + (rate > 5e-3) + ('rb-h' in run)
        file = Path(options['--json'])
        file.parent.mkdir()
        file.write_text(
            json.dumps(
                dict(
                    bbox_AP=50 + seed + gain,
                    segm_AP=40 + seed,
                    keypoints_AP=30.0,
                    run=dict(
                        config='c.py',
                        seed=int(run.split('seed')[1]),
                        commit='abc',
                        seconds=30.0,
                        machine=dict(device='CPU'),
                    ),
                )
            )
        )


@pytest.fixture
def stub(monkeypatch):
    stub = Stub()
    monkeypatch.setattr(ablation, 'run_tool', stub)
    return stub


@pytest.mark.exhaustive
def test_run_from_the_base_to_its_results_file(options, tmp_path, monkeypatch, capsys, request):
    """With the real tools, in this process."""

    def run_tool(log, env, tool, *args):
        monkeypatch.setenv('BASE_SAMPLE_ROOT', env.get('BASE_SAMPLE_ROOT', ''))
        name = 'tools.' + tool[:-3].replace('/', '.')
        assert importlib.import_module(name).main(list(args)) == 0

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    request.addfinalizer(lambda: torch.set_num_threads(threads))
    monkeypatch.setattr(ablation, 'run_tool', run_tool)
    monkeypatch.setattr(ablation_protocol, 'IMAGE_SIZE', 64)
    monkeypatch.setitem(ablation_protocol.TRAIN, 'images', 4)
    monkeypatch.setattr(ablation_protocol, 'SWEEP_SEEDS', (100,))
    monkeypatch.setitem(ablation_protocol.RATES, 'AdamW', (3e-4,))
    for phase in ('sweep', 'final'):
        monkeypatch.setitem(ablation_protocol.TEST[phase], 'images', 2)
    sweep = ['sweep', '--conditions', 'rb-h', *options]
    assert ablation.main(sweep) == 0
    assert 'No rates are chosen before' in capsys.readouterr().out
    file = tmp_path / 'results/sweep/rb-h_lr0.0003_seed100.json'
    run = json.loads(file.read_text())['run']
    assert run['num_images'] == 2 and run['seed'] == 100
    assert run['iteration'] == 2 and run['training_minutes'] > 0
    shared = run['protocol']
    assert shared['base_sha256'] == file_sha256(tmp_path / 'base.pth')
    assert shared['train']['images'] == 4 and shared['schedule']['norm_eval']
    # 2 blocks in each of 3 stages, 4 convolutions of the head, heatmaps.
    assert len(run['offsets']) == 6 + 4 + 1
    assert all(one['mean'] == 0 or one['mean'] < 1 for one in run['offsets'].values())
    assert len(run['curve']) == 2 and run['records_outside'] == 0
    start = load_checkpoint_file(tmp_path / 'base.pth')['state_dict']
    work_dir = tmp_path / 'runs/sweep/rb-h_lr0.0003_seed100'
    end = load_checkpoint_file(work_dir / 'iter_2.pth')['state_dict']
    model = MODELS.build(Config.fromfile(work_dir / Path(run['config']).name).model)
    assert run['parameters'] == sum(each.numel() for each in model.parameters())
    name = 'backbone.layer2.0.conv2.weight'  # two steps of a warm-up away
    torch.testing.assert_close(end[name], start[name], atol=1e-4, rtol=0)
    assert not torch.equal(end[name], start[name])


def test_restart_after_failures(options, stub, tmp_path, capsys):
    stub.break_at = 5
    with pytest.raises(SystemExit, match='11 runs failed.*\n.*killed'):
        ablation.main(['sweep', *options])
    assert not (tmp_path / 'results/choice.json').exists()
    stub.break_at = None
    capsys.readouterr()
    assert ablation.main(['all', *options]) == 0
    text = capsys.readouterr().out
    assert '16 runs, 5 of them finished before' in text
    finals = sum(each.seeds for each in ablation_protocol.CONDITIONS)
    assert len(stub.trained) == len(set(stub.trained)) == 16 + finals
    # SGD's higher rate gains AP; AdamW's rates tie, so that the lower wins.
    choice = json.loads((tmp_path / 'results/choice.json').read_text())
    assert choice['rates']['regular-sgd'] == 1e-2
    assert choice['rates']['rb-h'] == 1e-4
    run = json.loads((tmp_path / 'results/final/regular-sgd-b1_seed3.json').read_text())['run']
    assert run['settings']['optim_wrapper.optimizer.lr'] == 2.5e-3
    assert run['curve'] == [dict(iteration=50, loss=2.0), dict(iteration=100, loss=1.0)]
    assert run['parameters'] == 6
    assert run['training_minutes'] == 1.0  # (0.5 + 0.7) s x 50 iterations
    # A whole point in each seed, so the interval has no width.
    assert 'RB+H minus Regular' in text
    assert '+1.00 [+1.00, +1.00] higher' in text
    base = [line for line in text.splitlines() if line.startswith('| Base, not trained further')]
    assert len(base) == 3 and all(' 41.50 |' in line for line in base)  # README's table is one
    assert ablation.main(['all', *options]) == 0
    assert len(stub.trained) == 16 + finals


def test_other_base_or_protocol_is_refused(options, stub, tmp_path):
    begin = ['sweep', '--conditions', 'regular', *options]
    assert ablation.main(begin) == 0
    tested = tmp_path / 'results/base/sweep.json'
    content = tested.read_text()
    tested.write_text(content.replace(file_sha256(tmp_path / 'base.pth'), '0' * 64))
    with pytest.raises(
        SystemExit, match='checkpoint_sha256: expected that of the base.*--results'
    ):
        ablation.main(begin)
    tested.write_text(content)
    with pytest.raises(
        SystemExit,
        match=r'regular.*json: run.protocol.cfg_'
        r'options.train_cfg.max_iters: expected 3.*found 2',
    ):
        ablation.main([*begin, 'train_cfg.max_iters=3'])
    elsewhere = ['--results', str(tmp_path / 'elsewhere')]
    with pytest.raises(
        SystemExit,
        match='runs/sweep: holds trainings of '
        r'another protocol: cfg_options.train_cfg.max_iters is 2',
    ):
        ablation.main([*begin, 'train_cfg.max_iters=3', *elsewhere])
    _save_base(read_config(REGULAR), tmp_path / 'wide.pth')
    with pytest.raises(SystemExit, match='wide.pth: expected the weights of'):
        ablation.main([*begin, '--base', str(tmp_path / 'wide.pth')])
    (tmp_path / 'cut.pth').write_bytes((tmp_path / 'base.pth').read_bytes()[:5000])
    with pytest.raises(SystemExit, match='cut.pth'):
        ablation.main([*begin, '--base', str(tmp_path / 'cut.pth')])
    with pytest.raises(SystemExit, match='none.pth.*no such file.*--base'):
        ablation.main([*begin, '--base', str(tmp_path / 'none.pth')])
    with pytest.raises(SystemExit, match='choice.json.*sweep first'):
        ablation.main(['final', *options])
    shared = json.loads(next((tmp_path / 'results/sweep').iterdir()).read_text())['run'][
        'protocol'
    ]
    (tmp_path / 'results/choice.json').write_text(
        json.dumps(dict(rates={}, protocol=dict(shared, base_sha256='0' * 64)))
    )
    with pytest.raises(SystemExit, match='choice.json.*with the base of SHA'):
        ablation.main(['final', *options])


def test_results_of_a_changed_condition_are_refused(options, stub, tmp_path):
    assert ablation.main(['sweep', '--conditions', 'regular', *options]) == 0
    file = tmp_path / 'results/sweep/regular_lr0.0001_seed100.json'
    content = json.loads(file.read_text())
    content['run']['settings']['optim_wrapper.optimizer.weight_decay'] = 0.1
    file.write_text(json.dumps(content))
    with pytest.raises(ValueError, match='weight_decay.*expected 0.05'):
        offsets_tables.load_runs(file.parent)


def test_concurrent_runs_in_a_work_dir_are_refused(options, stub, tmp_path):
    (tmp_path / 'runs').mkdir()
    with open(tmp_path / 'runs/lock', 'w') as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(SystemExit, match='is still running there'):
            ablation.main(['sweep', *options])


def test_every_condition_changes_what_its_name_says():
    for run in ablation_protocol.final_runs(dict.fromkeys(ablation_protocol.BY_NAME, 1e-4)):
        if run.seed == 0:
            cfg = Config.fromfile(ROOT / run.config)
            cfg.merge_from_dict(run.settings)
            head = cfg.model.roi_head.keypoint_head
            refined = 'dcn' in cfg.model.backbone
            assert refined == run.condition.name.startswith('rb')
            plain = run.condition.variant.startswith('fpn-ms_regular')
            assert head.refine == (not plain and run.condition.name != 'rb-h-no-offset')
            assert cfg.optim_wrapper.optimizer.type == run.condition.optimizer
            assert cfg.param_scheduler[1].end == cfg.train_cfg.max_iters
            images = cfg.train_cfg.max_iters * cfg.train_dataloader.batch_size
            assert images == 2000
