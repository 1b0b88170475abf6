"""How often particles appear, vanish and are missed, and false detections occur: counted on tracks."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from spatialdino_core.track.joins import LogProbabilities
from spatialdino_core.track.objects import Array, Index, Objects


@dataclass(frozen=True, kw_only=True)
class Rates:
    """Probabilities and densities (µm⁻³), per usual interval or per frame.

    Attributes
    ----------
    survival
        Probability that a particle is still there an interval later.
    detection
        Probability that a particle that is there is seen in a frame.
    births_per_um3
        New particles in an interval.
    clutter_per_um3
        Detections in a frame that are no particles.
    """

    survival: float
    detection: float
    births_per_um3: float
    clutter_per_um3: float

    def born(self, time: Array) -> Array:
        """Density of particles that came in some time and are still there, µm⁻³."""
        return self.births_per_um3 * _lasting(self.survival, time)


def _lasting(survival: float, time: Array) -> Array:
    """Over how many intervals births add up: fewer than the time has, for some are gone again."""
    return np.asarray((1 - survival**time) / (1 - survival))


def first_rates(objects: int, frames: int, volume_um3: float, step: float = 1.0) -> Rates:
    """Rates before anything was linked: of twenty particles one goes from frame to frame.

    Parameters
    ----------
    step
        Mean time from frame to frame, in usual intervals: a pause says nothing of how long particles last.
    """
    density = max(objects, 1) / (max(frames, 1) * volume_um3)
    return Rates(
        survival=0.95 ** (1 / step),
        detection=0.9,
        births_per_um3=0.1 * density / step,
        clutter_per_um3=0.05 * density,
    )


def counted_rates(objects: Objects, track: Index, volume_um3: float, max_gap: int) -> Rates:
    """Rates of linked objects; a few imagined counts keep those of a short movie away from 0 and 1.

    Objects that stay alone are false detections, but for those that the lifetimes of longer tracks
    lead one to expect; where their confidence is known, no more of them than it allows. Frames without
    objects count for nothing.

    Parameters
    ----------
    track
        (N,) number of each object's track.
    max_gap
        A track that ends this close to the movie's end may just not be seen.
    """
    rank = np.cumsum(objects.filled) - 1
    last_rank = max(int(rank[-1]), 1)
    steps = np.append(objects.steps[objects.filled][1:], 1.0)
    elapsed = np.concatenate([[0.0], steps.cumsum()])
    when = rank[objects.frame]
    _, number, length = np.unique(track, return_inverse=True, return_counts=True)
    first = np.full(len(length), last_rank)
    last = np.zeros(len(length), np.intp)
    np.minimum.at(first, number, when)
    np.maximum.at(last, number, when)
    real = length > 1
    between = int((last - first - 1)[real].sum())
    seen = int((length - 2)[real].sum())
    horizon = last_rank - max_gap
    died = real & (last < horizon)
    deaths = int(died.sum())
    until = np.clip(np.minimum(last, horizon), first, None)
    lived = (elapsed[until] - elapsed[first])[real].sum() + steps[last[died]].sum()
    survival = float(np.clip(1 - (deaths + 0.5) / (lived + 5 * objects.steps.mean()), 0.5, 0.9999))
    births = int((real & (first > 0)).sum())
    lasting = float(_lasting(survival, steps[:last_rank]).sum())
    brief = births * (1 - survival) / survival
    alone = ~real & (first > 0) & (first < last_rank)
    clutter = alone.sum() - brief
    if objects.confidence_known:
        clutter = min(clutter, (1 - objects.confidence[alone[number]]).sum())
    return Rates(
        survival=survival,
        detection=float(np.clip((seen + 2) / (between + 2.2), 0.5, 0.999)),
        births_per_um3=(births + brief + 0.5) / (lasting * volume_um3),
        clutter_per_um3=max(float(clutter), 0.5) / (last_rank * volume_um3),
    )


def log_probabilities(objects: Objects, rates: Rates, span: int) -> LogProbabilities:
    """The rates as what the gains of links need.

    A detection of high confidence is less likely to be false than others, in proportion to the odds.

    Parameters
    ----------
    span
        Most frames between linked objects.
    """
    n, filled, steps = len(objects), objects.filled, objects.steps
    survival = np.append(rates.survival ** steps[1:], 1.0)  # from each frame to the next
    detection = np.where(filled, rates.detection, 0.0)
    ending = np.ones(objects.frames)
    for t in range(objects.frames - 2, -1, -1):
        unseen_there = (1 - detection[t + 1]) * ending[t + 1]
        ending[t] = 1 - survival[t] + survival[t] * unseen_there
    unseen, seen = np.zeros((2, objects.frames, span))
    alive, dead = np.ones(objects.frames), np.zeros(objects.frames)
    for d in range(span):
        # Beyond the last frame nothing is looked up; the values there only must be finite.
        there = detection[np.minimum(np.arange(objects.frames) + d + 1, objects.frames - 1)]
        lasting = survival[np.minimum(np.arange(objects.frames) + d, objects.frames - 1)]
        seen[:, d] = np.log(np.maximum(alive * lasting * there, 1e-300))
        dead += alive * (1 - lasting)
        alive = alive * lasting * (1 - there)
        unseen[:, d] = np.log(alive + dead)
    odds = np.log(objects.confidence) - np.log1p(-objects.confidence)
    return LogProbabilities(
        new=np.log(rates.born(steps))[objects.frame],
        clutter=np.log(rates.clutter_per_um3) - odds + (odds.mean() if n else 0.0),
        ending=np.log(ending)[objects.frame],
        unseen=unseen,
        seen=seen,
    )
