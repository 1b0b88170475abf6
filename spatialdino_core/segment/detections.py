"""What was found in a frame, as a table: one row per particle, columns that are filled one after another.

Not how they are found, fitted or judged: see :mod:`.detect`, :mod:`.measure` and :mod:`.believe`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Self

import numpy as np


class Table:
    """A table: a dataclass of arrays whose first axis counts the rows."""

    def __len__(self) -> int:
        return len(self._columns()[0])

    def keep(self, rows: np.ndarray) -> Self:
        """The rows that a boolean mask or indices select."""
        return type(self)(*(column[rows] for column in self._columns()))

    def copy(self) -> Self:
        """With arrays of its own."""
        return type(self)(*(column.copy() for column in self._columns()))

    @classmethod
    def joined(cls, parts: Sequence[Self]) -> Self:
        """The rows of some tables, one after another."""
        return cls(*(np.concatenate(column) for column in zip(*(p._columns() for p in parts), strict=True)))

    def _columns(self) -> list[np.ndarray]:
        return [getattr(self, field.name) for field in fields(self)]  # type: ignore[arg-type]


@dataclass(frozen=True, eq=False)
class Detections(Table):
    """Blobs of one frame, the most significant first. What is not known yet is NaN.

    Attributes
    ----------
    position
        Shape (n, 3), float64, voxels (z, y, x): of a maximum whole numbers, then the centre of the fit.
    z_score
        Shape (n,): the detector's response over its local noise.
    width
        Shape (n,): standard deviation as a multiple of the point spread function's.
    confidence
        Shape (n,): probability that it is a particle.
    sigma
        Shape (n, 3): fixed standard deviations of the fitted Gaussian in voxels.
    amplitude, background
        Shape (n,): peak above background, and background, in counts.
    noise
        Shape (n,): standard deviation of the residual of the fit, in counts.
    variance
        Shape (n, 3): variance of the position along z, y, x in voxels², by the heteroscedasticity-consistent
        (sandwich) estimator (White 1980, Econometrica 48, 817), which needs no camera model. Noise is taken
        as independent between voxels; deskewing correlates it, then the variance is somewhat too small.
    """

    position: np.ndarray
    z_score: np.ndarray
    width: np.ndarray
    confidence: np.ndarray
    sigma: np.ndarray
    amplitude: np.ndarray
    background: np.ndarray
    noise: np.ndarray
    variance: np.ndarray

    @staticmethod
    def at(position: np.ndarray, z_score: np.ndarray, width: np.ndarray) -> Detections:
        """Maxima at positions (n, 3), of which no more is known."""
        one, three = np.full(len(position), np.nan), np.full((len(position), 3), np.nan)
        return Detections(position, z_score, width, one, three, one, one, one, three)
