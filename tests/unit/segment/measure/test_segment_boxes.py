"""Boxes against slices of a padded frame, their neighbours' light against the formula."""

from __future__ import annotations

import numpy as np
import pytest

from spatialdino_core.segment.measure import boxes
from spatialdino_core.segment.measure.boxes import FADED, Boxes, Light, cut_boxes, neighbours
from spatialdino_core.segment.measure.least_squares import model, normal_equations, solve, weighted_products
from spatialdino_core.segment.volume import Volume

VOXEL_UM = (0.2, 0.1, 0.1)
SHAPES = [(7, 9, 11), (1, 6, 13), (5, 1, 1)]
TERMS = np.array([(0, 0, 0), (1, 0, 0), (2, 2, 2), (1, 2, 0), (0, 1, 2)])


def masks(shape: tuple[int, ...], rng: np.random.Generator) -> list[np.ndarray | None]:
    whole = rng.random(shape) > 0.2
    return [None, np.ones(shape, bool), whole, whole[:, :1], whole[:1], whole[:, :, :1]]


def joined(parts: list[Boxes], name: str) -> np.ndarray:
    return np.concatenate([getattr(part, name) for part in parts])


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("dtype", [np.uint16, np.float32])
def test_boxes_are_slices_of_the_padded_frame(shape, dtype, monkeypatch):
    rng = np.random.default_rng(0)
    half = np.array([2, 3, 1])
    places = rng.uniform(-0.5, np.array(shape) - 0.5, (20, 3))
    monkeypatch.setattr(boxes, "CHUNK_VOXELS", 500)
    for valid in masks(shape, rng):
        known = np.broadcast_to(True if valid is None else valid, shape)
        frame = rng.integers(0, 60000, shape).astype(dtype)
        if dtype == np.float32:
            frame[~known] = np.nan
        around = [(h, h) for h in half + 1]
        padded = np.pad(np.where(known, frame, 0).astype(np.float32), around)
        padded_known = np.pad(known, around)
        rows = np.arange(20)[::-1]
        found = list(cut_boxes(Volume(frame, VOXEL_UM, valid), places, rows, half))
        assert len(found) > 1
        assert joined(found, "rows").tolist() == rows.tolist()
        for i, row in enumerate(rows):
            start = np.round(places[row]).astype(int) + 1
            part = tuple(slice(s, s + 2 * h + 1) for s, h in zip(start, half, strict=True))
            assert np.array_equal(joined(found, "values")[i], padded[part])
            assert np.array_equal(joined(found, "usable")[i], padded_known[part])
            assert joined(found, "count")[i] == padded_known[part].sum()
            assert (joined(found, "corner")[i] == start - 1 - half).all()


def test_near_places_are_known_to_one_another():
    rng = np.random.default_rng(1)
    places, reach = rng.uniform(0, 20, (60, 3)), np.array([2.0, 4.0, 6.0])
    near = neighbours(places, reach)
    apart = (np.abs(places[:, None] - places) <= reach).all(axis=2) & ~np.eye(60, dtype=bool)
    for i in range(60):
        assert near.other[near.first[i] : near.first[i + 1]].tolist() == np.flatnonzero(apart[i]).tolist()
    assert neighbours(np.empty((0, 3)), reach).first.tolist() == [0]


