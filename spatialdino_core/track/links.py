"""Links between objects: passes over the movie that cut all tracks between two frames and rejoin them.

The first passes go forward and know only the past; motion is measured on them. The later ones know both sides
of each cut: joining a head and a tail is judged by the whole past of the one and the next few objects of the
other, over several frames at once. Each rejoining is the best possible for all tracks together (a linear
assignment), so a pass never makes the total likelihood worse.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from scipy.special import expit

from spatialdino_core.track.appearance import (
    BrightnessModel,
    measured_brightness,
    prior_brightness,
    with_likeness,
)
from spatialdino_core.track.assignment import assign, margins
from spatialdino_core.track.candidates import all_pairs, next_frame_pairs, owners
from spatialdino_core.track.drift import sample_jumps, shared_change
from spatialdino_core.track.filter import STATE
from spatialdino_core.track.joins import Candidates, Measurements, join_gains, update_states
from spatialdino_core.track.motion import MotionModel, fitted_model, prior_model
from spatialdino_core.track.objects import Array, Index, Objects
from spatialdino_core.track.parameters import TrackParameters
from spatialdino_core.track.rates import Rates, counted_rates, first_rates, log_probabilities

FORWARD_PASSES = 2
REJOINING_PASSES = 2


@dataclass(frozen=True)
class Model:
    """What the movie says about its particles.

    Attributes
    ----------
    motion, rates, light
        See there.
    likeness
        Of features: what was measured, or nothing.
    drift_um
        (frames, 3) position of the sample, z, y, x, in the observed frames; relative to the first.
    fading
        (frames,) common change of log-brightness since the first of them.
    """

    motion: MotionModel
    rates: Rates
    light: BrightnessModel
    likeness: dict[str, float]
    drift_um: Array
    fading: Array

    def measured(self, objects: Objects) -> Measurements:
        """Objects without drift and bleaching."""
        return Measurements(
            objects.frame,
            objects.times[objects.frame],
            objects.position_um - self.drift_um[objects.frame],
            self.motion.variance(objects.uncertainty),
            objects.log_brightness - self.fading[objects.frame],
        )


@dataclass(frozen=True)
class Links:
    """Links of all objects.

    Attributes
    ----------
    previous, following
        (N,) object before and after on the same track, −1 at its ends.
    cost
        (N,) negative log-likelihood of the link to the object before; NaN without.
    confidence
        (N,) probability of that link against the best alternative for all tracks together.
    """

    previous: Index
    following: Index
    cost: Array
    confidence: Array

    @classmethod
    def none(cls, count: int) -> Links:
        """Nothing linked."""
        nobody, nothing = np.full(count, -1, np.intp), np.full(count, np.nan)
        return cls(nobody, nobody.copy(), nothing, nothing.copy())

    @property
    def track(self) -> Index:
        """(N,) for each object the first object of its track."""
        track = np.arange(len(self.previous))
        for i in np.flatnonzero(self.previous >= 0):
            track[i] = track[self.previous[i]]
        return track


def link_movie(objects: Objects, volume_um3: float, parameters: TrackParameters) -> tuple[Links, Model]:
    """Link all objects of a movie, with a model that is measured on the links themselves.

    Parameters
    ----------
    volume_um3
        Imaged volume.
    """
    reach = parameters.max_displacement_um
    prior = prior_model(reach, objects.uncertainty_known)
    model = Model(
        motion=prior,
        rates=first_rates(len(objects), objects.frames, volume_um3, float(objects.steps.mean())),
        light=prior_brightness(objects.log_brightness, parameters.intensity_weight),
        likeness={},
        drift_um=sample_jumps(objects, reach),
        fading=np.zeros(objects.frames),
    )
    links = Links.none(len(objects))
    if objects.filled.sum() < 2:
        return links, model
    candidates = next_frame_pairs(objects, model.measured(objects).position, reach)
    links = _one_pass(objects, candidates, links, model, forward=True)
    for number in range(1, FORWARD_PASSES + REJOINING_PASSES):
        model = _remeasured(objects, links, model, prior, volume_um3, parameters)
        if number == 1:
            position = model.measured(objects).position
            gap = parameters.max_gap_frames
            candidates = all_pairs(objects, position, reach, gap, links.following, links.previous)
        candidates, likeness = with_likeness(candidates, objects, links.previous, parameters.feature_weight)
        model = replace(model, likeness=likeness)
        links = _one_pass(objects, candidates, links, model, forward=number < FORWARD_PASSES)
    return links, model


def _remeasured(
    objects: Objects,
    links: Links,
    model: Model,
    prior: MotionModel,
    volume_um3: float,
    parameters: TrackParameters,
) -> Model:
    """The model after a pass."""
    later = np.flatnonzero(links.previous >= 0)
    later = later[objects.frame[later] == objects.frame[links.previous[later]] + 1]
    earlier = links.previous[later]
    when = objects.frame[later]
    measured = model.measured(objects)
    drift = shared_change(when, measured.position[later] - measured.position[earlier], objects.steps)
    change = (measured.brightness[later] - measured.brightness[earlier])[:, None]
    known = np.isfinite(change[:, 0])
    # Light bleaches while it is on: with every frame, whatever the time between them.
    fading = shared_change(when[known], change[known], np.ones(objects.frames))[:, 0]
    model = replace(model, drift_um=model.drift_um + drift, fading=model.fading + fading)
    measured = model.measured(objects)
    motion = fitted_model(
        model.motion, prior, measured.time, measured.position, objects.uncertainty, links.previous
    )
    return replace(
        model,
        motion=motion,
        rates=counted_rates(objects, links.track, volume_um3, parameters.max_gap_frames),
        light=measured_brightness(model.light, measured, links.previous),
    )


def _one_pass(
    objects: Objects, candidates: Candidates, links: Links, model: Model, *, forward: bool
) -> Links:
    """Links after one pass; a forward one starts from nothing and gives no confidence."""
    n, limits = len(objects), objects.limits
    links = Links.none(n) if forward else links
    previous, following = links.previous.copy(), links.following.copy()
    cost, margin = np.full(n, np.nan), np.full(n, np.nan)
    span = int((objects.frame[candidates.later] - objects.frame[owners(candidates)]).max(initial=1))
    measured, log_probability = model.measured(objects), log_probabilities(objects, model.rates, span)
    motion, light = model.motion.array, model.light.array
    states, levels = np.empty((n, STATE)), np.empty((n, 2))
    for t in range(objects.frames):
        update_states(np.arange(limits[t], limits[t + 1]), previous, measured, motion, light, states, levels)
        heads = np.arange(limits[max(0, t + 1 - span)], limits[t + 1])
        heads = heads[(following[heads] < 0) | (objects.frame[following[heads]] > t)]
        tails = following[heads][following[heads] >= 0]
        earlier, later, costs, gains = join_gains(
            t,
            forward,
            heads,
            candidates,
            previous,
            following,
            measured,
            log_probability,
            motion,
            light,
            states,
            levels,
        )
        previous[tails], following[heads] = -1, -1
        names_r, rows = np.unique(earlier, return_inverse=True)
        names_c, columns = np.unique(later, return_inverse=True)
        shape = len(names_r), len(names_c)
        chosen = assign(rows, columns, gains, shape)
        following[earlier[chosen]], previous[later[chosen]] = later[chosen], earlier[chosen]
        cost[later[chosen]] = costs[chosen]
        if not forward:
            margin[later[chosen]] = margins(rows, columns, gains, chosen, shape)
    unlinked = previous < 0
    cost[unlinked] = margin[unlinked] = np.nan
    return Links(previous, following, cost, expit(margin))
