"""The measures of the Cell Tracking Challenge, for results that have instance labels.

They are computed by py-ctcmetrics, an optional package. Here the labels are matched and tracks are put
as the challenge wants them: without gaps, and ended by a division. Fusions have no place in it.

References
----------
Matula et al., Cell tracking accuracy measurement based on comparison of acyclic oriented graphs,
PLoS ONE 10, e0144959 (2015). Maška et al., The Cell Tracking Challenge: 10 years of objective
benchmarking, Nat. Methods 20, 1010 (2023). Luiten et al., HOTA, Int. J. Comput. Vis. 129 (2021).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from spatialdino_core.errors import BadInputError
from spatialdino_core.score.segmentation import LabelPair, Overlaps, overlaps

MEASURES = ("DET", "SEG", "TRA", "LNK", "HOTA")
MATCHES = ("labels_ref", "labels_comp", "mapped_ref", "mapped_comp", "ious")
NO_PARENT = 0


@dataclass(frozen=True)
class CellTrackingScore:
    """1 is perfect. A true instance is matched by the found one that covers more than half of it.

    Attributes
    ----------
    det
        Detection: 1 minus the weighted corrections of instances, relative to finding nothing.
    seg
        Mean intersection over union of true instances and their matches, 0 for those without.
    tra
        As ``det`` with the corrections of links added.
    lnk
        As ``det``, of links alone.
    hota
        Detection and association in one number.
    """

    det: float
    seg: float
    tra: float
    lnk: float
    hota: float


def score_cell_tracking(
    frames: Iterable[LabelPair],
    found: pd.DataFrame,
    truth: pd.DataFrame,
    found_divisions: pd.DataFrame,
    true_divisions: pd.DataFrame,
) -> CellTrackingScore:
    """Score labels and tracks of a movie.

    Parameters
    ----------
    frames
        Pairs of found and true labels (z, y, x), 0 for background, of every frame; consumed one by one.
    found, truth
        Which label in which frame is of which track: columns ``frame, label, track_id``. Labels that are
        not in the table are ignored.
    found_divisions, true_divisions
        Columns ``track_id, other_track_id``: a track and the one that it split from.

    Raises
    ------
    BadInputError
        When there is no truth, labels differ in shape or py-ctcmetrics is not installed.
    """
    calculate = _library()
    pairs = [overlaps(found_labels, true_labels) for found_labels, true_labels in frames]
    found = _present(found, [both.found_ids for both in pairs])
    truth = _present(truth, [both.true_ids for both in pairs])
    if len(truth) == 0:
        raise BadInputError("truth", found="no track", expected="tracks", remedy="Score another movie.")
    if len(found) == 0:
        return CellTrackingScore(0.0, 0.0, 0.0, 0.0, 0.0)
    found, found_tracks = challenge_tracks(found, found_divisions)
    truth, true_tracks = challenge_tracks(truth, true_divisions)
    matches: dict[str, list[list[Any]]] = {name: [] for name in MATCHES}
    for frame, both in enumerate(pairs):
        for name, values in zip(
            MATCHES, _match(both, _names(found, frame), _names(truth, frame)), strict=True
        ):
            matches[name].append(values)
    values = calculate(found_tracks, true_tracks, matches, matches, list(MEASURES), True)
    return CellTrackingScore(**{name.lower(): float(values[name]) for name in MEASURES})


def challenge_tracks(tracks: pd.DataFrame, divisions: pd.DataFrame) -> tuple[pd.DataFrame, NDArray[np.int64]]:
    """Tracks as the challenge wants them: each ends at a gap or a division, and what follows is its child.

    Parameters
    ----------
    tracks
        Columns ``frame, label, track_id``.
    divisions
        Columns ``track_id, other_track_id``. The other track also ends where the new one begins.

    Returns
    -------
    positions
        Columns ``frame, label, part``, the last from 1.
    parts
        (n, 4): part, first and last frame, the part it continues or split from or 0.
    """
    rows = tracks.sort_values(["track_id", "frame"], ignore_index=True)
    track, frame = rows["track_id"].to_numpy(), rows["frame"].to_numpy()
    born = rows.groupby("track_id")["frame"].min()
    known = divisions[divisions["track_id"].isin(born.index) & divisions["other_track_id"].isin(born.index)]
    parent = dict(zip(known["track_id"], known["other_track_id"], strict=True))
    ends = np.zeros(len(rows), np.bool_)
    for child, other in parent.items():
        later = np.flatnonzero((track == other) & (frame >= born[child]))
        ends[later[:1]] = True
    new = np.r_[True, track[1:] != track[:-1]]
    starts = new | ends | np.r_[False, np.diff(frame) > 1]
    part = np.cumsum(starts)
    last = np.r_[starts[1:], True]
    continued = np.where(new[starts], NO_PARENT, part[starts] - 1)
    parts = np.stack([part[starts], frame[starts], frame[last], continued], axis=1)
    for row in np.flatnonzero(new[starts]):
        other = parent.get(track[starts][row])
        before = parts[(track[starts] == other) & (parts[:, 2] < parts[row, 1])]
        parts[row, 3] = before[-1, 0] if len(before) else NO_PARENT
    return rows[["frame", "label"]].assign(part=part), parts.astype(np.int64)


def _present(tracks: pd.DataFrame, labels: list[NDArray[np.integer]]) -> pd.DataFrame:
    """Rows whose label has voxels: a particle that hides another one leaves it none."""
    seen = {(frame, int(label)) for frame, here in enumerate(labels) for label in here}
    rows = zip(tracks["frame"].tolist(), tracks["label"].tolist(), strict=True)
    return tracks[[row in seen for row in rows]]


def _names(positions: pd.DataFrame, frame: int) -> dict[int, int]:
    """The part of a track that each label of a frame is."""
    here = positions[positions["frame"] == frame]
    return dict(zip(here["label"].tolist(), here["part"].tolist(), strict=True))


def _match(both: Overlaps, found: dict[int, int], truth: dict[int, int]) -> tuple[list[Any], ...]:
    """Parts in a frame, true and found, then those that match with their intersection over union."""
    matched = both.covered > 0.5
    triples = zip(
        both.true_ids[both.truth[matched]].tolist(),
        both.found_ids[both.found[matched]].tolist(),
        both.iou[matched].tolist(),
        strict=True,
    )
    known = [(truth[t], found[f], iou) for t, f, iou in triples if t in truth and f in found]
    columns = [list(column) for column in zip(*known, strict=True)] if known else [[], [], []]
    return sorted(truth.values()), sorted(found.values()), *columns


def _library() -> Any:
    try:
        from ctc_metrics.scripts.evaluate import calculate_metrics
    except ImportError:
        raise BadInputError(
            "measures of the Cell Tracking Challenge",
            found="no package ctc_metrics",
            expected="it to be installed",
            remedy="pip install py-ctcmetrics",
        ) from None
    return calculate_metrics
