"""What is planted: heights against the definition of SNR, places and motion against what was asked."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy.spatial import cKDTree

from spatialdino_core.audit.ladder import APART, NEAR, SNR, draw_rungs, measured_motion, peak_counts
from spatialdino_core.plant.camera import CameraNoise
from spatialdino_core.plant.paths import Motion, paths_um

SIGMA = np.array([0.3, 0.12, 0.12])
BOX = np.array([[0.0, 0.0, 0.0], [8.0, 20.0, 30.0]])


def objects(number: int) -> pd.DataFrame:
    places = np.random.default_rng(0).uniform(*BOX, (number, 3))
    return pd.DataFrame(places, columns=["z_um", "y_um", "x_um"])


def test_heights_have_the_ratio_that_was_asked_for() -> None:
    noise, snr = CameraNoise(gain=2.0, intercept=-191.0), np.array(SNR)
    peak = peak_counts(snr, np.full(len(snr), 120.0), noise)
    np.testing.assert_allclose(peak / np.sqrt(2.0 * 120 - 191 + 2.0 * peak), snr, rtol=1e-9)


@pytest.mark.parametrize("number", [0, 5, 300])
def test_planted_particles_lie_where_others_were_found_and_apart(number: int) -> None:
    found = objects(number)
    rungs = draw_rungs(found, BOX, SIGMA, Motion(step_um=0.1), 6, np.random.default_rng(1))
    start = rungs.path_um[0]
    assert rungs.path_um.shape == (6, len(rungs.snr), 3)
    assert len(start) >= 20
    assert ((start >= BOX[0]) & (start <= BOX[1])).all()
    between, _ = cKDTree(start / SIGMA).query(start / SIGMA, k=2)
    assert between[:, 1].min() >= APART
    if number:
        nearest, _ = cKDTree(found.to_numpy() / SIGMA).query(start / SIGMA)
        assert nearest.min() >= NEAR[0]
        assert nearest.max() <= NEAR[1]
    assert np.unique(rungs.snr).tolist() == list(SNR)


@pytest.mark.parametrize("error", [0.0, 0.05])
def test_motion_is_measured_without_the_error_of_positions(error: float) -> None:
    generator = np.random.default_rng(2)
    paths = paths_um(generator.uniform(0, 9, (200, 3)), 10, Motion(step_um=0.12), generator)
    paths += error * generator.standard_normal(paths.shape)
    rows = [
        {
            "track_id": n + 1,
            "frame": f,
            "label": n + 1,
            "gap": 0,
            **dict(zip(("z_um", "y_um", "x_um"), at, strict=True)),
        }
        for f, frame in enumerate(paths)
        for n, at in enumerate(frame)
    ]
    tracks = pd.DataFrame(rows)
    table = tracks[["frame", "label"]].assign(**{f"localisation_{axis}_um": error for axis in "zyx"})
    assert measured_motion(tracks, table).step_um == pytest.approx(0.12, rel=0.05)
    assert measured_motion(tracks.head(0), table).step_um == 0
