"""How alike an object looks from frame to frame, measured on links: brightness and features."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from spatialdino_core.statistics import MAD_TO_SIGMA
from spatialdino_core.track.candidates import owners
from spatialdino_core.track.joins import Candidates, Measurements
from spatialdino_core.track.objects import Array, Index, Objects

FEWEST = 8
OUTLIERS = 0.02
"""Share of links, before it is measured, over which appearance changes to anything: merges, splits, a
neighbour's light."""
USUAL = (0.5, 1.5)
"""Steps of so many usual intervals tell how the level wanders in one."""
SMALLEST = 1e-4
"""Least variance of log-brightness (1 %); a movie whose objects vary less has no brightness to tell by."""


@dataclass(frozen=True, kw_only=True)
class BrightnessModel:
    """Log-brightness of one particle (noise around a level that wanders) and of all.

    Attributes
    ----------
    noise, wander
        Standard deviations of a measurement, and of the level's change in the usual interval.
    mean, spread
        Of all objects.
    outliers
        Share of links over which it changes to anything.
    weight
        Of the log-likelihood of brightness; 0 where it says nothing.
    """

    noise: float = 0.2
    wander: float = 0.1
    outliers: float = OUTLIERS
    mean: float
    spread: float
    weight: float

    @property
    def array(self) -> Array:
        """What the gains of links take."""
        values = [self.noise**2, self.wander**2, self.mean, self.spread**2, self.outliers, self.weight]
        return np.array(values)


def prior_brightness(log_brightness: Array, weight: float) -> BrightnessModel:
    """Brightness before anything was linked; off where all are equally bright or none is known."""
    known = log_brightness[np.isfinite(log_brightness)]
    variance = float(known.var()) if len(known) else 0.0
    return BrightnessModel(
        mean=float(known.mean()) if len(known) else 0.0,
        spread=float(np.sqrt(max(variance, SMALLEST))),
        weight=weight if variance > SMALLEST else 0.0,
    )


def measured_brightness(light: BrightnessModel, measured: Measurements, previous: Index) -> BrightnessModel:
    """Noise, wandering and jumps from the changes over one and over two links.

    Their variances are 2 noise² + wander² and 2 noise² + 2 wander² where steps are of the usual length;
    medians keep wrong links out.
    """
    frames = np.maximum(measured.frame - measured.frame[previous], 1)
    step = (measured.time - measured.time[previous]) / frames
    before = np.where((previous >= 0) & (step > USUAL[0]) & (step < USUAL[1]), previous, -1)
    one = _changes(measured.brightness, before)
    two = _changes(measured.brightness, np.where(before >= 0, before[before], -1))
    if min(len(one), len(two)) < FEWEST:
        return light
    wander = float(np.clip(_variance(two) - _variance(one), 0, _variance(one)))
    noise = max((_variance(one) - wander) / 2, SMALLEST)
    far = int((np.abs(one) > 4 * np.sqrt(2 * noise + wander)).sum())
    return replace(
        light,
        noise=float(np.sqrt(noise)),
        wander=float(np.sqrt(wander)),
        outliers=float(np.clip((far + 0.5) / (len(one) + 25), SMALLEST, 0.1)),
    )


def _changes(log_brightness: Array, earlier: Index) -> Array:
    later = np.flatnonzero(earlier >= 0)
    change = log_brightness[later] - log_brightness[earlier[later]]
    return np.asarray(change[np.isfinite(change)])


def _variance(change: Array) -> float:
    """Variance by the median absolute deviation."""
    return float((MAD_TO_SIGMA * np.median(np.abs(change - np.median(change)))) ** 2)


def with_likeness(
    candidates: Candidates, objects: Objects, previous: Index, weight: float
) -> tuple[Candidates, dict[str, float]]:
    """Candidates with the log-ratio of their features' distance under "the same" and "any two".

    The distance 1 − cosine of feature vectors is taken as Gamma distributed, with one shape and two means,
    measured on links and on candidates that were not linked.

    Returns
    -------
    candidates
        With ``likeness``; all 0 where there are no features or they do not tell objects apart.
    about
        The two means and the shape; empty where features were not used.
    """
    later, earlier = candidates.later, owners(candidates)
    if objects.features.shape[1] == 0 or len(later) == 0 or weight == 0:
        return candidates, {}
    known = np.asarray(objects.features.any(axis=1))
    distance = 1 - (objects.features[earlier] * objects.features[later]).sum(axis=1)
    both, linked = known[earlier] & known[later], previous[later] == earlier
    same, other = np.extract(both & linked, distance), np.extract(both & ~linked, distance)
    if len(same) < FEWEST or len(other) < FEWEST:
        return candidates, {}
    mean_same, mean_other = max(float(same.mean()), 1e-6), float(other.mean())
    if mean_other <= 1.05 * mean_same:
        return candidates, {}
    shape = float(np.clip(mean_same**2 / max(float(same.var()), 1e-12), 0.3, 50))
    ratio = shape * (np.log(mean_other / mean_same) - distance * (1 / mean_same - 1 / mean_other))
    bounded = weight * np.logaddexp(np.log1p(-OUTLIERS) + ratio, np.log(OUTLIERS))
    about = {"distance_linked": mean_same, "distance_others": mean_other, "shape": shape}
    return candidates._replace(likeness=np.where(both, bounded, 0.0)), about
