"""Spreads against formulas."""

from __future__ import annotations

import numpy as np
import pytest

from spatialdino_core.errors import BadInputError
from spatialdino_core.plant.spread import gaussian_spread, measured_spread

SIGMA_UM = (0.3, 0.13, 0.13)
VOXEL_UM = (0.2, 0.1, 0.1)


def gaussian(z: np.ndarray, y: np.ndarray, x: np.ndarray) -> np.ndarray:
    return np.exp(-0.5 * ((z / SIGMA_UM[0]) ** 2 + (y / SIGMA_UM[1]) ** 2 + (x / SIGMA_UM[2]) ** 2))


def bead(shift_voxels: tuple[float, float, float], noise: float = 0.0) -> np.ndarray:
    z, y, x = (
        (np.arange(n) - n // 2 - shift) * size
        for n, shift, size in zip((17, 25, 25), shift_voxels, VOXEL_UM, strict=True)
    )
    light = 1000 * gaussian(z[:, None, None], y[:, None], x) + 100
    return np.asarray(light + noise * np.random.default_rng(0).standard_normal(light.shape))


OFFSETS = tuple(np.random.default_rng(1).uniform(-0.25, 0.25, (3, 200)))


def test_gaussian() -> None:
    spread = gaussian_spread(SIGMA_UM)
    np.testing.assert_allclose(spread.at(*OFFSETS), gaussian(*OFFSETS), rtol=1e-12)
    assert spread.reach_um == pytest.approx((1.2, 0.52, 0.52))


@pytest.mark.parametrize("shift", [(0.0, 0.0, 0.0), (0.3, -0.4, 0.2)])
def test_a_measured_bead_is_centred_between_voxels(shift: tuple[float, float, float]) -> None:
    found = measured_spread(bead(shift), VOXEL_UM).at(*OFFSETS)
    np.testing.assert_allclose(found / found.max(), gaussian(*OFFSETS) / gaussian(*OFFSETS).max(), atol=0.06)


def test_noise_in_a_measured_bead_adds_no_dark_light() -> None:
    spread = measured_spread(bead((0.0, 0.0, 0.0), noise=20.0), VOXEL_UM)
    far = np.linspace(-2, 2, 400)
    assert (spread.at(far, far, far) >= 0).all()


@pytest.mark.parametrize(
    "volume", [np.ones((5, 5)), np.ones((5, 5, 5)), np.full((5, 5, 5), np.nan), np.ones((1, 9, 9))]
)
def test_what_is_no_bead_is_refused(volume: np.ndarray) -> None:
    with pytest.raises(BadInputError, match=r"psf\.tif"):
        measured_spread(volume, VOXEL_UM, "psf.tif")
