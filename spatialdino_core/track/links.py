"""Links between objects: candidates within reach, their gains, and the best set of them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from spatialdino_core.track.assignment import assign, confidence
from spatialdino_core.track.model import LinkModel, first_model, updated_model
from spatialdino_core.track.objects import Array, Index, Objects
from spatialdino_core.track.parameters import TrackParameters

ROUNDS = 4


@dataclass(frozen=True)
class Links:
    """Links from earlier to later objects, each object at most once on each side.

    Attributes
    ----------
    earlier, later
        (N,) object numbers.
    cost
        (N,) negative log-likelihood.
    confidence
        (N,) probability against alternatives.
    """

    earlier: Index
    later: Index
    cost: Array
    confidence: Array

    @classmethod
    def joined(cls, parts: list[Links]) -> Links:
        """All links of several sets, ordered by the later object."""
        arrays = [
            np.concatenate([getattr(part, name) for part in parts]) for name in cls.__dataclass_fields__
        ]
        order = np.argsort(arrays[1], kind="stable")
        return cls(*(array[order] for array in arrays))


NONE = Links(*(np.empty(0, np.intp),) * 2, *(np.empty(0),) * 2)


def link_neighbouring_frames(
    objects: Objects, frames: int, volume: float, parameters: TrackParameters
) -> tuple[Links, LinkModel]:
    """Link all pairs of neighbouring frames, with a model that is measured on the links themselves.

    Parameters
    ----------
    frames
        Length of the movie.
    volume
        Imaged volume, µm³.
    """
    model = first_model(objects.position_um, objects.log_brightness, frames, parameters.max_displacement_um)
    links = NONE
    before_last = int((objects.frame < frames - 1).sum())
    for _ in range(ROUNDS):
        parts = [_link_pair(objects, frame, model, parameters) for frame in range(frames - 1)]
        links = Links.joined([NONE, *parts])
        model = updated_model(
            model,
            objects.position_um[links.later] - objects.position_um[links.earlier],
            objects.log_brightness[links.later] - objects.log_brightness[links.earlier],
            endings=before_last - len(links.earlier),
            objects=before_last,
            frames=frames - 1,
            volume=volume,
        )
    return links, model


def _link_pair(objects: Objects, frame: int, model: LinkModel, parameters: TrackParameters) -> Links:
    numbers = np.arange(len(objects))
    earlier, later = objects.near(
        numbers[objects.in_frame(frame)], numbers[objects.in_frame(frame + 1)], parameters.max_displacement_um
    )
    return best_links(objects, earlier, later, model, parameters)


def close_gaps(objects: Objects, links: Links, model: LinkModel, parameters: TrackParameters) -> Links:
    """Link ends of tracks to beginnings of others a few frames later.

    The reach grows with the square root of time, as Brownian motion does.
    """
    has_next, has_previous = np.zeros(len(objects), bool), np.zeros(len(objects), bool)
    has_next[links.earlier] = has_previous[links.later] = True
    ends, starts = np.flatnonzero(~has_next), np.flatnonzero(~has_previous)
    pairs = []
    for frames in range(2, parameters.max_gap_frames + 2):
        reach = parameters.max_displacement_um * np.sqrt(frames)
        for frame in np.unique(objects.frame[ends]):
            of_frame = ends[objects.frame[ends] == frame]
            after = starts[objects.frame[starts] == frame + frames]
            pairs.append(np.stack(objects.near(of_frame, after, reach)))
    earlier, later = np.concatenate([np.empty((2, 0), np.intp), *pairs], axis=1)
    return best_links(objects, earlier, later, model, parameters)


def best_links(
    objects: Objects, earlier: Index, later: Index, model: LinkModel, parameters: TrackParameters
) -> Links:
    """The set of links of greatest total gain among candidate pairs."""
    if len(earlier) == 0:
        return NONE
    cost, gain = cost_and_gain(objects, earlier, later, model, parameters)
    _, rows = np.unique(earlier, return_inverse=True)
    _, columns = np.unique(later, return_inverse=True)
    chosen = assign(rows, columns, gain, (rows.max() + 1, columns.max() + 1))
    sure = confidence(rows, columns, gain)
    return Links(earlier[chosen], later[chosen], cost[chosen], sure[chosen])


def cost_and_gain(
    objects: Objects, earlier: Index, later: Index, model: LinkModel, parameters: TrackParameters
) -> tuple[Array, Array]:
    """Cost of candidate links, and their gain over not linking."""
    weight = parameters.intensity_weight
    cost = model.link_cost(
        objects.position_um[later] - objects.position_um[earlier],
        objects.log_brightness[later] - objects.log_brightness[earlier],
        objects.frame[later] - objects.frame[earlier],
        weight,
    )
    return cost, model.gain(cost, objects.log_brightness[later], weight)
