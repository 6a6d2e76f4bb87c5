"""Sampling points by hand, and figures of the offsets."""

import cv2
import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from mmdet.registry import MODELS
from mmdet.structures import DetDataSample
from mmengine.config import Config

from multitask_refine.ops import RefinedConv2d
from multitask_refine.visualization import (
    CellGrid,
    Sampling,
    analyze_offsets,
    offset_arrows,
    trace,
)
from multitask_refine.visualization.offset_figures import make_panels
from tests.conftest import SAMPLE_CONFIG
from tools.analysis_tools import show_offsets

HEIGHT, WIDTH = 64, 96
NET = {
    'model.backbone.base_channels': 4,
    'model.backbone.stem_channels': 4,
    'model.neck.in_channels': [32, 64, 128],
    'model.data_preprocessor.std': [60.0, 60.0, 60.0],
    'model.test_cfg.rpn.max_per_img': 5,
    'model.test_cfg.rcnn.score_thr': 0.0,
}


def _conv(offset=(0.0, 0.0), factor=None, **options):
    """A convolution whose kernels are all moved by the offset (x, y)."""
    conv = RefinedConv2d(1, 1, 3, modulated=factor is not None, **options)
    bias = conv.conv_offset.bias.data
    bias[0:18:2], bias[1:18:2] = offset[1], offset[0]
    if factor is not None:
        bias[18:] = torch.logit(torch.tensor(factor / 2))
    torch.nn.init.ones_(conv.weight)
    return conv


def _cell(x, y):
    return torch.tensor([float(x), float(y)])


def _axes(points):
    """The distinct x and y of points."""
    return [sorted(set(axis.tolist())) for axis in points.T]


@torch.no_grad()
def test_sampled_positions_by_hand():
    conv = _conv((-0.5, 0.25), stride=2, padding=1)
    sampling = Sampling.of(conv, torch.zeros(1, 1, 8, 8))
    points, weights = trace([sampling], _cell(1, 2))
    assert len(points) == 9
    assert _axes(points) == [[0.5, 1.5, 2.5], [3.25, 4.25, 5.25]]
    assert (weights == 1).all()
    # In an image of 32 pixels, where the map has stride 4.
    grid = CellGrid.over(torch.tensor([0.0, 0.0, 32.0, 32.0]), (8, 8))
    assert _axes(grid.to_image(points)) == [[4.0, 8.0, 12.0], [15.0, 19.0, 23.0]]


@torch.no_grad()
def test_dilated_kernel_and_padding():
    sampling = Sampling.of(_conv(padding=2, dilation=2), torch.zeros(1, 1, 8, 8))
    points, _ = trace([sampling], _cell(4, 1))
    # Row -1 reads nothing but zeros.
    assert _axes(points) == [[2.0, 4.0, 6.0], [1.0, 3.0]] and len(points) == 6


@torch.no_grad()
def test_offsets_are_interpolated_between_cells():
    """At fractional positions of the upper convolution."""
    lower = Sampling.of(_conv(padding=1), torch.zeros(1, 1, 9, 9))
    lower.offset[:, 0] = torch.arange(9.0) / 10  # x offset grows with x
    upper = Sampling.of(_conv((0.5, 0.0), padding=1), torch.zeros(1, 1, 9, 9))
    points, _ = trace([lower, upper], _cell(4, 4))
    expected = sorted(round(x + 0.1 * x + tap, 4) for x in (3.5, 4.5, 5.5) for tap in (-1, 0, 1))
    assert _axes(points)[0] == pytest.approx(expected)


