"""Positions in the frames in which a particle was not seen, from both sides of the gap.

The filter predicts the state in each missing frame from what came before and, run backwards, from what
came after. For each way of moving both are averaged with the inverse of their covariances, which equals the
smoother of Rauch, Tung & Striebel (Fraser & Potter, IEEE Trans. Autom. Control 14, 387, 1969).
"""

from __future__ import annotations

import numpy as np

from spatialdino_core.track.filter import (
    BROWN_P,
    BROWN_X,
    DIRECTED,
    HYPOTHESES,
    RUN_V,
    RUN_VV,
    RUN_X,
    RUN_XV,
    RUN_XX,
    SPEED_VAR,
    STATE,
    merge,
    predict,
)
from spatialdino_core.track.joins import update_states
from spatialdino_core.track.links import Links, Model
from spatialdino_core.track.objects import Array, Index, Objects


def fill_gaps(objects: Objects, links: Links, model: Model) -> tuple[Index, Index, Array]:
    """Smoothed positions in all gaps.

    Returns
    -------
    later
        (G,) the object after the gap, in ascending order.
    frame
        (G,) frame of the movie, unseen or left out.
    position_um
        (G, 3) position (z, y, x) in the sample as it drifts.
    """
    later = np.flatnonzero(links.previous >= 0)
    frames, times = objects.table["frame"].to_numpy(np.intp), objects.clock.times
    later = later[frames[later] - frames[links.previous[later]] > 1]
    drift_um = objects.in_movie(model.drift_um)
    forward, backward = _states(objects, links, model)
    of_gap, when, where = [], [], []
    for j in later:
        i = links.previous[j]
        for frame in range(frames[i] + 1, frames[j]):
            past = _expected(forward[i], times[frame] - times[frames[i]], model)
            future = _expected(backward[j], times[frames[j]] - times[frame], model)
            of_gap.append(j)
            when.append(frame)
            where.append(_between(past, future, model) + drift_um[frame])
    return np.array(of_gap, np.intp), np.array(when, np.intp), np.array(where, float).reshape(-1, 3)


def _states(objects: Objects, links: Links, model: Model) -> tuple[Array, Array]:
    """State of each object's particle from all that came before, and from all that comes after."""
    measured = model.measured(objects)
    found = []
    for order, before, time in [(1, links.previous, measured.time), (-1, links.following, -measured.time)]:
        states, levels = np.empty((len(objects), STATE)), np.empty((len(objects), 2))
        rows = np.arange(len(objects))[::order]
        update_states(
            rows,
            before,
            measured._replace(time=time),
            model.motion.array,
            model.light.array,
            states,
            levels,
        )
        found.append(states)
    return found[0], found[1]


def _expected(state: Array, time: float, model: Model) -> Array:
    """State some time away, with nothing seen in between."""
    hypotheses, ahead = np.empty(HYPOTHESES), np.empty(STATE)
    predict(state, time, model.motion.array, ahead, hypotheses)
    merge(hypotheses, ahead)
    return ahead


def _between(past: Array, future: Array, model: Model) -> Array:
    """Expected position (z, y, x) given a state from the past and one, backwards in time, from the future."""
    # Both are states (22,); three axes at once.
    share = past[BROWN_P : BROWN_P + 3] / (past[BROWN_P : BROWN_P + 3] + future[BROWN_P : BROWN_P + 3])
    diffusing = past[BROWN_X : BROWN_X + 3] + share * (
        future[BROWN_X : BROWN_X + 3] - past[BROWN_X : BROWN_X + 3]
    )
    # What is known of speeds before anything is seen is in both states: once too often.
    information = np.zeros((3, 2, 2))
    information[:, 1, 1] = -1 / model.motion.array[SPEED_VAR]
    weighted = np.zeros((3, 2))
    for state, way in ((past, 1), (future, -1)):
        mean = np.stack([state[RUN_X : RUN_X + 3], way * state[RUN_V : RUN_V + 3]], axis=1)
        xx, xv, vv = (state[k : k + 3] for k in (RUN_XX, RUN_XV, RUN_VV))
        inverse = np.linalg.inv(np.stack([xx, way * xv, way * xv, vv], axis=1).reshape(3, 2, 2))
        information += inverse
        weighted += (inverse @ mean[..., None])[..., 0]
    running = np.linalg.solve(information, weighted[..., None])[:, 0, 0]
    fraction = model.motion.directed_fraction
    odds = past[DIRECTED] * future[DIRECTED] / fraction
    against = (1 - past[DIRECTED]) * (1 - future[DIRECTED]) / (1 - fraction)
    return np.asarray(diffusing + odds / max(odds + against, 1e-300) * (running - diffusing))
