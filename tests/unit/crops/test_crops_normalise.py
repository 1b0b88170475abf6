"""The intensity scale: robust to hot voxels, indifferent to how voxels arrive."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spatialdino_core.crops.normalise import Bounds, bounds_of, normalise
from spatialdino_core.crops.parameters import NormalisationParameters
from spatialdino_core.errors import BadInputError

DEFAULT = NormalisationParameters()


@pytest.fixture(scope="module")
def movie():
    generator = np.random.default_rng(0)
    background = generator.normal(100, 5, (3, 20, 50, 60))
    background[:, 5:12, 20:30, 20:30] += 1500
    return np.rint(background).astype(np.uint16)


def test_bounds_leave_a_five_thousandth_of_the_voxels_outside_at_each_end(movie):
    bounds = bounds_of(movie, DEFAULT)
    ordered = np.sort(movie, axis=None)
    outside = len(ordered) / 5000
    assert (ordered < bounds.low).sum() <= outside < (ordered <= bounds.low).sum()
    assert (ordered > bounds.high).sum() <= outside < (ordered >= bounds.high).sum()


def test_exactly_the_tail_is_left_outside():
    voxels = np.concatenate([[0, 0], np.full(5000, 100), np.full(4996, 200), [9999, 9999]]).astype(np.uint16)
    assert bounds_of([voxels], DEFAULT) == Bounds(100.0, 200.0)
    assert bounds_of([np.append(voxels, np.uint16([0, 9999]))], DEFAULT) == Bounds(0.0, 9999.0)


def test_a_hot_pixel_changes_no_voxel(movie):
    """It would divide all others by forty if bounds were minimum and maximum."""
    bounds = bounds_of(movie, DEFAULT)
    hot = movie.copy()
    hot[0, 3, 4, 5], hot[1, 1, 1, 1] = 65535, 0
    moved = normalise(hot, bounds_of(hot, DEFAULT)) - normalise(movie, bounds)
    moved[0, 3, 4, 5] = moved[1, 1, 1, 1] = 0
    assert np.abs(moved).max() <= 1e-3
    by_extremes = Bounds(float(hot.min()), float(hot.max()))
    assert np.abs(normalise(movie, by_extremes) - normalise(movie, bounds)).max() > 0.5


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(0, 180_000), max_size=6))
def test_bounds_do_not_depend_on_how_voxels_are_divided(movie, cuts):
    assert bounds_of(np.split(movie.ravel(), sorted(cuts)), DEFAULT) == bounds_of([movie], DEFAULT)


def test_values_are_float32_in_the_unit_interval(movie):
    values = normalise(movie, Bounds(100.0, 1000.0))
    assert values.dtype == np.float32
    assert values.min() == 0
    assert values.max() == 1
    inside = (movie > 100) & (movie < 1000)
    assert np.allclose(values[inside], (movie[inside] - 100.0) / 900, atol=1e-6)


def test_degenerate_movies():
    flat = bounds_of([np.full(100, 7, np.uint16)], DEFAULT)
    assert flat.low < flat.high
    assert bounds_of([np.full(100, 65535, np.uint16)], DEFAULT).low == 65535
    with pytest.raises(BadInputError, match="no valid voxel"):
        bounds_of([np.empty(0, np.uint16)], DEFAULT)
    with pytest.raises(TypeError, match="float32"):
        bounds_of([np.zeros(5, np.float32)], DEFAULT)