@pytest.mark.parametrize('upper', [(-1.0, 2.0), (-0.75, 0.5)])
def test_traced_points_match_the_gradient(upper):
    """The gradient of two stacked convolutions reaches the same input cells."""
    convs = [_conv((0.5, -0.25), padding=1), _conv(upper, padding=1)]
    feature = torch.zeros(1, 1, 12, 12, requires_grad=True)
    middle = convs[0](feature)
    convs[1](middle)[0, 0, 5, 6].backward()
    (gradient,) = feature.grad[0]
    with torch.no_grad():
        stack = [Sampling.of(convs[0], feature), Sampling.of(convs[1], middle)]
        points, _ = trace(stack, _cell(6, 5))
    assert len(points) == 81 == pytest.approx(gradient.sum().item())
    cells = torch.arange(12.0)
    center = torch.stack([gradient.sum(0) @ cells, gradient.sum(1) @ cells])
    torch.testing.assert_close(points.mean(0), center / 81)
    if upper[0] == round(upper[0]):  # cell by cell
        reached = torch.zeros(12, 12, dtype=torch.bool)
        for x, y in points.floor().int().tolist():
            reached[y : y + 2, x : x + 2] = True
        assert torch.equal(gradient != 0, reached)


@torch.no_grad()
def test_modulation_of_version_2_is_multiplied():
    stack = [
        Sampling.of(_conv(factor=factor, padding=1), torch.zeros(1, 1, 9, 9))
        for factor in (0.5, 1.5)
    ]
    _, weights = trace(stack, _cell(4, 4))
    torch.testing.assert_close(weights, torch.full((81,), 0.75))


@torch.no_grad()
def test_deformable_groups():
    conv = RefinedConv2d(2, 2, 3, padding=1, groups=2, deform_groups=2)
    conv.conv_offset.bias.data[18:] = 1.0
    sampling = Sampling.of(conv, torch.zeros(1, 2, 9, 9))
    points, _ = trace([sampling], _cell(4, 4))
    assert len(points) == 18
    torch.testing.assert_close(points[9:], points[:9] + 1)


def test_nearest_cell_to_a_point():
    grid = CellGrid.over(torch.tensor([10.0, 20.0, 50.0, 60.0]), (4, 8))
    assert grid.cell.tolist() == [5.0, 10.0]
    assert grid.cell_at(torch.tensor([24.9, 30.0]), (4, 8)).tolist() == [2, 1]
    assert grid.cell_at(torch.tensor([99.0, 0.0]), (4, 8)).tolist() == [7, 0]


def test_arrows_are_true_to_length_and_thinned():
    offsets = torch.tensor([1.0, -0.5])[:, None, None].repeat(1, 8, 8)
    heatmap = torch.full((8, 8), 0.05)
    heatmap[3, 5] = 1.0
    grid = CellGrid.over(torch.tensor([100.0, 0.0, 116.0, 32.0]), (8, 8))
    arrows = offset_arrows(offsets, heatmap, grid)
    assert arrows.starts.tolist() == [[100 + 5.5 * 2, 3.5 * 4]]
    assert arrows.moves.tolist() == [[2.0, -2.0]]
    many = offset_arrows(offsets, torch.ones(8, 8), grid, max_arrows=20)
    assert len(many.starts) == 16


# ---- the model


def _config(path=SAMPLE_CONFIG, **options):
    cfg = Config.fromfile(path)
    cfg.merge_from_dict({**NET, **options})
    return cfg


def _network(cfg):
    torch.manual_seed(0)
    model = MODELS.build(cfg.model).eval()
    model.init_weights()
    model.roi_head.keypoint_head.heatmap_pred.weight.data *= 100
    return model


def _data():
    """The original image is twice as large."""
    torch.manual_seed(1)
    sample = DetDataSample(
        metainfo=dict(
            img_shape=(HEIGHT, WIDTH), ori_shape=(2 * HEIGHT, 2 * WIDTH), scale_factor=(0.5, 0.5)
        )
    )
    return dict(inputs=[110 + 60 * torch.randn(3, HEIGHT, WIDTH)], data_samples=[sample])


def _move_kernels(module, x, y):
    for conv in module.modules():
        if isinstance(conv, RefinedConv2d):
            conv.conv_offset.bias.data[0:18:2] = y
            conv.conv_offset.bias.data[1:18:2] = x


