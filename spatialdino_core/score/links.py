"""Identity over time: switches, fragmentation, links, and tracks followed from end to end.

Positions are related as in CLEAR MOT: a pair that was matched in the frame before stays matched while
it is closer than the gate, and what is left is matched anew, with the smallest truncated distance.

References
----------
Bernardin & Stiefelhagen, Evaluating multiple object tracking performance: the CLEAR MOT metrics,
EURASIP J. Image Video Process. 2008.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from spatialdino_core.score import ratios
from spatialdino_core.score.detection import match_frame
from spatialdino_core.score.tables import POSITION_UM, check_tracks, rows_by


@dataclass(frozen=True)
class LinkScore:
    """How identities are kept.

    Attributes
    ----------
    id_switches
        How often a true track is taken over by another found track than the last one that had it.
    fragmentations
        How often a true track is lost and found again.
    links_found, links_expected, links_correct
        A link joins successive positions of one track. It is correct if both ends match the two
        ends of a true link.
    complete
        True tracks of which every position is matched by the same found track.
    true_tracks
        Number of true tracks.
    """

    id_switches: int
    fragmentations: int
    links_found: int
    links_expected: int
    links_correct: int
    complete: int
    true_tracks: int

    @property
    def link_precision(self) -> float:
        """Correct links per found link."""
        return ratios.precision(self.links_correct, self.links_found, self.links_expected)

    @property
    def link_recall(self) -> float:
        """Correct links per true link."""
        return ratios.recall(self.links_correct, self.links_found, self.links_expected)

    @property
    def link_f1(self) -> float:
        """Harmonic mean of both."""
        return ratios.f1(self.links_correct, self.links_found, self.links_expected)

    @property
    def complete_fraction(self) -> float:
        """Share of true tracks that are complete; 1 if there are none."""
        return self.complete / self.true_tracks if self.true_tracks else 1.0


def score_links(found: pd.DataFrame, truth: pd.DataFrame, gate_um: float) -> LinkScore:
    """Score identities of tracks.

    Parameters
    ----------
    found, truth
        One row per position, columns ``track_id, frame, z_um, y_um, x_um``.
    gate_um
        Only closer positions can match (µm).

    Raises
    ------
    BadInputError
        When a column is missing, a number is not finite or a track is twice in a frame.
    """
    found, truth = check_tracks(found, "found tracks"), check_tracks(truth, "true tracks")
    match = _correspondences(found, truth, gate_um)
    followers = [match[rows] for rows in rows_by(truth, "track_id").values()]
    found_tracks = found["track_id"].to_numpy()
    identities = [found_tracks[rows[rows >= 0]] for rows in followers]
    next_truth, next_found = _successors(truth), _successors(found)
    (starts,) = np.nonzero((next_truth >= 0) & (match >= 0))
    ends = match[next_truth[starts]]
    return LinkScore(
        id_switches=sum(int((ids[1:] != ids[:-1]).sum()) for ids in identities),
        fragmentations=sum(_gaps(rows >= 0) for rows in followers),
        links_found=int((next_found >= 0).sum()),
        links_expected=int((next_truth >= 0).sum()),
        links_correct=int(((ends >= 0) & (next_found[match[starts]] == ends)).sum()),
        complete=sum(
            bool((rows >= 0).all() and (ids == ids[0]).all())
            for rows, ids in zip(followers, identities, strict=True)
        ),
        true_tracks=len(followers),
    )


def _correspondences(found: pd.DataFrame, truth: pd.DataFrame, gate_um: float) -> NDArray[np.int64]:
    """For each row of the truth the matched row of the found tracks, or -1."""
    found_um, truth_um = found[POSITION_UM].to_numpy(float), truth[POSITION_UM].to_numpy(float)
    found_ids, truth_ids = found["track_id"].tolist(), truth["track_id"].tolist()
    found_frames = rows_by(found, "frame")
    match = np.full(len(truth), -1, np.int64)
    held: dict[object, object] = {}
    for frame, truth_rows in rows_by(truth, "frame").items():
        found_rows = found_frames.get(frame, np.empty(0, np.intp))
        row_of = {found_ids[row]: row for row in found_rows}
        for row in truth_rows:
            candidate = row_of.get(held.get(truth_ids[row]), -1)
            if candidate >= 0 and np.linalg.norm(found_um[candidate] - truth_um[row]) < gate_um:
                match[row] = candidate
        open_truth = truth_rows[match[truth_rows] < 0]
        open_found = np.setdiff1d(found_rows, match[truth_rows])
        i, j, _ = match_frame(found_um[open_found], truth_um[open_truth], gate_um)
        match[open_truth[j]] = open_found[i]
        held = {truth_ids[row]: found_ids[match[row]] for row in truth_rows if match[row] >= 0}
    return match


def _successors(tracks: pd.DataFrame) -> NDArray[np.int64]:
    """For each row the row of the same track's next position, or -1; rows are sorted by track and frame."""
    identifiers = tracks["track_id"].to_numpy()
    following = np.arange(1, len(tracks) + 1)
    same = np.zeros(len(tracks), np.bool_)
    same[:-1] = identifiers[1:] == identifiers[:-1]
    return np.where(same, following, -1)


def _gaps(matched: NDArray[np.bool_]) -> int:
    """Number of interior runs without a match."""
    (where,) = np.nonzero(matched)
    return int((np.diff(where) > 1).sum())
