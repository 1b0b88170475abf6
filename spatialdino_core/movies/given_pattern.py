"""The time point of each file by a pattern that the user gives in the column ``time_point``."""

from __future__ import annotations

import re
from collections.abc import Sequence

from spatialdino_core.movies.formats.image import MOST_STACKS
from spatialdino_core.movies.name_clock import NameClock
from spatialdino_core.movies.names import ORDER, columns_of, matched, place_of, template, written_out
from spatialdino_core.movies.number_columns import (
    UncertainOrderError,
    column_pattern,
    parts_of_time,
    running_columns,
    shown_in_order,
)
from spatialdino_core.movies.time_points import Key, Series, too_many
from spatialdino_core.time_limit import TimeIsUp, time_limit

PATTERN_S = 60.0
"""Time that a pattern of the user may take for all names, s: there are some that take for ever."""


def by_pattern(names: Sequence[str], pattern: str, clock: NameClock) -> Series:
    """The time point is what the user's pattern finds in the file's name, else in the path."""
    points: dict[Key, str] = {}
    for name, key in zip(names, _found(names, pattern), strict=True):
        if not key:
            raise UncertainOrderError(f"{name}, in which the pattern {pattern!r} finds no number")
        if key in points:
            shown = ", ".join(map(written_out, key))
            raise UncertainOrderError(f"{points[key]} and {name}, both time point {shown} by {pattern!r}")
        points[key] = name
    _refuse_part_of_time(names, pattern)
    keys = tuple(points)
    _refuse_part_of_clock(names, pattern, keys, clock)
    by = f"the pattern {pattern!r}"
    counts = ORDER not in re.compile(pattern).groupindex
    if counts and all(len(key) == 1 and key[0].is_integer() for key in keys):
        hint = pattern.replace("(", f"(?P<{ORDER}>", 1)
        numbers = tuple(int(key[0]) for key in keys)
        if max(numbers) - min(numbers) > MOST_STACKS:
            raise too_many(numbers, hint)
        return Series(numbers, True, (), by, pattern=hint, numbers=numbers)
    rank = {key: number for number, key in enumerate(sorted(keys))}
    values = tuple(key[0] for key in keys) if all(len(key) == 1 for key in keys) else ()
    return Series(tuple(rank[key] for key in keys), False, (), by, keys, numbers=values)


def _found(names: Sequence[str], pattern: str) -> list[Key]:
    """The numbers that a pattern finds in each name."""
    keys: list[Key] = []
    try:
        with time_limit(PATTERN_S):
            for name in names:
                keys.append(matched(pattern, name))
    except TimeIsUp:
        raise UncertainOrderError(
            f"the pattern {pattern!r}, which was still at {names[len(keys)]} after {PATTERN_S:g} s (a "
            "repetition within a repetition takes for ever)"
        ) from None
    return keys


def _refuse_part_of_time(names: Sequence[str], pattern: str) -> None:
    """Refuse a pattern for the minutes or seconds alone of times whose hours or minutes change too."""
    found = {place_of(pattern, name) for name in names}
    place = found.pop()
    if len({template(name) for name in names}) > 1 or found or place is None:
        return
    columns = {column.place: column for column in running_columns(names)}
    slower = [columns[p] for p in parts_of_time(names, place) if p < place and p in columns]
    if not slower or place not in columns:
        return
    given = columns[place]
    order = sorted(range(len(names)), key=lambda n: given.values[n])
    slower = [c for c in columns.values() if c.place < place and (c in slower or not c.label)]
    whole = sorted(range(len(names)), key=lambda n: [c.values[n] for c in (*slower, given)])
    if whole != order:
        raise UncertainOrderError(
            f"the pattern {pattern!r}, which finds one part of what may be a time; a slower part runs too",
            [shown_in_order(names, o) for o in (whole, order)],
            pattern=column_pattern(names, *slower, given),
        )


def _refuse_part_of_clock(names: Sequence[str], pattern: str, keys: Sequence[Key], clock: NameClock) -> None:
    """Refuse a pattern for a part of the clock in the names that gives another order, as thousandths do."""
    if not clock.times_s:
        return
    stamps = {p for p, column in enumerate(columns_of(names)) if column[0].clock == "absolute"}
    if not {place_of(pattern, name) for name in names} <= {*clock.places, *stamps}:
        return
    order = sorted(range(len(names)), key=lambda n: keys[n])
    by_clock = sorted(range(len(names)), key=lambda n: clock.times_s[n])
    if order != by_clock:
        raise UncertainOrderError(
            f"the pattern {pattern!r}, which finds one part of a time",
            [shown_in_order(names, by_clock), shown_in_order(names, order)],
            remedy="Without it, the time in the names tells.",
        )
