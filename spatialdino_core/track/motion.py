"""How the particles of a movie move, estimated from tracks: the maximum of the filter's own likelihood.

No link is decided here.
"""

from __future__ import annotations

from dataclasses import astuple, dataclass, fields

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import expit, logit

from spatialdino_core.track.filter import filter_tracks

Array = NDArray[np.float64]
Index = NDArray[np.intp]

MOST_OBJECTS = 4000
"""Objects that the estimate looks at: whole tracks, evenly chosen."""
SMALLEST_UM = 1e-3


@dataclass(frozen=True, kw_only=True)
class MotionModel:
    """Motion per usual interval between frames; widths are standard deviations per axis.

    Attributes
    ----------
    brownian_um
        Step of a Brownian particle.
    directed_um
        Diffusion of a directed particle beside its run.
    speed_um
        Velocity of directed particles, drawn anew at each change of direction.
    turn_um
        Change of velocity of a directed particle that keeps its run.
    redraw
        Probability that a particle draws its motion anew, directed or not.
    directed_fraction
        Probability that the new motion is directed.
    localisation_axial, localisation_lateral
        Localisation error: a factor on the table's own uncertainty, or where it has none a length (µm).
    """

    brownian_um: float
    directed_um: float
    speed_um: float
    turn_um: float
    redraw: float
    directed_fraction: float
    localisation_axial: float
    localisation_lateral: float

    @property
    def array(self) -> Array:
        """What the filter takes."""
        widths = np.array([self.brownian_um, self.directed_um, self.speed_um, self.turn_um])
        return np.concatenate([widths**2 + SMALLEST_UM**2, [self.redraw, self.directed_fraction]])

    def variance(self, uncertainty: Array) -> Array:
        """Variance (N, 3) of measured positions, µm², from the uncertainty (N, 3) in the table."""
        factor = np.array([self.localisation_axial, *(self.localisation_lateral,) * 2])
        return np.asarray((uncertainty * factor) ** 2 + SMALLEST_UM**2)

    @property
    def free(self) -> Array:
        """Unbounded parameters: logarithms of widths, logits of probabilities."""
        values = np.array(astuple(self))
        return np.where(IS_PROBABILITY, logit(np.where(IS_PROBABILITY, values, 0.5)), np.log(values))

    @classmethod
    def of(cls, free: Array) -> MotionModel:
        """The model of unbounded parameters."""
        values = np.where(IS_PROBABILITY, expit(free), np.exp(np.clip(free, -12, 5)))
        return cls(**{field.name: float(value) for field, value in zip(fields(cls), values, strict=True)})


IS_PROBABILITY = np.array([False] * 4 + [True] * 2 + [False] * 2)
PRIOR_SPREAD = np.array([1.5, 1.5, 1.5, 1.5, 1.5, 1.5, 1.0, 1.0])


def prior_model(max_displacement_um: float, measured_uncertainty: bool) -> MotionModel:
    """What is believed before anything was linked; the scale of steps is that of the reach."""
    return MotionModel(
        brownian_um=max_displacement_um / 8,
        directed_um=max_displacement_um / 20,
        speed_um=max_displacement_um / 5,
        turn_um=max_displacement_um / 50,
        redraw=0.1,
        directed_fraction=0.3,
        localisation_axial=1.0 if measured_uncertainty else max_displacement_um / 30,
        localisation_lateral=1.0 if measured_uncertainty else max_displacement_um / 60,
    )


def fitted_model(
    start: MotionModel, prior: MotionModel, time: Array, position: Array, uncertainty: Array, previous: Index
) -> MotionModel:
    """Most probable motion of linked objects.

    The prior is log-normal, a factor of e^1.5 wide: a few dozen links outweigh it, and fewer leave the
    model where it makes sense.

    Parameters
    ----------
    start
        Where to begin.
    time, position, uncertainty, previous
        Objects ordered by time, see `spatialdino_core.track.filter.filter_tracks`.
    """
    time, position, uncertainty, previous = _sample(time, position, uncertainty, previous)
    centre = prior.free

    def cost(free: Array) -> float:
        model = MotionModel.of(free)
        likelihood = filter_tracks(time, position, model.variance(uncertainty), previous, model.array).sum()
        return float(0.5 * (((free - centre) / PRIOR_SPREAD) ** 2).sum() - likelihood)

    found = minimize(cost, start.free, method="L-BFGS-B", options={"maxiter": 40, "ftol": 1e-5, "eps": 1e-4})
    return MotionModel.of(found.x)


def _sample(
    time: Array, position: Array, uncertainty: Array, previous: Index
) -> tuple[Array, Array, Array, Index]:
    """Every n-th track, so that about `MOST_OBJECTS` objects are left; their links renumbered."""
    track = np.arange(len(time))
    for i in np.flatnonzero(previous >= 0):
        track[i] = track[previous[i]]
    names, lengths = np.unique(track, return_counts=True)
    names = names[lengths > 1]
    stride = max(1, round(lengths[lengths > 1].sum() / MOST_OBJECTS))
    kept = np.flatnonzero(np.isin(track, names[::stride]))
    number = np.full(len(time) + 1, -1, np.intp)
    number[kept] = np.arange(len(kept))
    return time[kept], position[kept], uncertainty[kept], number[previous[kept]]
