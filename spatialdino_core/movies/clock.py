"""When the frames of a movie were recorded, and which of them can be used. It reads no files."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from spatialdino_core.errors import BadInputError
from spatialdino_core.movies.record import MovieRecord

DIGITS = 6
"""Decimals of times in usual intervals: an even clock in binary fractions of a second stays even."""
UNEVEN = 0.05
"""Relative difference of steps from the usual one, beyond which a clock is called uneven."""


@dataclass(frozen=True, eq=False)
class Clock:
    """The clock of a movie.

    Attributes
    ----------
    times_s
        (frames,) time of every frame, s after frame 0; increasing.
    observed
        (n,) frames that were not left out, ascending.
    """

    times_s: NDArray[np.float64]
    observed: NDArray[np.intp]

    @classmethod
    def of(cls, record: MovieRecord, observed: Iterable[int] | None = None) -> Clock:
        """Clock of a registered movie.

        Parameters
        ----------
        observed
            Frames that a stage finished; by default those that the register did not leave out.

        Raises
        ------
        BadInputError
            If the movie cannot be used, or a frame is not later than the one before.
        """
        interval_s = record.usable().interval_s or 1.0
        times_s = np.array(
            record.times_s or [interval_s * frame for frame in range(record.frames)],
            float,
        )
        back = np.flatnonzero(~(np.diff(times_s) > 0))
        if len(back):
            frame = int(back[0]) + 1
            raise BadInputError(
                f"movie '{record.movie}', frame {frame}",
                found=f"the time {times_s[frame]:g} s after {times_s[frame - 1]:g} s in the frame before",
                expected="every frame later than the one before",
                remedy="Correct the times in the movie's files or names, or reject it in qc/decisions.tsv.",
            )
        if observed is None:
            observed = [frame for frame in range(record.frames) if frame not in record.skipped]
        return cls(times_s, np.array(sorted(observed), np.intp))

    @classmethod
    def even(cls, frames: int, interval_s: float = 1.0, left_out: Sequence[int] = ()) -> Clock:
        """An even clock."""
        every = np.arange(frames)
        return cls((every * interval_s).astype(np.float64), every[~np.isin(every, left_out)])

    @property
    def steps_s(self) -> NDArray[np.float64]:
        """(frames − 1,) time from each frame to the next, s."""
        return np.diff(self.times_s)

    @property
    def usual_s(self) -> float:
        """The usual interval: the median step, s; 1 in a movie of one frame."""
        return float(np.median(self.steps_s)) if len(self.times_s) > 1 else 1.0

    @property
    def times(self) -> NDArray[np.float64]:
        """(frames,) time of every frame in usual intervals: 0, 1, 2, … where the clock is even."""
        return np.asarray(np.round(self.times_s / self.usual_s, DIGITS))

    def unevenness(self) -> str:
        """An uneven clock in words, e.g. ``uneven clock: steps from 2 to 60 s, usual 2 s``; else empty."""
        steps = self.steps_s
        if len(steps) == 0 or np.abs(steps / self.usual_s - 1).max() <= UNEVEN:
            return ""
        low, high = steps.min(), steps.max()
        return f"uneven clock: steps from {low:.3g} to {high:.3g} s, usual {self.usual_s:.3g} s"