def test_without_offsets_the_points_are_the_regular_grid():
    analysis = analyze_offsets(_network(_config()), _data(), point=(96, 64))
    assert list(analysis.kernels) == ['conv3', 'conv4', 'conv5', 'keypoint head']
    assert analysis.missing == ['RoI pooling']
    for kernel in analysis.kernels.values():
        torch.testing.assert_close(kernel.points, kernel.regular)
    torch.testing.assert_close(analysis.heatmap.before, analysis.heatmap.after)
    assert (analysis.heatmap.arrows.moves == 0).all()
    # conv3: stride 8, so 16 pixels of the original image.
    kernel = analysis.kernels['conv3']
    assert kernel.start.tolist() == [96 + 8, 64 + 8]
    assert (kernel.depth, kernel.total) == (2, 2)
    assert _axes(kernel.points) == [[72, 88, 104, 120, 136], [40, 56, 72, 88, 104]]
    # The keypoint head: 14 cells over the person's box.
    head = analysis.kernels['keypoint head']
    cell = (analysis.box[2:] - analysis.box[:2]) / 14
    assert (head.depth, head.total) == (3, 3)
    steps = (head.points - analysis.box[:2]) / cell - 0.5
    torch.testing.assert_close(steps, steps.round(), rtol=0, atol=1e-3)
    assert ((head.start - analysis.location).abs() <= cell / 2 + 1e-3).all()


def test_an_offset_moves_the_points_by_offset_times_stride():
    model = _network(_config())
    _move_kernels(model.backbone.layer2, x=0.5, y=-0.25)
    analysis = analyze_offsets(model, _data(), point=(96, 64))
    kernel = analysis.kernels['conv3']
    torch.testing.assert_close(
        kernel.points - kernel.regular,
        torch.tensor([[2 * 0.5 * 16, 2 * -0.25 * 16]]).expand(81, 2),
    )
    other = analysis.kernels['conv4']
    torch.testing.assert_close(other.points, other.regular)


def test_heatmap_is_read_where_the_arrows_point():
    model = _network(_config())
    model.roi_head.keypoint_head.offset_pred.bias.data[0::2] = 1.0  # x
    analysis = analyze_offsets(model, _data(), keypoint=9)
    found, cell = analysis.heatmap, (analysis.box[2:] - analysis.box[:2]) / 28
    assert analysis.keypoint == 9
    torch.testing.assert_close(found.after[:, :-1], found.before[:, 1:])
    moves = found.arrows.moves
    torch.testing.assert_close(moves, torch.stack([cell[0], cell[1] * 0]).expand_as(moves))
    assert (found.keypoint_after - analysis.location).abs().max() == 0


def test_version_2_and_refined_pooling():
    refined = dict(type='RefinedConv2d', modulated=True)
    pooling = dict(_delete_=True, type='DeformRoIPool', output_size=14, in_channels=64)
    model = _network(
        _config(
            **{
                'model.backbone.dcn': refined,
                'model.roi_head.keypoint_head.conv_cfg': refined,
                'model.roi_head.keypoint_head.refine': False,
                'model.roi_head.instance_roi_extractor.roi_layer': pooling,
            }
        )
    )
    for layer in model.roi_head.instance_roi_extractor.roi_layers:
        layer.conv_offset.bias.data = torch.tensor([0.5, -1.0])
    analysis = analyze_offsets(model, _data(), instance=2)
    assert analysis.missing == ['heatmaps'] and analysis.location is not None
    extent = analysis.box[2:] - analysis.box[:2]
    moves = analysis.pooling.moves
    torch.testing.assert_close(moves, (0.1 * extent * torch.tensor([0.5, -1.0])).expand_as(moves))
    assert (analysis.kernels['conv5'].weights == 1).all()


def test_model_without_offsets_is_refused():
    path = str(SAMPLE_CONFIG).replace('rb-h', 'regular')
    cfg = _config(path, **{'model.roi_head.keypoint_head.refine': False})
    with pytest.raises(ValueError, match='no offsets'):
        analyze_offsets(MODELS.build(cfg.model).eval(), _data())


def test_model_without_keypoints():
    cfg = _config(**{'model.roi_head.keypoint_head': None})
    analysis = analyze_offsets(MODELS.build(cfg.model).eval(), _data())
    assert analysis.keypoint is analysis.location is analysis.heatmap is None
    assert analysis.missing == ['keypoint head', 'RoI pooling', 'heatmaps']


