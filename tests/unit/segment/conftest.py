"""A private generator of frames with known particles, independent of the project's own simulator."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest
from scipy import ndimage
from scipy.optimize import linear_sum_assignment

from spatialdino_core.segment.detections import Detections
from spatialdino_core.segment.optics import Optics
from spatialdino_core.segment.parameters import SegmentParameters

VOXEL_UM = (0.209, 0.104, 0.104)
PSF_UM = (0.33, 0.13, 0.13)
GATE_UM = 0.312


@dataclass
class Scene:
    """A frame and the particles in it, positions (n, 3) in voxels."""

    frame: np.ndarray
    truth: np.ndarray


def draw_spots(shape: tuple[int, ...], positions: np.ndarray, peak: float, sigma: np.ndarray) -> np.ndarray:
    """Sum of Gaussians of height ``peak``."""
    image = np.zeros(shape)
    grids = np.ogrid[tuple(slice(0, n) for n in shape)]
    for position in positions:
        exponent = sum(((g - p) / s) ** 2 for g, p, s in zip(grids, position, sigma, strict=True))
        image += peak * np.exp(-0.5 * exponent)
    return image


def make_scene(
    seed: int,
    *,
    count: int = 40,
    peak: float = 60.0,
    background: float = 40.0,
    shape: tuple[int, int, int] = (48, 96, 230),
    cell: bool = False,
) -> Scene:
    """Gaussian particles on a flat or cell-shaped background, Poisson noise, offset 100, read noise 2."""
    rng = np.random.default_rng(seed)
    margin = np.array([3, 4, 4])
    truth = margin + rng.random((count, 3)) * (np.array(shape) - 1 - 2 * margin)
    level = _cell(rng, shape, background) if cell else background
    light = level + draw_spots(shape, truth, peak, np.array(PSF_UM) / VOXEL_UM)
    counts = rng.poisson(light) + 100 + rng.normal(0, 2, shape)
    return Scene(np.clip(np.round(counts), 0, 65535).astype(np.uint16), truth)


def _cell(rng: np.random.Generator, shape: tuple[int, int, int], level: float) -> np.ndarray:
    """A textured ellipsoid with a dim nucleus in dim surroundings, blurred by the point spread function."""
    z, y, x = np.meshgrid(*(np.linspace(-1, 1, n) for n in shape), indexing="ij")
    texture = ndimage.gaussian_filter(rng.standard_normal(shape), 0.5 / np.array(VOXEL_UM))
    inside = (z / 0.8) ** 2 + (y / 0.85) ** 2 + (x / 0.8) ** 2 < 1
    nucleus = (z / 0.4) ** 2 + (y / 0.4) ** 2 + (x / 0.3) ** 2 < 1
    light = np.where(inside, level * (1 + 0.2 * texture / texture.std()), level * 0.15)
    light = np.maximum(light * np.where(nucleus, 0.5, 1), 1)
    return ndimage.gaussian_filter(light, np.array(PSF_UM) / VOXEL_UM)


def pair_up(found: np.ndarray, truth: np.ndarray) -> tuple[int, np.ndarray]:
    """Number of matches within the gate, and errors (n, 3) in µm, of the best one-to-one matching."""
    if not len(found) or not len(truth):
        return 0, np.empty((0, 3))
    distance = np.linalg.norm((found[:, None] - truth[None]) * VOXEL_UM, axis=-1)
    rows, columns = linear_sum_assignment(np.where(distance <= GATE_UM, distance, 1e3))
    near = distance[rows, columns] <= GATE_UM
    return int(near.sum()), (found[rows[near]] - truth[columns[near]]) * VOXEL_UM


def fitted_spots(
    position: np.ndarray, sigma: np.ndarray, amplitude: float | np.ndarray, background: float = 100.0
) -> Detections:
    """What a perfect fit says; z-scores are the numbers of the rows."""
    ones, row = np.ones(len(position)), np.arange(len(position), dtype=float)
    wide = np.array(np.broadcast_to(sigma, position.shape))
    light = amplitude * ones, background * ones
    return Detections(position, row, ones, ones, wide, *light, ones, np.ones(position.shape))


@pytest.fixture(scope="session")
def scene() -> Callable[..., Scene]:
    return make_scene


@pytest.fixture(scope="session")
def matches() -> Callable[[np.ndarray, np.ndarray], tuple[int, np.ndarray]]:
    return pair_up


@pytest.fixture(scope="session")
def spots() -> Callable[..., np.ndarray]:
    return draw_spots


@pytest.fixture(scope="session")
def fitted() -> Callable[..., Detections]:
    return fitted_spots


@pytest.fixture(scope="session")
def optics() -> Optics:
    """Of the default parameters, whose point spread function the scenes have."""
    return Optics.of(SegmentParameters(), VOXEL_UM)


@pytest.fixture(scope="session")
def voxel_um() -> tuple[float, float, float]:
    return VOXEL_UM


@pytest.fixture(scope="session")
def psf_voxels() -> np.ndarray:
    return np.array(PSF_UM) / VOXEL_UM


@pytest.fixture(scope="session")
def wedge() -> np.ndarray:
    """Validity (z, 1, x) of a deskewed frame of shape (48, 96, 230)."""
    z, x = np.arange(48)[:, None, None], np.arange(230)[None, None, :]
    return (x > 1.2 * z) & (x < 170 + 1.2 * z)
