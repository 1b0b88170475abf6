"""Where planted particles are, frame by frame: steps drawn anew, and a drift that lasts.

Not how many there are and how bright: the caller says.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, kw_only=True)
class Motion:
    """How particles move.

    Attributes
    ----------
    step_um
        Standard deviation along each axis of what a particle moves from one frame to the next, µm: √(2 D Δt)
        of a diffusion coefficient D.
    drift_um
        Length of a displacement per frame that a particle keeps, µm; its direction is drawn.
    """

    step_um: float = 0.0
    drift_um: float = 0.0


def paths_um(
    start_um: NDArray[np.float64], frames: int, motion: Motion, generator: np.random.Generator
) -> NDArray[np.float64]:
    """Positions of particles over time.

    Parameters
    ----------
    start_um
        Shape (n, 3): z, y, x of the first frame, µm.
    frames
        How many.
    motion, generator
        How they move, and where chance comes from.

    Returns
    -------
    numpy.ndarray
        Shape (frames, n, 3), µm. Nothing holds particles back: they may leave the frame.
    """
    shape = (max(frames - 1, 0), *start_um.shape)
    direction = generator.standard_normal(start_um.shape)
    direction /= np.linalg.norm(direction, axis=1, keepdims=True)
    steps = motion.step_um * generator.standard_normal(shape) + motion.drift_um * direction
    return np.concatenate([start_um[None], start_um + np.cumsum(steps, axis=0)])[:frames]
