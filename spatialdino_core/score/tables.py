"""Tables of positions as the scores want them: known columns, finite numbers, one row per track and frame."""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from spatialdino_core.errors import BadInputError

POSITION_UM = ["z_um", "y_um", "x_um"]


def check_positions(table: pd.DataFrame, where: object, columns: list[str]) -> pd.DataFrame:
    """The wanted columns and the positions of a table, after checking them.

    Raises
    ------
    BadInputError
        When a column is missing or a number in them is not finite.
    """
    wanted = [*columns, *POSITION_UM]
    missing = [name for name in wanted if name not in table]
    if missing:
        raise BadInputError(
            where,
            found=f"columns {', '.join(map(str, table.columns))}",
            expected=f"also {', '.join(missing)}",
            remedy="Give the table that the workflow writes.",
        )
    chosen = table[wanted]
    finite = chosen.astype("float64").abs().lt(float("inf")).all(axis=1)
    if not finite.all():
        raise BadInputError(
            where,
            found=f"{int((~finite).sum())} rows with a missing or infinite number",
            expected="finite numbers",
            remedy="Remove or repair these rows.",
        )
    return chosen.reset_index(drop=True)


def check_tracks(table: pd.DataFrame, where: object) -> pd.DataFrame:
    """Columns ``track_id, frame, z_um, y_um, x_um`` of a table, sorted by track and frame.

    Raises
    ------
    BadInputError
        As `check_positions`, and when a track has two positions in one frame.
    """
    tracks = check_positions(table, where, ["track_id", "frame"])
    twice = tracks.duplicated(["track_id", "frame"])
    if twice.any():
        row = tracks[twice].iloc[0]
        raise BadInputError(
            where,
            found=f"track {row['track_id']:.0f} more than once in frame {row['frame']:.0f}",
            expected="one position per track and frame",
            remedy="Give each branch of a track an identifier of its own.",
        )
    return tracks.sort_values(["track_id", "frame"], ignore_index=True)


def rows_by(table: pd.DataFrame, column: str) -> dict[int, NDArray[np.intp]]:
    """Row numbers per value of an integer column, values ascending."""
    values, number = np.unique(table[column].to_numpy(np.int64), return_inverse=True)
    rows = np.argsort(number, kind="stable")
    ends = np.cumsum(np.bincount(number, minlength=len(values)))
    return dict(zip(values.tolist(), np.split(rows, ends[:-1]), strict=True)) if len(values) else {}
