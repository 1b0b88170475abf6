"""Time points from the numbers in the names of a series: whether they count frames, or tell an order only."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from spatialdino_core.movies.daytime import date_orders, is_dense
from spatialdino_core.movies.formats.image import MOST_STACKS
from spatialdino_core.movies.hints import pattern_of
from spatialdino_core.movies.moments import SPARSE
from spatialdino_core.movies.number_columns import (
    YEAR_REMEDY,
    Column,
    UncertainOrderError,
    different_orders,
)

MOST_THINGS = 30
"""Files, beyond which it is a movie rather than that many things of which one stack each was taken."""
Key = tuple[float, ...]
MOST_POINTS, MOST_SHARE = 1000, 20
"""Numbers that run over more than so many time points, and that many times the files, count no frames."""


@dataclass(frozen=True)
class Series:
    """Files in order of time.

    Attributes
    ----------
    point
        Time point of each file, in the order of the names given; from 0 unless ``counted``.
    counted
        Whether the numbers are those of the names, so that one that is left out is a missing file.
    key
        What each was put in order by: the same key in another channel is the same time.
    clock_s
        When each was taken, s; empty where the names do not say.
    by
        What told the order, in words.
    pattern
        Of the column ``time_point``, which says that the number puts files in order and counts no frames.
    label, numbers
        The word before the number that told it; the numbers as they stand in the names.
    doubt
        What speaks for several things in place of one movie, unless the files themselves say more.
    warnings
        What is odd, though the user has decided.
    """

    point: tuple[int, ...]
    counted: bool
    clock_s: tuple[float, ...]
    by: str
    key: tuple[Key, ...] = ()
    pattern: str = ""
    label: str = ""
    numbers: tuple[float, ...] = ()
    doubt: UncertainOrderError | None = None
    warnings: tuple[str, ...] = ()


def counted(names: Sequence[str], column: Column, is_time: bool) -> Series:
    """Time points from a column: whole numbers count frames, unless there are far more of them than files."""
    by = f"the number after '{column.label}'" if column.label else "the number in the names"
    hint = pattern_of(names, [column.place], counts=False)
    values = column.values
    ordered = sorted(values)
    rank = {value: number for number, value in enumerate(ordered)}
    uncounted = Series(
        tuple(rank[value] for value in values),
        False,
        (),
        by,
        tuple((value,) for value in values),
        hint,
        column.label,
        values,
    )
    if any("." in token.text for token in column.tokens):
        return uncounted
    orders = [] if is_dense(values) else date_orders([token.text for token in column.tokens])
    order = sorted(range(len(values)), key=lambda n: values[n])
    others = [other for other in orders if other != order]
    if others:
        raise different_orders(names, [order, *others], remedy=YEAR_REMEDY)
    if orders:
        return uncounted
    steps = [int(b - a) for a, b in pairwise(ordered)]
    sparse = ordered[-1] - ordered[0] + 1 > SPARSE * len(values)
    # Numbers in steps of two are those of frames of which every second one may be lost; but stamps are none.
    step = math.gcd(*steps) if (sparse or ordered[0] > MOST_STACKS) and not is_time else 1
    if step < min(steps) and sparse:
        # Stamps of a clock or the like: they are in order, and count nothing.
        return uncounted
    if (ordered[-1] - ordered[0]) / step > MOST_POINTS + MOST_SHARE * len(values):
        raise too_many(values, hint)
    points = tuple(int(value) // step for value in values)
    return replace(uncounted, point=points, counted=True, key=())


def too_many(numbers: Sequence[float], hint: str) -> UncertainOrderError:
    """Numbers that run over far more time points than there are files: they count no frames."""
    first, last = min(numbers), max(numbers)
    return UncertainOrderError(
        f"{len(numbers)} files whose numbers run from {first:.0f} to {last:.0f}", pattern=hint
    )
