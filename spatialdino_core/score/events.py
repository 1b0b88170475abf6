"""Events of tracks against true ones: fission, fusion, appearance and disappearance, each kind by itself.

What counts as a true event is read off the truth table: what a perfect observer sees, who cannot see
particles that are dark.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from spatialdino_core.errors import BadInputError
from spatialdino_core.score.matching import best_pairs, close_pairs
from spatialdino_core.score.ratios import Counts
from spatialdino_core.score.tables import POSITION_UM, check_positions

KINDS = ("fission", "fusion", "appearance", "disappearance")
PARTNER_UM = ["partner_z_um", "partner_y_um", "partner_x_um"]
TRUE_COLUMNS = ["event", "frame", *POSITION_UM, *PARTNER_UM, "asked"]
NOBODY = -1


@dataclass(frozen=True)
class EventScore(Counts):
    """Counts of one kind of event.

    ``found`` leaves out events that may be reported and need not be, see `true_events`.
    """

    def __add__(self, other: EventScore) -> EventScore:
        """The counts of both, as of one kind."""
        return EventScore(
            self.found + other.found, self.expected + other.expected, self.matches + other.matches
        )


def true_events(truth: pd.DataFrame, frames: int) -> pd.DataFrame:
    """Events that an observer of the visible particles sees.

    An event has the frame and place of the position that begins or ends a track: an appearance or
    fission those of the first visible position, a disappearance or fusion those of the last. Fission
    and fusion have a second place, the partner's in that frame: which of the two goes on as the old
    track is a matter of taste. A particle that becomes visible only after it has split off appears, and
    nothing appears in the first frame or disappears in the last.

    Parameters
    ----------
    truth
        Table of `spatialdino_core.simulate.scene.truth_table`.
    frames
        Length of the movie.

    Returns
    -------
    pandas.DataFrame
        Columns `TRUE_COLUMNS`. ``asked`` is false for the disappearance and appearance around a dark
        period: a linker may end the track there, or bridge it and report nothing. Positions of partners
        are NaN where there is none.

    Raises
    ------
    BadInputError
        When a column is missing, a number is not finite, or ``parent`` or ``merged_into`` is missing.
    """
    columns = ["particle", "frame", "visible", "parent", "merged_into"]
    seen = check_positions(truth, "truth", columns)
    seen = seen[seen["visible"].astype(bool)].sort_values(["particle", "frame"], ignore_index=True)
    particle, frame = seen["particle"].to_numpy(), seen["frame"].to_numpy()
    born = truth.groupby("particle")["frame"].min().reindex(particle).to_numpy()
    first = np.r_[True, particle[1:] != particle[:-1]] if len(seen) else np.empty(0, bool)
    last = np.r_[first[1:], True] if len(seen) else first
    lost = np.r_[~last[:-1] & (np.diff(frame) > 1), False] if len(seen) else first
    back = np.r_[False, lost[:-1]] if len(seen) else first
    split = first & (frame == born) & (seen["parent"].to_numpy() != NOBODY)
    merged = last & (seen["merged_into"].to_numpy() != NOBODY)
    starts, ends = first & ~split & (frame > 0), last & ~merged & (frame < frames - 1)
    parts = [
        _rows(seen, split, "fission", "parent"),
        _rows(seen, merged, "fusion", "merged_into"),
        _rows(seen, starts, "appearance"),
        _rows(seen, ends, "disappearance"),
        _rows(seen, back, "appearance", asked=False),
        _rows(seen, lost, "disappearance", asked=False),
    ]
    return pd.concat(parts, ignore_index=True)


def score_events(
    found: pd.DataFrame, truth: pd.DataFrame, gate_um: float, gate_frames: int
) -> dict[str, EventScore]:
    """Match events one to one, each kind by itself.

    As many true events as possible are matched, and among all such matchings that with the smallest sum
    of distances is taken, in units of the gates. The distance in space is that to the nearer of both
    places. Found events that are left over and match one that need not be reported are not counted.

    Parameters
    ----------
    found
        Columns ``event, frame, z_um, y_um, x_um``, as in ``events.csv``.
    truth
        From `true_events`.
    gate_um
        Only closer events can match (µm).
    gate_frames
        Largest difference in time (frames).

    Returns
    -------
    dict
        A score for each of `KINDS`.

    Raises
    ------
    BadInputError
        When a column is missing, a number is not finite or the kind of an event is unknown.
    """
    check_positions(found, "events", ["frame"])
    unknown = sorted(set(found.get("event", ["nothing"])) - set(KINDS))
    if unknown:
        raise BadInputError(
            "events",
            found=f"events named {', '.join(map(str, unknown))}",
            expected=", ".join(KINDS),
            remedy="Give the table that the workflow writes.",
        )
    scores = {}
    for kind in KINDS:
        here, there = found[found["event"] == kind], truth[truth["event"] == kind]
        asked = there["asked"].to_numpy(bool)
        matched = _match(here, there[asked], gate_um, gate_frames)
        rest = np.setdiff1d(np.arange(len(here)), matched)
        excused = _match(here.iloc[rest], there[~asked], gate_um, gate_frames)
        scores[kind] = EventScore(len(here) - len(excused), int(asked.sum()), len(matched))
    return scores


def _rows(
    seen: pd.DataFrame, chosen: NDArray[np.bool_], kind: str, partner: str = "", *, asked: bool = True
) -> pd.DataFrame:
    """Events at the chosen positions; ``partner`` names the column that says with whom."""
    events = seen.loc[chosen].reset_index(drop=True)
    where = np.full((len(events), 3), np.nan)
    if partner:
        places = seen.set_index(["particle", "frame"])[POSITION_UM]
        where = places.reindex(pd.MultiIndex.from_frame(events[[partner, "frame"]])).to_numpy(float)
    events[PARTNER_UM] = where
    return events.assign(event=kind, asked=asked)[TRUE_COLUMNS]


def _match(found: pd.DataFrame, truth: pd.DataFrame, gate_um: float, gate_frames: int) -> NDArray[np.int64]:
    """Row numbers of the found events that are matched."""
    rows, columns, apart = _close(found[POSITION_UM].to_numpy(float), truth, gate_um)
    found_frame, true_frame = found["frame"].to_numpy(np.int64), truth["frame"].to_numpy(np.int64)
    late = np.abs(found_frame[rows] - true_frame[columns])
    cost = (apart / gate_um + late / (gate_frames + 1)) / 2
    # One more match is worth more than all that distances can differ by.
    gains = np.where(late <= gate_frames, len(truth) + 1 - cost, 0.0)
    return rows[best_pairs(rows, columns, gains, (len(found), len(truth)))]


def _close(
    found_um: NDArray[np.float64], truth: pd.DataFrame, gate_um: float
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    """Pairs of a found and a true event with the distance to the nearer place, whatever their frames."""
    parts = []
    for place in (POSITION_UM, PARTNER_UM):
        places = truth[place].to_numpy(float)
        (known,) = np.nonzero(np.isfinite(places).all(axis=1))
        rows, columns, apart = close_pairs(found_um, places[known], gate_um)
        parts.append(pd.DataFrame({"row": rows, "column": known[columns], "apart": apart}))
    nearest = pd.concat(parts).groupby(["row", "column"])["apart"].min().reset_index()
    return nearest["row"].to_numpy(), nearest["column"].to_numpy(), nearest["apart"].to_numpy()