def test_light_of_neighbours_is_taken_off():
    rng = np.random.default_rng(2)
    shape, n, half = (9, 14, 16), 12, np.array([2, 3, 3])
    position = rng.uniform(0, np.array(shape) - 1, (n, 3))
    sigma, amplitude = rng.uniform(0.7, 1.6, (n, 3)), rng.uniform(-5, 50, n)
    frame, valid = rng.uniform(0, 9, shape).astype(np.float32), rng.random((9, 1, 16)) > 0.1
    light = Light(position, sigma, amplitude, neighbours(position, half + FADED * sigma.max(axis=0) + 1))
    grid = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), axis=-1)
    bells = [
        np.exp(-0.5 * (((grid - p) / s) ** 2).sum(axis=-1)) for p, s in zip(position, sigma, strict=True)
    ]
    for cut in cut_boxes(Volume(frame, VOXEL_UM, valid), position, np.arange(n), half):
        found = light.without(cut, half)
        level = found.level
        for i in range(n):
            apart = np.abs(position[i] - position) < half + 1 + FADED * sigma
            shed = sum(amplitude[m] * bells[m] for m in range(n) if m != i and apart[m].all())
            dimmer = Volume((frame - shed).astype(np.float32), VOXEL_UM, valid)
            (expected,) = cut_boxes(dimmer, position, np.array([i]), half)
            values, usable = expected.values[0], expected.usable[0]
            assert level[i] == pytest.approx(values[usable].mean(), abs=1e-5)
            assert np.abs(found.values[i] - np.where(usable, values - level[i], 0)).max() < 1e-5


@pytest.fixture(params=[None, "mask"])
def design(request) -> tuple[Boxes, np.ndarray, np.ndarray]:
    """Boxes at borders and inside, their profiles, and the terms of a model in full (n, terms, z, y, x)."""
    rng = np.random.default_rng(3)
    shape, half = (8, 9, 12), np.array([2, 1, 3])
    valid = None if request.param is None else rng.random((8, 1, 12)) > 0.3
    places = np.vstack([rng.uniform(-0.5, np.array(shape) - 0.5, (9, 3)), [4, 4, 5]])
    volume = Volume(rng.normal(size=shape).astype(np.float32), VOXEL_UM, valid)
    (cut,) = cut_boxes(volume, places, np.arange(10), half)
    offset = cut.offsets(places, np.full((10, 3), 1.7))
    profiles = cut.profiles(np.ones_like(offset), offset, np.exp(-0.5 * offset**2))
    z, y, x = (profiles[:, a][:, TERMS[:, a], : 2 * h + 1] for a, h in enumerate(half))
    full = z[:, :, :, None, None] * y[:, :, None, :, None] * x[:, :, None, None]
    return cut, profiles, full


def test_sums_by_axes_are_sums_over_voxels(design):
    cut, profiles, full = design
    products, right = normal_equations(cut, profiles, TERMS)
    usable = full * cut.usable[:, None]
    assert products == pytest.approx(np.einsum("ntzyx,nszyx->nts", usable, full), rel=1e-9, abs=1e-9)
    assert right == pytest.approx(np.einsum("ntzyx,nzyx->nt", full, cut.values), rel=1e-6, abs=1e-6)
    weights = np.random.default_rng(4).random(cut.values.shape)
    weighted = np.einsum("ntzyx,nszyx,nzyx->nts", full, full, weights)
    assert weighted_products(weights, profiles, TERMS) == pytest.approx(weighted, rel=1e-9, abs=1e-9)
    linear = np.random.default_rng(5).normal(size=(10, 3))
    expected = np.einsum("nt,ntzyx->nzyx", linear, full[:, :3])
    assert model(linear, profiles, TERMS, cut.values.shape) == pytest.approx(expected, rel=1e-9, abs=1e-9)


def test_the_solution_is_that_of_least_squares(design):
    cut, profiles, full = design
    found = solve(*normal_equations(cut, profiles, TERMS[:3]))
    i = 9
    columns = full[i, :3][:, cut.usable[i]].T
    expected = np.linalg.lstsq(columns, cut.values[i][cut.usable[i]], rcond=None)[0]
    assert found[i] == pytest.approx(expected, rel=1e-5)
    residual = cut.squares_without(model(found, profiles, TERMS, cut.values.shape))
    assert residual[i].sum() == pytest.approx(
        np.sum((cut.values[i][cut.usable[i]] - columns @ expected) ** 2)
    )
    assert not residual[~cut.usable].any()
