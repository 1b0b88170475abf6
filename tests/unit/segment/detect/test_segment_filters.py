"""Suppression, tiles and noise meshes against closed forms."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spatialdino_core.segment.detect.blobs import suppress
from spatialdino_core.segment.detect.noise import STRIDE, empty_mesh, fill_mesh, finish_mesh, mesh_cell
from spatialdino_core.segment.detect.tiles import best_known_tile, tiles
from spatialdino_core.segment.volume import Volume


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
    every = tuple(slice(None, None, step) for step in STRIDE)
    volume = Volume(response, (1.0, 1.0, 1.0), valid)
    fill_mesh(mesh, response[every], volume, tuple(slice(0, n) for n in response.shape), cell)
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


def test_a_mesh_is_blind_to_single_blobs_of_either_sign():
    """Or else bright and dark blobs of noise would not look alike."""
    rng = np.random.default_rng(3)
    plain = rng.normal(0, 1, (40, 80, 80)).astype(np.float32)
    levels = []
    for height in (-6, 6):
        response = plain.copy()
        for z, y, x in product(range(5, 40, 10), range(10, 80, 20), range(10, 80, 20)):
            response[z - 2 : z + 3, y - 4 : y + 5, x - 4 : x + 5] += height
        levels.append(_mesh(response, None, (10, 20, 20)).sigma.mean())
    assert levels[0] == pytest.approx(levels[1], rel=0.02)
    assert levels[0] == pytest.approx(1, rel=0.2)


def test_the_best_known_tile_is_valid_and_central():
    x = np.arange(2000)[None, None, :]
    empty, voxel_um = np.zeros((1, 1, 1), np.uint16), (1.0, 1.0, 1.0)
    valid = (x > 1500) & (x < 1700)
    volume = Volume(np.broadcast_to(empty, (60, 1000, 2000)), voxel_um, valid)
    tile = best_known_tile(volume, (9, 9, 9))
    assert tile.core[2].start < 1700
    assert tile.core[2].stop > 1500
    shape = (60, 3000, 3000)
    whole = best_known_tile(Volume(np.broadcast_to(empty, shape), voxel_um), (9, 9, 9))
    assert all(part.start <= n / 2 <= part.stop for part, n in zip(whole.core, shape, strict=True))
