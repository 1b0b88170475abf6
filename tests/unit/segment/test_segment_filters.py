"""Filters against closed forms: Gaussian blobs, planes, quadratic forms; borders; tiles; noise meshes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spatialdino_core.segment.blobs import suppress
from spatialdino_core.segment.filters import border_gain, log_response, slope, smooth, weakest_curvature
from spatialdino_core.segment.noise import empty_mesh, fill_mesh, finish_mesh, mesh_cell
from spatialdino_core.segment.tiles import tiles

SIGMA = np.array([2.5, 3.0, 3.0])


def test_response_to_a_gaussian_blob_is_the_analytic_one(spots):
    blob_sigma = np.array([3.0, 2.5, 2.5])
    centre = np.array([[25.0, 30.0, 31.0]])
    block = spots((51, 61, 63), centre, 10.0, blob_sigma).astype(np.float32)
    response = log_response(smooth(block, None, SIGMA), SIGMA)
    total = blob_sigma**2 + SIGMA**2
    expected = 10 * np.prod(blob_sigma / np.sqrt(total)) * np.sum(SIGMA**2 / total)
    assert response[25, 30, 31] == pytest.approx(expected, rel=0.02)
    assert np.unravel_index(response.argmax(), response.shape) == (25, 30, 31)


@pytest.mark.parametrize("with_wedge", [False, True])
def test_constant_background_makes_no_response_up_to_the_border(with_wedge):
    z, x = np.arange(20)[:, None, None], np.arange(60)[None, None, :]
    valid = (x > z) & (x < 35 + z) if with_wedge else None
    block = np.full((20, 24, 60), 50, np.float32)
    block = block if valid is None else np.where(valid, block, np.float32(0))
    response = log_response(smooth(block, valid, SIGMA), SIGMA)
    inside = np.ones(block.shape, bool) if valid is None else np.broadcast_to(valid, block.shape)
    assert np.abs(response[inside]).max() < 0.01


def test_a_ramp_makes_no_response_away_from_the_border():
    ramp = np.broadcast_to(np.arange(80, dtype=np.float32), (30, 40, 80))
    response = log_response(smooth(ramp, None, SIGMA), SIGMA)
    assert np.abs(response[13:-13, 14:-14, 14:-14]).max() < 0.01


def test_border_gain_is_the_noise_of_the_smoothed_border():
    rng = np.random.default_rng(0)
    noise = rng.standard_normal((12, 400, 400)).astype(np.float32)
    mean = smooth(noise, None, np.array([2.0, 2.0, 2.0]))
    at = np.array([[0, 200, 200], [6, 200, 200]])
    gain = border_gain(noise.shape, None, np.array([2.0, 2.0, 2.0]), at)
    measured = mean[0, 20:-20, 20:-20].std() / mean[6, 20:-20, 20:-20].std()
    assert gain[0] / gain[1] == pytest.approx(measured, rel=0.05)


def test_weakest_curvature_of_a_quadratic_form():
    z, y, x = np.meshgrid(*(np.arange(7.0) - 3 for _ in range(3)), indexing="ij")
    form = np.array([[3.0, 0.4, 0.1], [0.4, 2.0, -0.7], [0.1, -0.7, 1.0]])
    points = np.stack([z, y, x], axis=-1)
    mean = -0.5 * np.einsum("...i,ij,...j", points, form, points).astype(np.float32)
    scale = np.array([1.0, 1.5, 2.0])
    expected = np.linalg.eigvalsh(form * np.outer(scale, scale))[0]
    assert weakest_curvature(mean, np.array([[3, 3, 3]]), scale)[0] == pytest.approx(expected, rel=1e-4)


def test_slope_of_a_plane():
    z, y, x = np.meshgrid(*(np.arange(7.0) for _ in range(3)), indexing="ij")
    plane = (2 * z - 3 * y + x).astype(np.float32)
    scale = np.array([1.0, 1.5, 2.0])
    assert slope(plane, np.array([[3, 3, 3]]), scale)[0] == pytest.approx(np.sqrt(4 + 4.5**2 + 4), rel=1e-5)


def test_suppression_keeps_the_first_of_close_rows():
    line = np.array([[0.0, 0, 0], [0, 0, 0.8], [0, 0, 1.6], [0, 0, 5.0]])
    assert suppress(line, np.ones(4)).tolist() == [True, False, True, True]
    assert suppress(line, np.array([2.0, 1, 1, 1])).tolist() == [True, False, False, True]
    assert suppress(line[:0], np.empty(0)).tolist() == []


@settings(max_examples=40, deadline=None)
@given(
    shape=st.tuples(*[st.integers(1, 16)] * 3),
    grid=st.tuples(*[st.integers(1, 9)] * 3),
    halo=st.tuples(*[st.integers(0, 4)] * 3),
    limit=st.integers(20, 3_000),
)
def test_tile_cores_partition_the_frame(shape, grid, halo, limit):
    seen = np.zeros(shape, int)
    for tile in tiles(shape, grid, halo, limit):
        seen[tile.core] += 1
        outer = np.zeros(shape, bool)
        outer[tile.outer] = True
        marked = np.zeros(shape, bool)
        marked[tile.outer][tile.inner] = True
        assert np.array_equal(np.argwhere(marked), np.argwhere(np.isin(seen, [1]) & marked))
        for core, whole, n, margin in zip(tile.core, tile.outer, shape, halo, strict=True):
            assert whole.start == max(core.start - margin, 0)
            assert whole.stop == min(core.stop + margin, n)
    assert (seen == 1).all()


def _mesh(response, valid, cell):
    mesh = empty_mesh(response.shape, cell)
    fill_mesh(mesh, response, valid, tuple(slice(0, n) for n in response.shape), cell)
    return finish_mesh(mesh, cell)


def test_mesh_measures_noise_despite_bright_particles():
    rng = np.random.default_rng(1)
    response = rng.normal(0, 3, (40, 80, 80)).astype(np.float32)
    response[rng.random(response.shape) < 0.05] += 100
    mesh = _mesh(response, None, (10, 20, 20))
    assert mesh.sigma.mean() == pytest.approx(3, rel=0.12)


def test_mesh_follows_local_noise_and_borrows_where_nothing_is_valid():
    rng = np.random.default_rng(2)
    response = rng.normal(0, 1, (20, 40, 240)).astype(np.float32)
    response[:, :, 120:] *= 5
    valid = (np.arange(240) < 200)[None, None, :]
    response[:, :, 200:] = 1e6
    mesh = _mesh(response, valid, (10, 20, 20))
    noise = mesh.at(np.array([[10, 20, 30.0], [10, 20, 170], [10, 20, 230]]))
    assert noise == pytest.approx([1, 5, 5], rel=0.3)


def test_mesh_of_a_constant_frame_is_zero():
    assert (_mesh(np.zeros((4, 8, 8), np.float32), None, (2, 4, 4)).sigma == 0).all()


def test_mesh_cells_hold_enough_voxels():
    assert mesh_cell(1.0, (0.209, 0.104, 0.104)) == (6, 10, 10)
    assert np.prod(mesh_cell(0.1, (0.5, 0.2, 0.2))) >= 256
