"""The objects of a movie as arrays, sorted once, so that nothing depends on the order of table rows."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.spatial import cKDTree

Array = NDArray[np.float64]
Index = NDArray[np.intp]
DIMMEST = 1e-3


@dataclass(frozen=True)
class Objects:
    """Objects of all frames.

    Attributes
    ----------
    table
        The objects' table, sorted by frame and position; row i is object i.
    frame
        (N,) frame numbers.
    position_um
        (N, 3) positions (z, y, x).
    log_brightness
        (N,) logarithm of the summed intensity above background.
    """

    table: pd.DataFrame
    frame: Index
    position_um: Array
    log_brightness: Array

    @classmethod
    def of(cls, table: pd.DataFrame) -> Objects:
        """From a table with ``frame, z_um, y_um, x_um, intensity_sum, label`` and more columns."""
        keys = ["frame", "z_um", "y_um", "x_um", "label"]
        table = table.sort_values(keys, kind="stable").reset_index(drop=True)
        brightness = table["intensity_sum"].to_numpy(float)
        # Objects may be dimmer than their estimated background; a logarithm needs a floor.
        floor = max(DIMMEST * float(np.median(brightness)), 1e-6) if len(table) else 1.0
        return cls(
            table=table,
            frame=table["frame"].to_numpy(np.intp),
            position_um=table[["z_um", "y_um", "x_um"]].to_numpy(float),
            log_brightness=np.log(np.maximum(brightness, floor)),
        )

    def __len__(self) -> int:
        return len(self.frame)

    def in_frame(self, frame: int) -> slice:
        """Where the objects of a frame lie."""
        return slice(*np.searchsorted(self.frame, [frame, frame + 1]))

    def near(self, earlier: Index, later: Index, radius_um: float) -> tuple[Index, Index]:
        """Pairs of objects, one of each set, within a distance; sorted."""
        if len(earlier) == 0 or len(later) == 0:
            return np.empty(0, np.intp), np.empty(0, np.intp)
        tree = cKDTree(self.position_um[later])
        found = tree.query_ball_point(self.position_um[earlier], radius_um, return_sorted=True)
        counts = [len(near) for near in found]
        first = np.repeat(earlier, counts)
        second = later[np.concatenate([np.asarray(near, np.intp) for near in found])]
        return first, second
