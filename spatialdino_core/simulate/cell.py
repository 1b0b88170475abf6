"""A cell: the space in which particles live and a textured background, as a continuous function.

Its outline is an ellipsoid with random bumps around a darker nucleus. It is no model of any organelle;
it exists so that detection must cope with edges and with structure of about the size of particles.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from spatialdino_core.errors import BadInputError
from spatialdino_core.simulate.grid import Grid, Volume

WAVES = 48
OUTLINE_BUMPS = 0.08  # standard deviation of the outline, relative to the ellipsoid's radius
NUCLEUS_RADIUS = 0.4  # relative to the ellipsoid
NUCLEUS_DIMMING = 0.6
EDGE = 0.04  # softness of both outlines, relative to the ellipsoid: the blur of the optics
DRAWS = 1000


@dataclass(frozen=True)
class WaveField:
    """Gaussian random field of zero mean and unit variance: a sum of random plane waves.

    Its autocorrelation tends to ``exp(-d² / (2 length²))`` (random Fourier features, Rahimi & Recht,
    NIPS 2007), and it can be evaluated anywhere.
    """

    wave_vectors: NDArray[np.float64]
    phases: NDArray[np.float64]

    def __call__(self, points: NDArray[np.float64]) -> NDArray[np.float32]:
        """Values at points (..., 3), shape (...)."""
        total = np.zeros(points.shape[:-1], np.float32)
        for vector, phase in zip(self.wave_vectors, self.phases, strict=True):
            total += np.cos((points @ vector + phase).astype(np.float32))
        return total * np.float32(math.sqrt(2 / len(self.phases)))


def wave_field(length: float, rng: np.random.Generator) -> WaveField:
    """Draw a random field with the given correlation length, in the unit of its points."""
    return WaveField(rng.normal(0, 1 / length, (WAVES, 3)), rng.uniform(0, 2 * np.pi, WAVES))


@dataclass(frozen=True)
class Cell:
    """A cell that fills most of a volume; particles live between its outline and its nucleus."""

    volume: Volume
    bumps: WaveField
    texture: WaveField
    contrast: float

    def contains(self, points: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Whether points (n, 3) in µm lie in the cytoplasm and in the volume, shape (n,)."""
        radius = self._radius(points)
        return (radius < 1 - 2 * EDGE) & (radius > NUCLEUS_RADIUS + 2 * EDGE) & self.volume.contains(points)

    def draw(self, count: int, rng: np.random.Generator) -> NDArray[np.float64]:
        """Positions (count, 3) in µm, uniformly distributed in the cytoplasm.

        Raises
        ------
        BadInputError
            When the volume is so small that no cytoplasm is found in it.
        """
        found = np.empty((0, 3))
        for _ in range(DRAWS):
            if len(found) >= count:
                return found[:count]
            points = self.volume.draw(4 * count, rng)
            found = np.concatenate([found, points[self.contains(points)]])
        raise BadInputError(
            "cell_photons",
            found="a volume with no room for a cell",
            expected="a few µm along each axis",
            remedy="Image more planes or pixels, or set cell_photons to 0.",
        )

    def brightness(self, points: NDArray[np.float64]) -> NDArray[np.float32]:
        """Background at points (..., 3) in µm, relative to its mean in the cytoplasm, shape (...)."""
        radius = self._radius(points)
        outline = 1 / (1 + np.exp((radius - 1) / EDGE))
        nucleus = 1 / (1 + np.exp((radius - NUCLEUS_RADIUS) / EDGE))
        texture = np.maximum(1 + self.contrast * self.texture(points), 0)
        return (outline * (1 - NUCLEUS_DIMMING * nucleus) * texture).astype(np.float32)

    def _radius(self, points: NDArray[np.float64]) -> NDArray[np.float64]:
        """Distance from the centre relative to the bumpy outline, in the volume's box coordinates."""
        centre = (self.volume.low + self.volume.high) / 2
        half = np.maximum((self.volume.high - self.volume.low) / 2, 1e-9)
        unit = (self.volume.to_box(points) - centre) / half
        return np.linalg.norm(unit, axis=-1) * (1 + OUTLINE_BUMPS * self.bumps(unit))


def grow_cell(volume: Volume, length_um: float, contrast: float, rng: np.random.Generator) -> Cell:
    """Draw a cell that fills ``volume``, with texture of grain ``length_um`` and relative ``contrast``."""
    return Cell(volume, bumps=wave_field(0.6, rng), texture=wave_field(length_um, rng), contrast=contrast)


def cell_image(cell: Cell, grid: Grid) -> NDArray[np.float32]:
    """Relative background at every sample point of a grid, shape ``grid.shape``."""
    return np.stack([cell.brightness(grid.plane_points(plane)) for plane in range(grid.shape[0])])
