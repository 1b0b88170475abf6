"""Candidate events for review: fission, fusion, appearance and disappearance.

They do not change the tracks. A score is a probability against the alternative (nothing of the kind
happened there), computed from the same model that made the links.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from scipy.special import expit

from spatialdino_core.track.model import LinkModel
from spatialdino_core.track.objects import Array, Index, Objects
from spatialdino_core.track.parameters import TrackParameters
from spatialdino_core.track.region import Region

EVENT_COLUMNS = ["event", "frame", "time_s", "z_um", "y_um", "x_um", "track_id", "other_track_id", "score"]


def find_events(
    objects: Objects,
    track: Index,
    previous: Index,
    following: Index,
    frames: int,
    region: Region,
    model: LinkModel,
    parameters: TrackParameters,
) -> pd.DataFrame:
    """Candidate events of a movie.

    Parameters
    ----------
    track
        (N,) track of each object; 0 for objects of dropped tracks.
    previous, following
        (N,) object before and after within the track, −1 at its ends.
    frames
        Length of the movie: nothing appears in frame 0 or disappears in the last frame.
    region
        Imaged region; nothing is reported within ``border_um`` of its border.
    model
        Of links, as measured on the movie.

    Returns
    -------
    pandas.DataFrame
        ``EVENT_COLUMNS`` without ``time_s``, sorted by frame, event and track. ``other_track_id`` is
        the track that was split from or merged into, else empty.
    """
    inside = region.distance_to_border_um(objects.position_um) >= parameters.border_um
    kept = track > 0
    starts = np.flatnonzero(kept & (previous < 0) & (objects.frame > 0))
    ends = np.flatnonzero(kept & (following < 0) & (objects.frame < frames - 1))
    parents = np.flatnonzero(kept & (following >= 0))
    heirs = np.flatnonzero(kept & (previous >= 0))
    fissions = _partners(objects, starts, parents, following, -1, model, parameters)
    fusions = _partners(objects, ends, heirs, previous, +1, model, parameters)
    rows = [_row("fission", objects, track, start, parent, score) for start, parent, score in fissions]
    rows += [_row("fusion", objects, track, end, heir, score) for end, heir, score in fusions]
    explained = {int(number) for number, _, _ in [*fissions, *fusions]}
    for name, edge in [("appearance", starts), ("disappearance", ends)]:
        rows += [
            _row(name, objects, track, number, None, 1.0)
            for number in edge[inside[edge]]
            if int(number) not in explained
        ]
    table = pd.DataFrame(rows, columns=[name for name in EVENT_COLUMNS if name != "time_s"])
    return table.sort_values(["frame", "event", "track_id"], kind="stable").reset_index(drop=True)


def _partners(
    objects: Objects,
    edges: Index,
    candidates: Index,
    other: Index,
    direction: int,
    model: LinkModel,
    parameters: TrackParameters,
) -> list[tuple[int, int, float]]:
    """For each start (direction −1) or end (+1) of a track the object of another track, one frame
    before or after, that it most likely split from or merged into.

    Brightness is conserved: the one is as bright as the two together.
    """
    found = []
    for frame in np.unique(objects.frame[edges]):
        here = edges[objects.frame[edges] == frame]
        there = candidates[objects.frame[candidates] == frame + direction]
        there = there[objects.frame[other[there]] == frame] if len(there) else there
        edge, partner = objects.near(here, there, parameters.max_displacement_um)
        if len(edge) == 0:
            continue
        score = expit(_gain(objects, edge, partner, other[partner], model, parameters.intensity_weight))
        for number in np.unique(edge):
            mine = np.flatnonzero(edge == number)
            best = mine[np.argmax(score[mine])]
            if score[best] >= parameters.min_event_score:
                found.append((int(number), int(partner[best]), float(score[best])))
    return found


def _gain(
    objects: Objects, edge: Index, partner: Index, sibling: Index, model: LinkModel, weight: float
) -> Array:
    """Log-likelihood ratio of "two of one" against "one goes on alone, the other is new".

    Read backwards in time it is that of a merge, with as many particles vanishing as appearing.
    """
    brightness = objects.log_brightness
    together = np.logaddexp(brightness[edge], brightness[sibling]) - brightness[partner]
    alone = brightness[sibling] - brightness[partner]
    cost = model.link_cost(objects.position_um[partner] - objects.position_um[edge], together, 1, weight)
    unrelated = model.log_newcomer(brightness[edge]) + model.log_change(alone)
    return np.asarray(-cost - np.log(model.births_per_um3) - weight * unrelated)


def _row(
    name: str, objects: Objects, track: Index, number: int, partner: int | None, score: float
) -> list[object]:
    z, y, x = objects.position_um[number]
    other = pd.NA if partner is None else int(track[partner])
    return [name, int(objects.frame[number]), z, y, x, int(track[number]), other, score]