def test_points_are_drawn_at_their_positions():
    """In axes that count in pixels of the image."""
    model = _network(_config())
    _move_kernels(model.backbone, x=0.5, y=-0.25)
    analysis = analyze_offsets(model, _data(), point=(96, 64))
    image = np.zeros((2 * HEIGHT, 2 * WIDTH, 3), np.uint8)
    panels = {each.name: each for each in make_panels(image, analysis, 'nose')}
    kernel, ax = analysis.kernels['conv3'], Figure().subplots()
    panels['conv3'].draw(ax)
    assert ax.images[0].get_extent() == [0, 2 * WIDTH, 2 * HEIGHT, 0]
    drawn = {each.get_label(): each.get_offsets() for each in ax.collections}
    assert np.allclose(drawn['regular grid'], kernel.regular)
    found = [each for each in drawn.values() if len(each)][1]
    assert np.allclose(found, kernel.points)
    assert ax.lines[0].get_xydata().tolist() == [kernel.start.tolist()]
    ax = Figure().subplots()
    panels['heatmap_after'].draw(ax)
    x1, y1, x2, y2 = analysis.box.tolist()
    assert ax.images[1].get_extent() == [x1, x2, y2, y1]


# ---- the tool


@pytest.fixture(scope='module')
def files(tmp_path_factory):
    """A config and its weights, with offsets that are not zero."""
    folder = tmp_path_factory.mktemp('network')
    cfg = _config()
    model = _network(cfg)
    _move_kernels(model, x=0.5, y=-0.25)
    model.roi_head.keypoint_head.offset_pred.bias.data += 1
    torch.save(model.state_dict(), folder / 'weights.pth')
    cfg.dump(folder / 'config.py')
    return [str(folder / 'config.py'), str(folder / 'weights.pth')]


@pytest.fixture
def image_path(scene):
    return str(scene / 'val2017/000000000001.png')


def test_tool_writes_figures_that_are_not_blank(files, image_path, tmp_path, capsys):
    assert (
        show_offsets.main(
            [
                image_path,
                *files,
                '--out-dir',
                str(tmp_path / 'out'),
                '--keypoint',
                'left_wrist',
                '--person',
                '2',
                '--point',
                '20',
                '30',
            ]
        )
        == 0
    )
    printed = capsys.readouterr().out
    assert 'RoI pooling: has no offsets in this model, left out' in printed
    names = (
        'overview',
        'person',
        'conv3',
        'conv4',
        'conv5',
        'keypoint_head',
        'heatmap_before',
        'heatmap_after',
        'heatmap_offsets',
    )
    assert sorted(path.stem for path in (tmp_path / 'out').iterdir()) == sorted(names)
    for name in names:
        path = tmp_path / 'out' / f'{name}.png'
        assert str(path) in printed
        pixels = cv2.imread(str(path))
        # Also where the axes are, in the middle of the upper half.
        height, width = pixels.shape[:2]
        assert pixels.std() > 10
        assert pixels[height // 8 : height // 3, width // 4 :].std() > 10


@pytest.mark.parametrize(
    'options, message',
    [
        (['--keypoint', 'tail'], 'expected one of nose, left_eye'),
        (['--person', '99'], 'instance: expected 1 to'),
    ],
)
def test_wrong_keypoint_or_instance(files, image_path, tmp_path, options, message):
    with pytest.raises(SystemExit, match=message):
        show_offsets.main([image_path, *files, '--out-dir', str(tmp_path), *options])


def test_image_without_instances(files, image_path, tmp_path):
    config = tmp_path / 'config.py'
    config.write_text(
        f'_base_ = {files[0]!r}\nmodel = dict(test_cfg=dict(rcnn=dict(score_thr=1.1)))'
    )
    with pytest.raises(SystemExit, match='no instance was found'):
        show_offsets.main([image_path, str(config), files[1]])


def test_missing_image_is_named(files):
    with pytest.raises(SystemExit, match='nothing.jpg'):
        show_offsets.main(['nothing.jpg', *files])
