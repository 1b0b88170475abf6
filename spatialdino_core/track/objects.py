"""The objects of a movie as arrays, sorted once, so that nothing depends on the order of table rows."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from spatialdino_core.errors import BadInputError
from spatialdino_core.movies.clock import Clock

Array = NDArray[np.float64]
Index = NDArray[np.intp]
POSITION_UM = ["z_um", "y_um", "x_um"]
UNCERTAINTY_UM = ["localisation_z_um", "localisation_y_um", "localisation_x_um"]
FEATURE = "feature_"
CONFIDENCE = "detection_confidence"


@dataclass(frozen=True)
class Objects:
    """Objects of all frames that were observed; those that were left out do not count as frames here.

    Attributes
    ----------
    table
        The objects' table, sorted by frame and position; row i is object i.
    clock
        Of the movie.
    frame
        (N,) which of the observed frames, from 0; as frames of the movie they are in the table.
    position_um
        (N, 3) positions (z, y, x).
    uncertainty
        (N, 3) standard deviations of the positions (µm) where the table has them, else ones.
    uncertainty_known
        Whether it has them.
    log_brightness
        (N,) logarithm of the summed intensity above background; NaN where that is not positive.
    features
        (N, K) feature vectors of length 1; rows of zeros where there is none.
    confidence
        (N,) probability that the detection is true; 0.5 everywhere if the table does not say.
    confidence_known
        Whether it does.
    """

    table: pd.DataFrame
    clock: Clock
    frame: Index
    position_um: Array
    uncertainty: Array
    uncertainty_known: bool
    log_brightness: Array
    features: Array
    confidence: Array
    confidence_known: bool

    @classmethod
    def of(cls, table: pd.DataFrame, clock: Clock) -> Objects:
        """From a table with ``frame, z_um, y_um, x_um, intensity_sum, label``.

        Columns that may be absent: ``localisation_{z,y,x}_um``, ``detection_confidence``, ``feature_*``.

        Raises
        ------
        BadInputError
            When a position is not finite, a frame lies outside the movie or was left out, or a label is
            twice in a frame.
        """
        _check(table, clock)
        table = table.sort_values(["frame", *POSITION_UM, "label"], kind="stable").reset_index(drop=True)
        known = set(UNCERTAINTY_UM) <= set(table)
        brightness = table["intensity_sum"].to_numpy(float)
        with np.errstate(divide="ignore", invalid="ignore"):
            log_brightness = np.where(brightness > 0, np.log(brightness), np.nan)
        names = sorted(str(name) for name in table.columns if str(name).startswith(FEATURE))
        return cls(
            table=table,
            clock=clock,
            frame=np.searchsorted(clock.observed, table["frame"].to_numpy(np.intp)),
            position_um=table[POSITION_UM].to_numpy(float),
            uncertainty=_filled(table[UNCERTAINTY_UM].to_numpy(float)) if known else np.ones((len(table), 3)),
            uncertainty_known=known,
            log_brightness=np.where(np.isfinite(log_brightness), log_brightness, np.nan),
            features=_unit_vectors(table[names].to_numpy(float)),
            confidence=_filled(table[[CONFIDENCE]].to_numpy(float), 0.5)[:, 0].clip(0.01, 0.99)
            if CONFIDENCE in table
            else np.full(len(table), 0.5),
            confidence_known=CONFIDENCE in table,
        )

    def __len__(self) -> int:
        return len(self.frame)

    @property
    def frames(self) -> int:
        """Number of observed frames."""
        return len(self.clock.observed)

    @property
    def times(self) -> Array:
        """(frames,) time of each observed frame, in usual intervals."""
        return self.clock.times[self.clock.observed]

    @property
    def steps(self) -> Array:
        """(frames,) time since the observed frame before, in usual intervals; 1 in the first."""
        return np.diff(self.times, prepend=self.times[:1] - 1)

    def in_movie(self, values: Array) -> Array:
        """Values (frames, K) for all frames of the movie; those left out lie between their neighbours."""
        every, known = self.clock.times, self.times
        return np.stack([np.interp(every, known, column) for column in values.T], axis=1)

    @property
    def limits(self) -> Index:
        """Objects ``limits[t]:limits[t + 1]`` are those of frame t."""
        return np.searchsorted(self.frame, np.arange(self.frames + 1))

    @property
    def filled(self) -> NDArray[np.bool_]:
        """Which frames have objects. A frame without any has not been looked at, as far as tracks know."""
        return np.diff(self.limits) > 0


def _check(table: pd.DataFrame, clock: Clock) -> None:
    frame, frames = table["frame"].to_numpy(), len(clock.times_s)
    wrong = {
        "positions that are not finite": ~np.isfinite(table[POSITION_UM].to_numpy(float)).all(axis=1),
        f"frames outside 0 to {frames - 1}": (frame < 0) | (frame >= frames),
        "objects in frames that were left out": ~np.isin(frame, clock.observed),
        "a label twice in a frame": table.duplicated(["frame", "label"]).to_numpy(),
    }
    for found, where in wrong.items():
        if where.any():
            row = table.iloc[int(np.argmax(where))]
            raise BadInputError(
                "table of objects",
                found=f"{found}, first in frame {row['frame']}, label {row['label']}",
                expected="finite positions, frames of this movie, each label once per frame",
                remedy="Run the segmentation of this movie again.",
            )


def _filled(values: Array, fallback: float = 1.0) -> Array:
    """Missing or impossible values replaced by the median of their column."""
    good = np.isfinite(values) & (values >= 0)
    columns = [values[good[:, k], k] for k in range(values.shape[1])]
    middle = np.array([np.median(column) if len(column) else fallback for column in columns])
    return np.where(good, values, middle)


def _unit_vectors(vectors: Array) -> Array:
    length = np.linalg.norm(vectors, axis=1, keepdims=True)
    good = np.isfinite(length) & (length > 0)
    return np.where(good, np.where(good, vectors, 0.0) / np.where(good, length, 1.0), 0.0)
