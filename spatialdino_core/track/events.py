"""Candidate events for review: fission, fusion, appearance and disappearance.

They do not change the links. A score is a probability against the alternative that two tracks have
nothing to do with each other; how common splits and merges are is measured on the movie.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.spatial import cKDTree
from scipy.special import expit, gammaln

from spatialdino_core.statistics import MAD_TO_SIGMA
from spatialdino_core.track.appearance import BrightnessModel
from spatialdino_core.track.candidates import Mask, grown_reach
from spatialdino_core.track.links import Links, Model
from spatialdino_core.track.objects import Array, Index, Objects
from spatialdino_core.track.parameters import TrackParameters
from spatialdino_core.track.region import Region

EVENT_COLUMNS = ["event", "frame", "time_s", "z_um", "y_um", "x_um", "track_id", "other_track_id", "score"]
AVERAGED = 3
"""Objects of a track, next to an event, that its brightness is taken from."""
DEGREES = 4.0
"""Of Student's t, for the distance of two parts that just split: wide, since how far they leap is unknown."""
FEWEST_STEPS = 8
ROUNDS = 20


@dataclass(frozen=True)
class _Scene:
    """What all candidates are judged with; read backwards in time, a split is a merge."""

    objects: Objects
    position: Array
    brightness: Array
    previous: Index
    following: Index
    scale_um: Array
    model: Model

    def reversed(self) -> _Scene:
        return _Scene(
            self.objects,
            self.position,
            self.brightness,
            self.following,
            self.previous,
            self.scale_um,
            self.model,
        )


@dataclass(frozen=True)
class Partners:
    """What tracks most likely split from or merged into.

    Attributes
    ----------
    edge
        (n,) objects with which a track starts or ends.
    partner
        (n,) for each the object of another track, one observed frame before or after.
    odds
        (n,) logarithm of the odds against two tracks that have nothing to do with each other.
    """

    edge: Index
    partner: Index
    odds: Array


def find_partners(
    objects: Objects, links: Links, model: Model, edges: Mask, parents: Mask, reach_um: float
) -> tuple[Partners, Partners]:
    """Splits, then merges, for the starts and ends among ``edges`` with others among ``parents``, (N,) both.

    How many of all parents split, and merge, is estimated from the candidates themselves.
    """
    starts = np.flatnonzero(edges & (links.previous < 0) & (objects.frame > 0))
    ends = np.flatnonzero(edges & (links.following < 0) & (objects.frame < objects.frames - 1))
    measured = model.measured(objects)
    scale = _step_scale(objects, measured.position, links, reach_um)
    scene = _Scene(
        objects, measured.position, measured.brightness, links.previous, links.following, scale, model
    )
    return (
        _partners(scene, starts, parents, -1, reach_um),
        _partners(scene.reversed(), ends, parents, +1, reach_um),
    )


def find_events(
    objects: Objects, track: Index, links: Links, model: Model, region: Region, parameters: TrackParameters
) -> pd.DataFrame:
    """Candidate events of a movie.

    Parameters
    ----------
    track
        (N,) track of each object; 0 for objects of dropped tracks.
    links, model
        Of the movie.
    region
        Imaged region; nothing is reported within ``border_um`` of its border.

    Returns
    -------
    pandas.DataFrame
        ``EVENT_COLUMNS`` without ``time_s``, sorted by frame (of the movie), event and track.
        ``other_track_id`` is the track that was split from or merged into, else empty.
    """
    kept = track > 0
    found = find_partners(objects, links, model, kept, kept, parameters.max_displacement_um)
    rows, explained = [], set()
    for name, some in zip(("fission", "fusion"), found, strict=True):
        for edge, partner, score in zip(some.edge, some.partner, expit(some.odds), strict=True):
            if score >= parameters.min_event_score:
                rows.append(_row(name, objects, track, edge, partner, score))
                explained.add(edge)
    starts = np.flatnonzero(kept & (links.previous < 0) & (objects.frame > 0))
    ends = np.flatnonzero(kept & (links.following < 0) & (objects.frame < objects.frames - 1))
    inside = region.distance_to_border_um(objects.position_um) >= parameters.border_um
    for name, edge in [("appearance", starts), ("disappearance", ends)]:
        alone = [number for number in edge[inside[edge]] if number not in explained]
        rows += [_row(name, objects, track, number, None, 1.0) for number in alone]
    table = pd.DataFrame(rows, columns=[name for name in EVENT_COLUMNS if name != "time_s"])
    return table.sort_values(["frame", "event", "track_id"], kind="stable").reset_index(drop=True)


def _step_scale(objects: Objects, position: Array, links: Links, reach_um: float) -> Array:
    """Median length of steps along (z, y, x), as if of the usual interval, or a quarter of the reach."""
    later = np.flatnonzero(links.previous >= 0)
    if len(later) < FEWEST_STEPS:
        return np.full(3, reach_um / 4)
    earlier = links.previous[later]
    time = objects.times[objects.frame[later]] - objects.times[objects.frame[earlier]]
    frames = objects.frame[later] - objects.frame[earlier]
    steps = np.abs(position[later] - position[earlier]) / np.sqrt(time / frames)[:, None]
    return np.maximum(MAD_TO_SIGMA * np.median(steps, axis=0), 0.01 * reach_um)


