"""Paths against the mean squared displacement of Brownian and of directed motion."""

from __future__ import annotations

import numpy as np
import pytest

from spatialdino_core.plant.paths import Motion, paths_um


@pytest.mark.parametrize(("step", "drift"), [(0.1, 0.0), (0.0, 0.2), (0.1, 0.2)])
def test_mean_squared_displacement(step: float, drift: float) -> None:
    start = np.random.default_rng(0).uniform(0, 10, (4000, 3))
    paths = paths_um(start, 9, Motion(step_um=step, drift_um=drift), np.random.default_rng(1))
    moved = np.mean(np.sum((paths[8] - paths[0]) ** 2, axis=1))
    assert moved == pytest.approx(8 * 3 * step**2 + (8 * drift) ** 2, rel=0.05)
    np.testing.assert_array_equal(paths[0], start)


def test_one_frame_and_no_particle() -> None:
    generator = np.random.default_rng(0)
    assert paths_um(np.zeros((3, 3)), 1, Motion(step_um=1.0), generator).shape == (1, 3, 3)
    assert paths_um(np.zeros((0, 3)), 4, Motion(step_um=1.0), generator).shape == (4, 0, 3)
