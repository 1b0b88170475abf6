"""The linear shear against SciPy's interpolation of the definition, in float64."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import map_coordinates

from spatialdino_core.kernels.shear import shear_planes, valid_columns

CASES = [(2.5579, 0.0), (0.3, 0.0468), (-1.7, -8.5), (4.0992, -0.37), (0.0, 0.0), (2.5, 0.0), (3.0, 1.0)]


def definition(raw, m, offset, width, fill):
    """out[k, y, i] = raw[k, y, i - m k + offset], linear, ``fill`` outside: float64, one sample at a time."""
    planes, rows, columns = raw.shape
    k, y, i = np.meshgrid(np.arange(planes), np.arange(rows), np.arange(width), indexing="ij")
    r = i - m * k + offset
    whole = np.abs(r - np.rint(r)) < 1e-9
    r = np.where(whole, np.rint(r), r)
    inside = (r >= 0) & (r <= columns - 1)
    sampled = map_coordinates(
        raw.astype(np.float64), [k, y, np.clip(r, 0, columns - 1)], order=1, mode="nearest"
    )
    return np.where(inside, sampled, fill), inside


@pytest.mark.parametrize(("m", "offset"), CASES)
@pytest.mark.parametrize("dtype", [np.uint16, np.float32])
def test_equals_the_definition(m, offset, dtype):
    raw = np.random.default_rng(0).integers(0, 65536, (6, 5, 17)).astype(dtype)
    expected, inside = definition(raw, m, offset, 33, 7)
    out = shear_planes(torch.from_numpy(raw), 0, m, offset, 33, 7).numpy()
    assert out.dtype == dtype
    tolerance = 0.51 if dtype == np.uint16 else 0.02
    assert np.abs(out - expected).max() <= tolerance
    for k in range(6):
        start, stop = valid_columns(k, m, offset, 17, 33)
        assert np.array_equal(np.flatnonzero(inside[k, 0]), np.arange(start, stop))


def test_integer_shift_lost_to_rounding_keeps_the_edge_columns():
    m = 0.5 * np.cos(np.radians(60)) / 0.1  # 2.5000000000000004
    raw = torch.full((5, 1, 4), 100, dtype=torch.uint16)
    out = shear_planes(raw, 0, m, 0.0, 14, 0).numpy()
    assert [int((out[k] > 0).sum()) for k in range(5)] == [4, 3, 4, 3, 4]


@settings(max_examples=60, deadline=None)
@given(st.floats(-5, 5), st.floats(-6, 6), st.integers(0, 65535), st.integers(1, 9))
def test_a_constant_stack_stays_constant(m, offset, value, columns):
    raw = torch.full((4, 3, columns), value, dtype=torch.uint16)
    out = shear_planes(raw, 0, m, offset, 30, 1).numpy()
    for k in range(4):
        start, stop = valid_columns(k, m, offset, columns, 30)
        assert (out[k, :, start:stop] == value).all()
        assert (np.delete(out[k], np.s_[start:stop], axis=1) == 1).all()


def test_blocks_and_strides_do_not_change_a_bit():
    raw = torch.from_numpy(np.random.default_rng(1).integers(0, 65536, (7, 19, 23)).astype(np.float32))
    whole = shear_planes(raw, 0, 1.237, 0.1, 40, 0.5)
    rows = shear_planes(raw, 0, 1.237, 0.1, 40, 0.5, block_bytes=8 * 23 * 3)
    planes = torch.cat([shear_planes(raw[k : k + 2], k, 1.237, 0.1, 40, 0.5) for k in range(0, 7, 2)])
    strided = shear_planes(raw.transpose(1, 2).contiguous().transpose(1, 2), 0, 1.237, 0.1, 40, 0.5)
    assert torch.equal(whole, rows)
    assert torch.equal(whole, planes)
    assert torch.equal(whole, strided)


def test_rounds_half_to_even_once():
    raw = torch.tensor([[[0, 1, 2, 3, 4, 5]]], dtype=torch.uint16)
    out = shear_planes(raw, 0, 0.0, 0.5, 5, 9)
    assert out.flatten().tolist() == [0, 2, 2, 4, 4]


def test_input_is_left_alone_and_other_types_are_refused():
    raw = torch.arange(24, dtype=torch.float32).reshape(2, 3, 4)
    before = raw.clone()
    shear_planes(raw, 0, 0.5, 0.0, 6, 0)
    assert torch.equal(raw, before)
    with pytest.raises(TypeError, match="float64"):
        shear_planes(raw.double(), 0, 0.5, 0.0, 6, 0)
