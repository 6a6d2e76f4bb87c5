"""User mistakes end in a message without a traceback, in every tool."""

import json
import re

import pytest
import torch

from demo import image_demo, video_demo
from multitask_cli import test, train
from multitask_refine.converters import detectron2 as detectron2_to_multitask
from multitask_refine.converters import mmdet as mmdet_to_multitask
from multitask_refine.converters import torchvision as torchvision_to_multitask
from multitask_refine.utils.errors import explained_errors
from tests.conftest import SAMPLE_CONFIG
from tools import ablation
from tools import reproduce_tables as benchmark
from tools.analysis_tools import report, show_offsets
from tools.dataset import check_coco, make_sample
from tools.deployment import export_onnx, quantize_onnx
from tools.docs import ablation_tables

CONFIG = str(SAMPLE_CONFIG)
# Broken configs and what the message must contain.
BROKEN = {
    'syntax': ('model = dict(', 'SyntaxError: .*line 1'),
    'base': ("_base_ = './nowhere.py'", 'nowhere.py'),
    'name': ('model = dict(depth=deth)', "NameError: name 'deth'"),
    'import': ("custom_imports = dict(imports=['nowhere'])", 'nowhere'),
    'text': (
        f"_base_ = {CONFIG!r}\noptim_wrapper = dict(_delete_=True)\noptim_wrapper = 'SGD'",
        "optim_wrapper: expected a dict.*'SGD'",
    ),
    'list': (f'_base_ = {CONFIG!r}\nvisualizer = [1]', 'visualizer: expected'),
    'hook': (
        f"_base_ = {CONFIG!r}\ndefault_hooks = dict(timer='x')",
        'default_hooks.timer: expected a dict',
    ),
    'none': (f'_base_ = {CONFIG!r}\nmodel = None', 'model: expected a dict'),
    'empty': ('', 'model: expected a dict, found None'),
    'data': (
        f'_base_ = {CONFIG!r}\ntrain_dataloader = dict(_delete_=True, batch_size=1)',
        r'train_dataloader: expected dataset=dict',
    ),
    'type': (
        f"_base_ = {CONFIG!r}\nmodel = dict(type='MultitaskRCN')",
        "type='MultitaskRCN'.*Did you mean 'MultitaskRCNN'",
    ),
    'argument': (
        f'_base_ = {CONFIG!r}\nmodel = dict(backbone=dict(dept=50))',
        "ResNet.*unexpected keyword argument 'dept'",
    ),
    'untyped': (
        f'_base_ = {CONFIG!r}\nmodel = dict(neck=dict(_delete_=True, in_channels=[1]))',
        'expected dict.type',
    ),
    'value': (
        f'_base_ = {CONFIG!r}\nmodel = dict(backbone=dict('
        "_delete_=True, type='ResNet', depth=51))",
        "type='ResNet': KeyError: invalid depth 51",
    ),
    'some': (
        f'_base_ = {CONFIG!r}\nval_cfg = None',
        'val_dataloader, val_cfg, val_evaluator: .*None for val_cfg',
    ),
}


def _assert_exits(main, argv, words):
    with pytest.raises(SystemExit) as stop:
        main(argv)
    assert isinstance(stop.value.code, str), stop.value.code
    assert re.search(words, stop.value.code), stop.value.code


@pytest.mark.parametrize('kind', BROKEN)
def test_training_explains_broken_config(kind, tmp_path):
    text, words = BROKEN[kind]
    config = tmp_path / 'config.py'
    config.write_text(text)
    _assert_exits(train.main, [str(config), '--work-dir', str(tmp_path)], words)


@pytest.mark.parametrize('kind', ['syntax', 'type', 'text'])
def test_other_tools_explain_broken_config_alike(kind, scene, tmp_path):
    text, words = BROKEN[kind]
    config, weights = tmp_path / 'config.py', tmp_path / 'weights.pth'
    config.write_text(text)
    torch.save(dict(state_dict={'a': torch.zeros(1)}), weights)
    image = str(scene / 'train2017/000000000001.png')
    options = ['--cfg-options', f'test_dataloader.dataset.data_root={scene}/']
    names = [str(config), str(weights)]
    for main, argv in (
        (test.main, [*names, '--work-dir', str(tmp_path), *options]),
        (export_onnx.main, [*names, 'x.onnx']),
        (image_demo.main, [image, *names]),
        (show_offsets.main, [image, *names]),
        (torchvision_to_multitask.main, [*names, str(tmp_path / 'x.pth')]),
    ):
        _assert_exits(main, argv, words)


