"""Counts of what was found, their precision, recall and F1, and the one convention for empty cases.

Nothing found where there is nothing scores 1; nothing found where there is something, or the reverse,
scores 0.
"""

from __future__ import annotations

from dataclasses import dataclass


def precision(matches: float, found: int, expected: int) -> float:
    """Matches per found item, TP / (TP + FP)."""
    if found == 0:
        return float(expected == 0)
    return matches / found


def recall(matches: float, found: int, expected: int) -> float:
    """Matches per expected item, TP / (TP + FN)."""
    return precision(matches, expected, found)


def f1(matches: int, found: int, expected: int) -> float:
    """Harmonic mean of precision and recall, 2 TP / (2 TP + FP + FN).

    Examples
    --------
    >>> f1(matches=8, found=10, expected=10)
    0.8
    >>> f1(0, 0, 0), f1(0, 3, 0)
    (1.0, 0.0)
    """
    return precision(2 * matches, found + expected, 0)


def jaccard(matches: int, found: int, expected: int) -> float:
    """Intersection over union, TP / (TP + FP + FN)."""
    return precision(matches, found + expected - matches, 0)


@dataclass(frozen=True)
class Counts:
    """What was found and what was expected, items of either, and how many of them match one to one."""

    found: int
    expected: int
    matches: int

    @property
    def precision(self) -> float:
        """Matches per found item."""
        return precision(self.matches, self.found, self.expected)

    @property
    def recall(self) -> float:
        """Matches per expected item."""
        return recall(self.matches, self.found, self.expected)

    @property
    def f1(self) -> float:
        """Harmonic mean of precision and recall."""
        return f1(self.matches, self.found, self.expected)
