"""Precision, recall and F1 from counts, and the one convention for empty cases.

Nothing found where there is nothing scores 1; nothing found where there is something, or the reverse,
scores 0.
"""

from __future__ import annotations


def precision(matches: float, found: int, expected: int) -> float:
    """Matches per found item, TP / (TP + FP)."""
    if found == 0:
        return float(expected == 0)
    return matches / found


def recall(matches: float, found: int, expected: int) -> float:
    """Matches per expected item, TP / (TP + FN)."""
    return precision(matches, expected, found)


def f1(matches: int, found: int, expected: int) -> float:
    """Harmonic mean of precision and recall, 2 TP / (2 TP + FP + FN)."""
    return precision(2 * matches, found + expected, 0)


def jaccard(matches: int, found: int, expected: int) -> float:
    """Intersection over union, TP / (TP + FP + FN)."""
    return precision(matches, found + expected - matches, 0)
