"""Positions in the frames in which a particle was not seen: from both sides of the gap, no measurement made up.

The filter foresees each missing position from what came before, and the same filter, run backwards, from what
came after; both are averaged with the inverse of their variances. This two-filter smoother equals that of
Rauch, Tung & Striebel (Fraser & Potter, IEEE Trans. Autom. Control 14, 387, 1969).
"""

from __future__ import annotations

import numpy as np

from spatialdino_core.track.cut import Seen, renew
from spatialdino_core.track.filter import BROWN_P, BROWN_X, DIRECTED, HYPOTHESES, RUN_X, RUN_XX, STATE
from spatialdino_core.track.filter import foresee, merge
from spatialdino_core.track.links import Links, Model
from spatialdino_core.track.objects import Array, Index, Objects


def fill_gaps(objects: Objects, links: Links, model: Model) -> tuple[Index, Index, Array]:
    """Smoothed positions in all gaps.

    Returns
    -------
    later
        (G,) the object after the gap, in ascending order.
    frame
        (G,) unseen frame.
    position_um
        (G, 3) position (z, y, x) in the sample as it drifts.
    """
    later = np.flatnonzero(links.previous >= 0)
    later = later[objects.frame[later] - objects.frame[links.previous[later]] > 1]
    forward, backward = _states(objects, links, model)
    of_gap, when, where = [], [], []
    for j in later:
        i = links.previous[j]
        for frame in range(int(objects.frame[i]) + 1, int(objects.frame[j])):
            past, past_variance = _expected(forward[i], frame - int(objects.frame[i]), model)
            future, future_variance = _expected(backward[j], int(objects.frame[j]) - frame, model)
            share = past_variance / (past_variance + future_variance)
            of_gap.append(j)
            when.append(frame)
            where.append(past + share * (future - past) + model.drift_um[frame])
    return np.array(of_gap, np.intp), np.array(when, np.intp), np.array(where, float).reshape(-1, 3)


def _states(objects: Objects, links: Links, model: Model) -> tuple[Array, Array]:
    """State of each object's particle from all that came before, and from all that comes after."""
    seen = model.seen(objects)
    found = []
    for order, before, frame in [(1, links.previous, seen.frame), (-1, links.following, -seen.frame)]:
        states, levels = np.empty((len(objects), STATE)), np.empty((len(objects), 2))
        rows = np.arange(len(objects))[::order]
        renew(rows, before, seen._replace(frame=frame), model.motion.array, model.light.array, states, levels)
        found.append(states)
    return found[0], found[1]


def _expected(state: Array, frames: int, model: Model) -> tuple[Array, Array]:
    """Mean and variance (z, y, x) of a position some frames away."""
    hypotheses, ahead = np.empty(HYPOTHESES), np.empty(STATE)
    foresee(state, frames, model.motion.array, ahead, hypotheses)
    merge(hypotheses, ahead)
    running = ahead[DIRECTED]
    brown, run = ahead[BROWN_X : BROWN_X + 3], ahead[RUN_X : RUN_X + 3]
    spread = (1 - running) * ahead[BROWN_P : BROWN_P + 3] + running * ahead[RUN_XX : RUN_XX + 3]
    return brown + running * (run - brown), spread + running * (1 - running) * (run - brown) ** 2
