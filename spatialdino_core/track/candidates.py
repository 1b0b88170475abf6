"""Which objects may follow which: pairs within reach, one or more frames apart. Gains are not known here."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from spatialdino_core.track.joins import Candidates
from spatialdino_core.track.objects import Array, Index, Objects

Mask = NDArray[np.bool_]
MOST_NEIGHBOURS = 100
"""Over a long step nobody is looked for beyond the distance within which so many objects lie: among them a
link would be a guess, and there could be any number of them."""


def next_frame_pairs(objects: Objects, position: Array, reach_um: float) -> Candidates:
    """Pairs of neighbouring frames within reach, see `grown_reach`."""
    return _collected(objects, [_near(objects, position, 1, _reach(objects, 1, reach_um), None, None)])


def all_pairs(
    objects: Objects, position: Array, reach_um: float, max_gap: int, following: Index, previous: Index
) -> Candidates:
    """Pairs up to ``max_gap`` unseen frames apart.

    A particle that was lost may be as far away as it could go straight on in that time; one that was linked
    all along is only looked for within a single reach. Frames without any object do not count as gaps.

    Parameters
    ----------
    position
        (N, 3) positions without drift (µm).
    reach_um
        Farthest that a particle goes in the usual interval.
    following, previous
        Links so far, which tell who is lost.
    """
    ends, starts = following < 0, previous < 0
    pairs = []
    for frames in range(1, widest_gap(objects, max_gap) + 1):
        near, far = _reach(objects, frames, reach_um), _reach(objects, frames, reach_um, straight=True)
        pairs.append(_near(objects, position, frames, near, None, None, max_gap))
        if (far > near).any():
            pairs.append(_near(objects, position, frames, far, ends, None, max_gap))
            pairs.append(_near(objects, position, frames, far, None, starts, max_gap))
    return _collected(objects, pairs)


def grown_reach(objects: Objects, reach_um: float, growth: Array) -> Array:
    """The reach in steps over which motion grows by some factor: √Δt if it is diffusion, Δt straight on.

    It never shrinks, and grows no farther than to where `MOST_NEIGHBOURS` objects of a frame lie around one.
    """
    if len(objects) == 0:
        return reach_um * np.ones_like(growth)
    volume = np.maximum(np.ptp(objects.position_um, axis=0), reach_um).prod()
    per_um3 = len(objects) / objects.filled.sum() / volume
    crowd_um = np.cbrt(MOST_NEIGHBOURS / (4 / 3 * np.pi * per_um3))
    return np.asarray(np.maximum(np.minimum(reach_um * growth, crowd_um), reach_um))


def _reach(objects: Objects, frames: int, reach_um: float, *, straight: bool = False) -> Array:
    """(objects.frames − frames,) reach between each frame and that ``frames`` later."""
    step = (objects.times[frames:] - objects.times[:-frames]) / frames
    if straight:
        return grown_reach(objects, frames * reach_um, step)
    return grown_reach(objects, reach_um, np.sqrt(step))


def widest_gap(objects: Objects, max_gap: int) -> int:
    """Most frames between linked objects: more than the longest gap where frames are empty."""
    filled = np.flatnonzero(objects.filled)
    if len(filled) < 2:
        return 1
    steps = max_gap + 1
    return int((filled[steps:] - filled[:-steps]).max(initial=min(steps, objects.frames - 1)))


def _near(
    objects: Objects,
    position: Array,
    frames: int,
    reach_um: Array,
    earlier_mask: Mask | None,
    later_mask: Mask | None,
    max_gap: int = 0,
) -> tuple[Index, Index]:
    """Pairs that lie ``frames`` frames apart, optionally of some objects only."""
    limits, rank = objects.limits, np.cumsum(objects.filled)
    earlier, later = [np.empty(0, np.intp)], [np.empty(0, np.intp)]
    for t in range(objects.frames - frames):
        if rank[t + frames] - rank[t] > max_gap + 1:
            continue
        first, second = (np.arange(limits[s], limits[s + 1]) for s in (t, t + frames))
        first = first if earlier_mask is None else first[earlier_mask[first]]
        second = second if later_mask is None else second[later_mask[second]]
        if len(first) == 0 or len(second) == 0:
            continue
        trees = cKDTree(position[first]), cKDTree(position[second])
        near = trees[0].sparse_distance_matrix(trees[1], reach_um[t], output_type="ndarray")
        earlier.append(first[near["i"]])
        later.append(second[near["j"]])
    return np.concatenate(earlier), np.concatenate(later)


def _collected(objects: Objects, pairs: list[tuple[Index, Index]]) -> Candidates:
    earlier, later = (np.concatenate(side) for side in zip(*pairs, strict=True))
    # One number per pair: sorting it brings pairs into order and doubles together.
    code = np.sort(earlier * max(len(objects), 1) + later)
    code = code[np.diff(code, prepend=-1) > 0]
    earlier, later = np.divmod(code, max(len(objects), 1))
    starts = np.searchsorted(earlier, np.arange(len(objects) + 1))
    return Candidates(starts, later, np.zeros(len(later)))


def owners(candidates: Candidates) -> Index:
    """The earlier object of each pair."""
    return np.repeat(np.arange(len(candidates.starts) - 1), np.diff(candidates.starts))