MISSING = [
    (train.main, ['no.py']),
    (test.main, ['no.py', 'no.pth']),
    (test.main, [CONFIG, 'no.pth']),
    (test.main, [CONFIG, 'no.onnx']),
    (export_onnx.main, ['no.py', 'no.pth', 'x.onnx']),
    (export_onnx.main, [CONFIG, 'no.pth', 'x.onnx']),
    (quantize_onnx.main, ['no.onnx', 'x.onnx', '--to', 'float16']),
    (image_demo.main, ['no.jpg', CONFIG, 'no.pth']),
    (image_demo.main, ['no.jpg', 'no.py', 'no.pth']),
    (image_demo.main, ['no.jpg', 'no.onnx']),
    (video_demo.main, ['no.mp4', CONFIG, 'no.pth']),
    (show_offsets.main, ['no.jpg', 'no.py', 'no.pth']),
    (report.main, ['no.json']),
    (detectron2_to_multitask.main, ['no.py', 'no.pkl', 'x.pth']),
    (mmdet_to_multitask.main, [CONFIG, 'no.pth', 'x.pth']),
    (benchmark.main, ['no', '--list']),
]


@pytest.mark.parametrize(
    'main, argv', MISSING, ids=[f'{m.__module__}{i}' for i, (m, _) in enumerate(MISSING)]
)
def test_missing_file_is_named(main, argv, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    if main is test.main:
        argv = [*argv, '--work-dir', str(tmp_path)]
    _assert_exits(main, argv, r'\bno\b')


def test_options_that_do_not_fit_the_config_are_explained(tmp_path):
    for option, words in (
        ('param_scheduler.7.end=1', 'cfg-options param_scheduler.7.end: '),
        ('train_cfg=x', "train_cfg: expected a dict.*'x'"),
        ('model.neck.num_outs=[1]', "type='FPN': "),
    ):
        _assert_exits(
            train.main, [CONFIG, '--work-dir', str(tmp_path), '--cfg-options', option], words
        )


@pytest.mark.parametrize('option', ['--format-only', '--predictions=a.json'])
def test_output_files_require_a_single_metric(option, tmp_path):
    config = tmp_path / 'several.py'
    config.write_text(f'_base_ = {CONFIG!r}\ntest_evaluator = [_base_.val_evaluator] * 2')
    _assert_exits(
        test.main,
        [str(config), 'a.pth', '--work-dir', str(tmp_path), option],
        'expected one MultitaskCocoMetric',
    )


@pytest.mark.parametrize(
    'option', ["custom_hooks=[dict(type='A', interval=2)]", 'model.neck.in_channels=[1,2', 'x']
)
@pytest.mark.parametrize('main', [train.main, export_onnx.main])
def test_unparsable_options_are_explained(main, option, capsys):
    with pytest.raises(SystemExit) as ended:
        main(
            [CONFIG, 'a.pth', 'a.onnx'][: 1 if main is train.main else 3]
            + ['--cfg-options', option]
        )
    assert ended.value.code == 2
    assert '--cfg-options: expected NAME=VALUE' in capsys.readouterr().err


def test_broken_results_file_is_named(tmp_path):
    (tmp_path / 'a.json').write_text('[')
    _assert_exits(ablation_tables.main, [str(tmp_path)], 'a.json')


def test_data_tools_exit_with_their_own_status(tmp_path, capsys):
    meta = tmp_path / 'meta.py'
    meta.write_text('dataset_info = dict(sigmas=[])')
    ann = tmp_path / 'a.json'
    ann.write_text(json.dumps(dict(images=[], categories=[])))
    assert check_coco.main([str(ann), '--meta', str(meta)]) == 2
    assert 'meta.py: dataset_info: expected' in capsys.readouterr().err
    (tmp_path / 'sample').mkdir()
    (tmp_path / 'sample/mine.txt').touch()
    assert make_sample.main([str(tmp_path / 'sample')]) == 1
    assert 'was not made by this tool' in capsys.readouterr().err


def test_bugs_keep_their_traceback():
    for error in (
        KeyError('x'),
        TypeError("f() got 'x'"),
        ValueError('x'),
        RuntimeError('x'),
        OSError('x'),
    ):
        with pytest.raises(type(error)), explained_errors():
            raise error
    with pytest.raises(SystemExit, match='full.txt: No space left'), explained_errors():
        raise OSError(28, 'No space left on device', 'full.txt')


def test_ablation_refuses_unknown_condition():
    with pytest.raises(SystemExit) as stop:
        ablation.main(['sweep', '--conditions', 'nothing'])
    assert stop.value.code == 2