def _partners(scene: _Scene, edges: Index, allowed: Mask, direction: int, reach_um: float) -> Partners:
    """For each start (direction −1) or end (+1) of a track the object of another track, one frame
    before or after, that it most likely split from or merged into.
    """
    frame = scene.objects.frame
    # A parent is seen in the frame before and goes on in the frame of the start.
    goes_on = scene.following >= 0
    goes_on[goes_on] = np.abs(frame[scene.following[goes_on]] - frame[goes_on]) == 1
    parents = np.flatnonzero(allowed & goes_on)
    edge, partner = _near(scene, edges, parents, direction, reach_um)
    if len(edge) == 0:
        return Partners(edge, partner, np.empty(0))
    gain = _gain(scene, edge, partner)
    share = 0.01
    for _ in range(ROUNDS):
        # How many of all parents split is what the scores add up to (expectation maximisation).
        odds = gain + np.log(share)
        share = float(np.clip(expit(odds).sum() / len(parents), 1 / (len(parents) + 1), 0.5))
    order = np.lexsort([partner, -odds, edge])
    best = order[np.r_[True, np.diff(edge[order]) > 0]]
    return Partners(edge[best], partner[best], odds[best])


def _near(
    scene: _Scene, edges: Index, parents: Index, direction: int, reach_um: float
) -> tuple[Index, Index]:
    """Pairs within reach, the parent one frame away."""
    frame, position = scene.objects.frame, scene.position
    reaches = grown_reach(scene.objects, reach_um, np.sqrt(scene.objects.steps))
    first, second = [np.empty(0, np.intp)], [np.empty(0, np.intp)]
    for t in np.unique(frame[edges]):
        here, there = edges[frame[edges] == t], parents[frame[parents] == t + direction]
        if len(there):
            near = cKDTree(position[here]).sparse_distance_matrix(
                cKDTree(position[there]), reaches[max(t, t + direction)], output_type="ndarray"
            )
            near = np.sort(near, order=["i", "j"])
            first.append(here[near["i"]])
            second.append(there[near["j"]])
    return np.concatenate(first), np.concatenate(second)


@np.errstate(invalid="ignore")  # brightness is NaN where there is none
def _gain(scene: _Scene, edge: Index, partner: Index) -> Array:
    """Log-likelihood ratio of "two of one" against "one goes on alone, the other is new".

    Mass is conserved: the one is as bright as the two together.
    """
    step = scene.objects.steps[np.maximum(scene.objects.frame[edge], scene.objects.frame[partner])]
    scale = _scale_of_parts(scene, step)
    gain = _log_student((scene.position[edge] - scene.position[partner]) / scale) - np.log(scale).sum(axis=1)
    gain -= np.log(scene.model.rates.born(step) + scene.model.rates.clutter_per_um3)
    light = scene.model.light
    if light.weight == 0:
        return np.asarray(gain)
    parent = _averaged(scene.brightness, scene.previous, partner)
    child = _averaged(scene.brightness, scene.following, edge)
    sibling = _averaged(scene.brightness, scene.following, scene.following[partner])
    together = _log_change(np.logaddexp(child, sibling) - parent, light)
    alone = _log_change(sibling - parent, light)
    new = -0.5 * ((child - light.mean) / light.spread) ** 2 - np.log(light.spread * np.sqrt(2 * np.pi))
    return np.asarray(gain + light.weight * np.nan_to_num(together - alone - new))


def _scale_of_parts(scene: _Scene, step: Array) -> Array:
    """Scale (n, 3) of the distance of a part from its whole one step (usual intervals) away: generous, µm."""
    return np.sqrt(2) * scene.scale_um * np.sqrt(step)[:, None]


def _averaged(brightness: Array, step: Index, start: Index) -> Array:
    """Logarithm of the mean brightness of the next few objects along a track, away from the event."""
    total, count, here = np.zeros(len(start)), np.zeros(len(start)), start
    for _ in range(AVERAGED):
        known = (here >= 0) & np.isfinite(brightness[here])
        total += np.where(known, np.exp(np.where(known, brightness[here], 0.0)), 0.0)
        count += known
        here = np.where(here >= 0, step[here], -1)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(np.where(count > 0, np.log(total / count), np.nan))


def _log_change(change: Array, light: BrightnessModel) -> Array:
    """Log-density of a change of log-brightness: Gaussian, but for a few that are anything."""
    variance = 2 * light.noise**2 + light.wander**2
    wide = 2 * light.spread**2 + variance
    same = -0.5 * (change**2 / variance + np.log(2 * np.pi * variance)) + np.log1p(-light.outliers)
    other = -0.5 * (change**2 / wide + np.log(2 * np.pi * wide)) + np.log(light.outliers)
    return np.asarray(np.logaddexp(same, other))


def _log_student(standardised: Array) -> Array:
    """Log-density of the multivariate Student t of scale 1, for vectors along the last axis."""
    k = standardised.shape[-1]
    constant = gammaln((DEGREES + k) / 2) - gammaln(DEGREES / 2) - k / 2 * np.log(DEGREES * np.pi)
    return np.asarray(constant - (DEGREES + k) / 2 * np.log1p((standardised**2).sum(-1) / DEGREES))


def _row(
    name: str, objects: Objects, track: Index, number: int, partner: int | None, score: float
) -> list[object]:
    z, y, x = objects.position_um[number]
    other = pd.NA if partner is None else int(track[partner])
    frame = int(objects.table["frame"].iloc[number])
    return [name, frame, z, y, x, int(track[number]), other, score]
