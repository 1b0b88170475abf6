"""A copy of a part of a movie with particles planted into its raw frames, deskewed as the movie was.

Not what is planted where: see :mod:`.ladder`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from spatialdino_core.geometry.deskew import Deskew
from spatialdino_core.geometry.raw import RawMovie
from spatialdino_core.plant.camera import CameraNoise
from spatialdino_core.plant.raw import particle_light, planted
from spatialdino_core.plant.spread import Spread


@dataclass(frozen=True, eq=False)
class Planted:
    """Particles of one frame.

    Attributes
    ----------
    position_um
        Shape (n, 3): z, y, x in the movie's deskewed frame.
    peak
        Shape (n,): height above the background, counts.
    """

    position_um: NDArray[np.float64]
    peak: NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class PlantedCopy:
    """Frames of the first channel of a movie, with particles in them that are known.

    Attributes
    ----------
    raw
        The movie.
    deskew
        To the part of its grid that is copied.
    particles
        Of each frame; frames that are not there get none.
    spread
        How their light spreads.
    noise
        Of the camera.
    seed
        Of the photon noise, besides the frame's number.
    """

    raw: RawMovie
    deskew: Deskew
    particles: Mapping[int, Planted]
    spread: Spread
    noise: CameraNoise
    seed: int

    def frame(self, number: int) -> NDArray[np.uint16]:
        """A deskewed frame, uint16 (z, y, x) of the part's shape."""
        block = np.array(self.raw.read(0, number, self.deskew.region)[0])
        if number in self.particles:
            self._plant(number, self.deskew.camera.oriented(block), self.particles[number])
        return self.deskew(block).voxels

    def _plant(self, number: int, stack: NDArray[np.uint16], some: Planted) -> None:
        """Add the particles to an oriented raw block, in place."""
        _, y, x = region = self.deskew.oriented_region
        gain = self.deskew.camera.gain
        light = particle_light(
            (stack.shape[0], stack.shape[1], stack.shape[2]),
            self.deskew.grid.raw_voxels(some.position_um) - [part.start for part in region],
            some.peak,
            self.spread,
            self.deskew.grid.geometry,
        )
        generator = np.random.default_rng([self.seed, number])
        illumination = 1.0 if gain is None else 1 / gain[y, x]
        stack[...] = planted(stack, light, self.noise, generator, illumination=illumination)
