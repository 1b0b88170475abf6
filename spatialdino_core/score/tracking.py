"""The measures of the ISBI Particle Tracking Challenge: α, β, JSC, JSCθ and RMSE.

References
----------
Chenouard et al., Objective comparison of particle tracking methods, Nat. Methods 11, 281 (2014),
Supplementary Note 3. Links and identity switches, which these measures hide, are in `links`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from spatialdino_core.score import ratios
from spatialdino_core.score.matching import best_pairs, close_pairs
from spatialdino_core.score.tables import POSITION_UM, check_tracks, rows_by


@dataclass(frozen=True)
class TrackingScore:
    """Measures of the challenge.

    Attributes
    ----------
    alpha
        1 minus the distance to the truth, relative to that of finding nothing; spurious tracks are free.
    beta
        The same with spurious tracks penalised; never above `alpha`.
    jsc
        Jaccard similarity of positions, TP / (TP + FN + FP).
    jsc_theta
        Jaccard similarity of whole tracks.
    rmse_um
        Root mean square distance of matched positions (µm); NaN without a match.
    """

    alpha: float
    beta: float
    jsc: float
    jsc_theta: float
    rmse_um: float
    true_tracks: int
    found_tracks: int
    paired_tracks: int


@dataclass(frozen=True)
class _Matches:
    """Pairs of true and found positions in the same frame, closer than the gate, by track number."""

    truth: NDArray[np.int64]
    found: NDArray[np.int64]
    distances_um: NDArray[np.float64]


def score_tracks(found: pd.DataFrame, truth: pd.DataFrame, gate_um: float) -> TrackingScore:
    """Score tracks against true tracks.

    The distance between two tracks sums over frames ``min(distance, gate)`` where both exist and the
    gate where only one does. True tracks are paired with found ones, or with nothing, so that
    the sum of distances is smallest; where both are equal, with nothing.

    Parameters
    ----------
    found, truth
        One row per position, columns ``track_id, frame, z_um, y_um, x_um``.
    gate_um
        The challenge's ε (µm).

    Raises
    ------
    BadInputError
        When a column is missing, a number is not finite or a track is twice in a frame.
    """
    found, truth = check_tracks(found, "found tracks"), check_tracks(truth, "true tracks")
    found_lengths, truth_lengths = _lengths(found), _lengths(truth)
    matches = _matches(found, truth, gate_um)
    pairs, gains = _candidates(found, truth, matches, gate_um)
    chosen = best_pairs(pairs[:, 0], pairs[:, 1], gains, (len(truth_lengths), len(found_lengths)))
    paired = pairs[chosen]

    # In units of distance: nothing found would cost ε per true position; every pairing saves its gain.
    nothing = gate_um * truth_lengths.sum()
    saved = float(gains[chosen].sum())
    spurious = gate_um * (found_lengths.sum() - found_lengths[paired[:, 1]].sum())

    partner = np.full(len(truth_lengths), -1, np.int64)
    partner[paired[:, 0]] = paired[:, 1]
    distances = matches.distances_um[partner[matches.truth] == matches.found]
    return TrackingScore(
        alpha=_share_saved(saved, nothing, len(found)),
        beta=_share_saved(saved, nothing + spurious, len(found)),
        jsc=ratios.jaccard(len(distances), len(found), len(truth)),
        jsc_theta=ratios.jaccard(len(paired), len(found_lengths), len(truth_lengths)),
        rmse_um=math.sqrt((distances**2).mean()) if len(distances) else math.nan,
        true_tracks=len(truth_lengths),
        found_tracks=len(found_lengths),
        paired_tracks=len(paired),
    )


def _share_saved(saved: float, whole: float, found: int) -> float:
    """``saved / whole``; without truth 1 if nothing was found either, else 0."""
    if whole == 0:
        return 0.0 if found else 1.0
    return float(saved / whole)


def _lengths(tracks: pd.DataFrame) -> NDArray[np.int64]:
    """Number of positions per track, in ascending order of track id."""
    return np.unique(tracks["track_id"].to_numpy(), return_counts=True)[1]


def _numbers(tracks: pd.DataFrame) -> NDArray[np.int64]:
    """Track of each row, numbered from 0 in ascending order of track id."""
    return np.unique(tracks["track_id"].to_numpy(), return_inverse=True)[1]


def _matches(found: pd.DataFrame, truth: pd.DataFrame, gate_um: float) -> _Matches:
    found_tracks, truth_tracks = _numbers(found), _numbers(truth)
    found_um, truth_um = found[POSITION_UM].to_numpy(float), truth[POSITION_UM].to_numpy(float)
    found_rows = rows_by(found, "frame")
    parts = []
    for frame, truth_index in rows_by(truth, "frame").items():
        found_index = found_rows.get(frame, np.empty(0, np.intp))
        i, j, distances = close_pairs(truth_um[truth_index], found_um[found_index], gate_um)
        parts.append((truth_tracks[truth_index[i]], found_tracks[found_index[j]], distances))
    if not parts:
        return _Matches(np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0))
    true_part, found_part, distance_part = zip(*parts, strict=True)
    return _Matches(np.concatenate(true_part), np.concatenate(found_part), np.concatenate(distance_part))


def _candidates(
    found: pd.DataFrame, truth: pd.DataFrame, matches: _Matches, gate_um: float
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Track pairs (n, 2) that ever come close, and what each saves against leaving the true track alone.

    With c common frames, the pair's distance is Σ min(d, ε) over them plus ε for each other position
    of either track; alone, the true track costs ε per position. The difference is
    Σ (ε - d)₊ - ε (length of the found track - c).
    """
    pairs, which = np.unique(np.stack([matches.truth, matches.found], axis=1), axis=0, return_inverse=True)
    closeness = np.bincount(which, weights=gate_um - matches.distances_um, minlength=len(pairs))
    frames = np.union1d(found["frame"], truth["frame"]).astype(np.int64)
    both = _presence(truth, frames)[pairs[:, 0]].multiply(_presence(found, frames)[pairs[:, 1]])
    common = np.asarray(both.sum(axis=1)).ravel()
    return pairs, closeness - gate_um * (_lengths(found)[pairs[:, 1]] - common)


def _presence(tracks: pd.DataFrame, frames: NDArray[np.int64]) -> csr_matrix:
    """Sparse matrix (tracks, frames), 1 where a track has a position; ``frames`` ascending."""
    rows, columns = _numbers(tracks), np.searchsorted(frames, tracks["frame"].to_numpy(np.int64))
    return csr_matrix((np.ones(len(tracks)), (rows, columns)), shape=(len(_lengths(tracks)), len(frames)))
