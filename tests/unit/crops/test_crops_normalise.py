"""The intensity scale: robust to hot voxels, indifferent to how voxels arrive."""

import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import rv_histogram

from spatialdino_core.crops.normalise import Bounds, FrameBounds, bounds_of, normalise
from spatialdino_core.crops.parameters import NormalisationParameters
from spatialdino_core.errors import BadInputError

DEFAULT = NormalisationParameters()


@pytest.fixture(scope="module")
def movie():
    """Camera background and a bright box of shot noise, 1.8 million voxels."""
    generator = np.random.default_rng(0)
    background = generator.normal(100, 5, (3, 50, 100, 120))
    background[:, 10:30, 20:60, 20:60] += generator.gamma(2, 300, (3, 20, 40, 40))
    return np.rint(background).astype(np.uint16)


def by_scipy(voxels, fraction=1 / 5000):
    """Bounds from SciPy's distribution of a histogram."""
    counts, edges = np.histogram(voxels, np.arange(65537) - 0.5)
    return rv_histogram((counts, edges), density=False).ppf([fraction, 1 - fraction])


def change_by_a_hot_voxel(frame, value=65535):
    """Largest change of another voxel of the result."""
    hot = frame.copy()
    hot.flat[frame.size // 3] = value
    moved = normalise(hot, bounds_of([hot], DEFAULT)) - normalise(frame, bounds_of([frame], DEFAULT))
    moved.flat[frame.size // 3] = 0
    return np.abs(moved).max()


def test_bounds_are_quantiles_of_the_histogram(movie):
    bounds = bounds_of(movie, DEFAULT)
    assert (bounds.low, bounds.high) == pytest.approx(tuple(by_scipy(movie)), abs=1e-3)
    wider = bounds_of(movie, NormalisationParameters(tail_fraction=0.01))
    assert (wider.low, wider.high) == pytest.approx(tuple(by_scipy(movie, 0.01)), abs=1e-3)


@pytest.mark.parametrize("value", [0, 65535])
def test_a_hot_voxel_changes_no_other(movie, value):
    assert change_by_a_hot_voxel(movie, value) <= 1e-3


def test_a_hot_voxel_changes_no_other_of_real_movies(real_data):
    """Also where the whole range is 66 counts, and a bound that moved by one would be seen."""
    cell = tifffile.imread(real_data / "llsm_cell" / "raw_skewed.tif")
    yeast = tifffile.imread(real_data / "yeast_mitochondria" / "yeast_3d_mitochondria.ome.tif")
    for frame in (cell, yeast[0], yeast[15]):
        for value in (0, 65535):
            assert change_by_a_hot_voxel(frame, value) <= 1e-3


def test_it_is_not_the_minimum_and_maximum(movie):
    """Unclipped, it would cancel against a later min-max scaling, and one hot voxel set the scale."""
    hot = movie.copy()
    hot[0, 3, 4, 5] = 65535
    bounds = bounds_of([hot], DEFAULT)
    unclipped = (hot.astype(np.float64) - bounds.low) / (bounds.high - bounds.low)
    cancelled = (unclipped - unclipped.min()) / (unclipped.max() - unclipped.min())
    by_extremes = (hot - float(hot.min())) / (float(hot.max()) - float(hot.min()))
    assert np.abs(cancelled - by_extremes).max() < 1e-9, "the cancelled form is min-max, whatever the bounds"
    ours = normalise(hot, bounds)
    again = (ours - ours.min()) / (ours.max() - ours.min())
    assert np.abs(again - ours).max() < 1e-6, "nothing is left for a later min-max to undo"
    assert np.abs(ours - by_extremes).max() > 0.5


def test_signal_is_not_saturated_as_by_single_bins(real_data):
    """The literal rule, outermost bins with more than N/5000 voxels, saturates a cell's signal."""
    cell = tifffile.imread(real_data / "llsm_cell" / "raw_skewed.tif")
    histogram = np.bincount(cell.ravel(), minlength=65536)
    literal = np.flatnonzero(histogram > cell.size / 5000)[-1]
    assert (cell > literal).mean() > 0.02
    assert (cell > bounds_of([cell], DEFAULT).high).mean() < 3e-4


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(0, 1_800_000), max_size=6))
def test_bounds_do_not_depend_on_how_voxels_are_divided(movie, cuts):
    assert bounds_of(np.split(movie.ravel(), sorted(cuts)), DEFAULT) == bounds_of([movie], DEFAULT)


def test_values_are_float32_in_the_unit_interval(movie):
    values = normalise(movie, Bounds(100.0, 1000.0))
    assert values.dtype == np.float32
    assert values.min() == 0
    assert values.max() == 1
    inside = (movie > 100) & (movie < 1000)
    assert np.allclose(values[inside], (movie[inside] - 100.0) / 900, atol=1e-6)


def test_each_frame_by_itself(movie):
    dim, bright = movie[0], (movie[1] * 2).astype(np.uint16)
    scale = FrameBounds(1 / 5000)
    for frame in (dim, bright):
        assert np.array_equal(normalise(frame, scale), normalise(frame, bounds_of([frame], DEFAULT)))
    valid = np.zeros(dim.shape, bool)
    valid[:, :70] = True
    padded = np.where(valid, dim, np.uint16(7))
    assert FrameBounds(1 / 5000, valid).of(padded) == bounds_of([dim[valid]], DEFAULT)


@pytest.mark.parametrize("value", [0, 7, 65535])
def test_constant_movies_become_zeros(value):
    frame = np.full(100, value, np.uint16)
    bounds = bounds_of([frame], DEFAULT)
    assert bounds.low < bounds.high
    assert (normalise(frame, bounds) == 0).all()


def test_saturated_movies_keep_what_is_below():
    frame = np.full(10_000, 65535, np.uint16)
    frame[:4000] = np.arange(4000)
    values = normalise(frame, bounds_of([frame], DEFAULT))
    assert (values[4000:] > 0.9999).all()
    assert 0.05 < values[3999] < 0.07


def test_8_bit_movies_are_counts_and_floats_are_refused(movie):
    narrow = (movie // 16).clip(0, 255).astype(np.uint8)
    assert bounds_of([narrow], DEFAULT) == bounds_of([narrow.astype(np.uint16)], DEFAULT)
    with pytest.raises(BadInputError, match=r"float32 values.*uint16 or uint8"):
        bounds_of([np.zeros(5, np.float32)], DEFAULT)
    with pytest.raises(BadInputError, match="no valid voxel"):
        bounds_of([np.empty(0, np.uint16)], DEFAULT)


def test_a_global_scale_names_its_counts():
    given = NormalisationParameters(scale="global", low_counts=90, high_counts=700)
    assert (given.low_counts, given.high_counts) == (90, 700)
    for wrong in (
        dict(scale="global"),
        dict(scale="global", low_counts=90),
        dict(low_counts=90, high_counts=700),
        dict(scale="global", low_counts=700, high_counts=90),
    ):
        with pytest.raises(ValueError, match="counts"):
            NormalisationParameters(**wrong)
