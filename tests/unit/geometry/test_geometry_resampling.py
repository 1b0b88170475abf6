"""Resampling along one axis: no aliases, and the way back from a coarse grid."""

import numpy as np

from spatialdino_core.geometry.resampling import resample_axis


def test_smoothing_prevents_aliases():
    """Stripes finer than the target grid can hold vanish instead of turning into coarse ones."""
    stripes = 1000.0 + 500 * np.cos(np.pi * 0.9 * np.arange(200))
    inside = resample_axis(stripes, 0, 4.0)[3:-3]
    assert np.abs(inside - 1000).max() < 1
    assert np.abs(stripes[::4][3:-3] - 1000).max() > 400


def test_the_way_back_is_the_same_function():
    """Values of a coarse grid, first sample off the origin, at the voxels of a fine one."""
    coarse = np.random.default_rng(2).normal(size=(6, 4))
    spacing, origin, voxel = 0.832, 0.364, 0.2612
    found = resample_axis(coarse, 0, voxel / spacing, start=-origin / spacing, length=20)
    position = np.arange(20) * voxel
    for column in range(4):
        expected = np.interp(position, origin + spacing * np.arange(6), coarse[:, column])
        assert np.allclose(found[:, column], expected, atol=1e-6)
