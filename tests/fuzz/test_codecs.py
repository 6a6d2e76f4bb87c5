"""Random boxes and keypoints through the codecs."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from multitask_refine.codecs import RoIHeatmapCodec, RoISoftmaxCodec

_FAR = st.one_of(
    st.floats(-1e4, 1e4, width=32),
    st.floats(-(2.0**99), 2.0**99, width=32),
    st.sampled_from([0.0, -0.0, 1e-38, 3e38, -3e38]),
)
# Without values that float32 rounds to zero beside a box.
_NORMAL = _FAR.map(lambda x: x if abs(x) > 1e-9 else 0.0)
_CORNER = st.floats(-2e3, 2e3, width=32)
_EXTENT = st.sampled_from([0.0, 1e-6, 1e-3, 0.5, 1.0, 17.3, 640.0, 1e4])


@st.composite
def _rois(draw, count, extent=_EXTENT, corner=_CORNER):
    corners = [[draw(corner), draw(corner)] for _ in range(count)]
    extents = [[draw(extent), draw(extent)] for _ in range(count)]
    corners = torch.tensor(corners).reshape(count, 2)
    return torch.cat([corners, corners + torch.tensor(extents).reshape(count, 2)], 1)


@st.composite
def _keypoints(draw, count, keypoints=2, value=_FAR):
    values = draw(st.lists(value, min_size=count * keypoints * 2, max_size=count * keypoints * 2))
    return torch.tensor(values).reshape(count, keypoints, 2)


@st.composite
def _maps(draw, count, size, keypoints=2):
    """Draw noise, constant maps, single cells and values of all magnitudes."""
    maps = torch.rand(
        count,
        keypoints,
        size,
        size,
        generator=torch.Generator().manual_seed(draw(st.integers(0, 999))),
    )
    for i in range(count):
        kind = draw(st.sampled_from(['noise', 'constant', 'spike', 'steep']))
        if kind == 'constant':
            maps[i] = draw(st.sampled_from([0.0, 1e-38, 0.5, 1.0]))
        elif kind == 'spike':
            maps[i] = 0
            maps[i, :, draw(st.integers(0, size - 1)), draw(st.integers(0, size - 1))] = 1
        elif kind == 'steep':
            maps[i] **= 60
    return maps


@given(st.data(), st.integers(3, 20), st.integers(0, 3))
def test_heatmaps_of_any_keypoints_are_heatmaps(data, size, count):
    rois, keypoints = data.draw(_rois(count)), data.draw(_keypoints(count))
    heatmaps = RoIHeatmapCodec(size).encode(keypoints, torch.ones(count, 2) > 0, rois)
    assert heatmaps.shape == (count, 2, size, size)
    assert ((heatmaps >= 0) & (heatmaps <= 1)).all()


@given(st.data(), st.integers(3, 60), st.integers(1, 3))
def test_heatmap_round_trip(data, size, count):
    """Up to a hundredth of a cell and the rounding of float32."""
    rois = data.draw(_rois(count, st.floats(0.0625, 1e4, width=32)))
    extent = rois[:, None, 2:] - rois[:, None, :2]
    share = data.draw(_keypoints(count, value=st.floats(0.0625, 0.9375, width=32)))
    keypoints = rois[:, None, :2] + share * extent
    codec = RoIHeatmapCodec(size)
    decoded, scores = codec.decode(codec.encode(keypoints, torch.ones(count, 2) > 0, rois), rois)
    cell = extent / size
    rounding = 8 * torch.finfo(torch.float).eps * rois.abs().amax()
    assert ((decoded - keypoints).abs() <= 0.01 * cell + rounding).all()
    assert (scores > 0.7).all()


@given(st.data(), st.integers(3, 20), st.integers(0, 4))
def test_heatmaps_of_any_kind_decode(data, size, count):
    """Within half a cell of the maximum, finite, and alone as in a batch."""
    rois = data.draw(_rois(count))
    maps = data.draw(_maps(count, size))
    codec = RoIHeatmapCodec(size)
    points, scores = codec.decode(maps, rois)
    assert points.shape == (count, 2, 2) and points.isfinite().all()
    assert torch.equal(scores, maps.flatten(2).amax(-1))
    extent = (rois[:, None, 2:] - rois[:, None, :2]).clamp(min=1e-12)
    index = maps.flatten(2).argmax(-1)
    maxima = torch.stack([index % size, index // size], -1) + 0.5
    maxima = rois[:, None, :2] + maxima * extent / size
    rounding = 1e-6 * (1 + rois.abs().amax() if count else 1)
    assert ((points - maxima).abs() <= 0.501 * extent / size + rounding).all()
    for i in range(count):
        alone, score = codec.decode(maps[i : i + 1], rois[i : i + 1])
        assert torch.equal(alone[0], points[i])
        assert torch.equal(score[0], scores[i])


@given(st.data(), st.integers(1, 20), st.integers(0, 3))
def test_cells_of_any_keypoints_are_cells(data, size, count):
    rois = data.draw(_rois(count))
    keypoints = data.draw(_keypoints(count, value=_NORMAL))
    cells, valid = RoISoftmaxCodec(size).encode(keypoints, torch.ones(count, 2) > 0, rois)
    assert ((cells >= 0) & (cells < size * size)).all()
    rounding = 1e-6 * rois.abs().amax() if count else 0
    outside = (keypoints < rois[:, None, :2] - rounding) | (
        keypoints > rois[:, None, 2:] + rounding
    )
    assert not (valid & outside.any(-1)).any()


@given(st.data(), st.integers(2, 12), st.integers(0, 4), st.sampled_from(['probability', 'logit']))
def test_logits_of_any_kind_decode(data, size, count, score):
    """Inside the box (of at least one pixel), and alone as in a batch up to rounding."""
    extent = st.sampled_from([0.0, 1e-3, 0.5, 1.0, 1.5, 17.3, 130.0])
    rois = data.draw(_rois(count, extent))
    logits = 20 * data.draw(_maps(count, size)) - 10
    codec = RoISoftmaxCodec(size, score=score, max_pixels=2**14)
    points, scores = codec.decode(logits, rois)
    assert points.shape == (count, 2, 2) and points.isfinite().all()
    assert scores.shape == (count, 2) and scores.isfinite().all()
    width = (rois[:, None, 2:] - rois[:, None, :2]).clamp(min=1)
    inside = points - rois[:, None, :2]
    assert ((inside >= -1e-2) & (inside <= width + 1e-2)).all()
    for i in range(count):
        _, alone = codec.decode(logits[i : i + 1], rois[i : i + 1])
        torch.testing.assert_close(alone[0], scores[i], rtol=1e-4, atol=1e-4)


def test_no_boxes():
    """A regression test: it raised an IndexError."""
    points, scores = RoISoftmaxCodec(4).decode(torch.zeros(0, 3, 4, 4), torch.zeros(0, 4))
    assert points.shape == (0, 3, 2) and scores.shape == (0, 3)


@given(st.data(), st.integers(2, 30))
def test_softmax_round_trip(data, size):
    """A single maximum is decoded up to a cell and a pixel, if no cell is smaller than a
    pixel."""
    roi = data.draw(_rois(1, st.floats(size, 200, width=32)))
    extent = roi[:, None, 2:] - roi[:, None, :2]
    share = data.draw(_keypoints(1, value=st.floats(0.0625, 0.9375, width=32)))
    keypoints = roi[:, None, :2] + share * extent
    codec = RoISoftmaxCodec(size)
    cells, valid = codec.encode(keypoints, torch.ones(1, 2) > 0, roi)
    assert valid.all()
    logits = torch.zeros(1, 2, size * size).scatter(2, cells[..., None], 9.0)
    points, _ = codec.decode(logits.reshape(1, 2, size, size), roi)
    assert ((points - keypoints).abs() <= extent / size + 1.01).all()
