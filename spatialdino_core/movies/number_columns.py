"""The number at one place of every name of a series: what it may be, and the orders that it gives."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

from spatialdino_core.movies.daytime import (
    date_orders,
    is_dense,
    over_the_hour,
    turned,
)
from spatialdino_core.movies.hints import pattern_of
from spatialdino_core.movies.moments import fields_of, orders_of_year, wrapped
from spatialdino_core.movies.names import (
    OTHER_LABELS,
    WELL,
    Token,
    columns_of,
    matched,
    written_out,
)

YEAR_REMEDY = (
    "Rename the files with the whole date before the time, the year first (20240131_235958), or number them "
    "in order of time (t0000, t0001, …)."
)
SHOWN = 3
SPECIMENS = (
    *("animal", "cell", "colony", "condition", "control", "ctrl", "dish", "donor", "embryo", "ex", "exp"),
    *("experiment", "fish", "ko", "larva", "mouse", "mut", "mutant", "nuclei", "nucleus", "organoid"),
    *("patient", "rep", "repl", "replicate", "sample", "spheroid", "worm", "wt"),
)
"""Words before the number of a thing, which counts no time."""
AGES = ("hpf", "dpf", "hpi", "dpi", "hpt")
"""Hours or days after something, right after a number."""
TILE, HOUR = re.compile(r"[A-Za-z0-9].*[^A-Za-z0-9][mM]$"), "h"
"""Some programs number tiles right after an ``m``; with an ``h`` before another number it counts minutes."""
FRAME_DIGITS, MOST_THINGS = 3, 10_000
"""Digits of a number from 0, or in steps, that counts frames after such a word (``cell000``); numbers beyond
things."""


class UncertainOrderError(ValueError):
    """Names that leave open which file is which time point.

    Attributes
    ----------
    found
        What leaves it open.
    readings
        The orders that are possible, in words.
    globs
        What takes apart the movies or channels that the names may be.
    pattern
        Of the column ``time_point``, which makes one movie of them.
    remedy
        What to do where neither decides.
    """

    def __init__(
        self,
        found: str,
        readings: Sequence[str] = (),
        globs: Sequence[str] = (),
        pattern: str = "",
        remedy: str = "",
    ) -> None:
        self.found, self.readings = found, list(readings)
        self.globs, self.pattern, self.remedy = list(globs), pattern, remedy
        super().__init__(found)


@dataclass(frozen=True)
class Column:
    """The number at one place of every name."""

    place: int
    tokens: tuple[Token, ...]
    values: tuple[float, ...]
    is_tile: bool = False

    @property
    def label(self) -> str:
        return self.tokens[0].label

    @property
    def counts_things(self) -> bool:
        """Whether the number counts or measures something else than time, by the word or unit beside it."""
        if self.label in OTHER_LABELS or self.is_tile or all(token.measures for token in self.tokens):
            return True
        if self.tokens[0].after in AGES:
            return False
        first = min(self.values)
        in_steps = len(self.values) > 2 and math.gcd(*(int(v - first) for v in self.values)) > 1
        long = all(len(token.text) >= FRAME_DIGITS for token in self.tokens)
        frames = long and (first == 0 or in_steps)
        return self.label in SPECIMENS and not frames and max(self.values) < MOST_THINGS


def all_columns(names: Sequence[str]) -> list[Column]:
    """Every number of the names, which have all the same template."""
    columns = columns_of(names)
    hours = any(column[0].label == HOUR for column in columns)
    tiles = [] if hours else [column for column in columns if TILE.search(names[0][: column[0].start])]
    return [
        Column(
            place,
            column,
            tuple(token.value for token in column),
            column in tiles,
        )
        for place, column in enumerate(columns)
    ]


def running_columns(names: Sequence[str]) -> list[Column]:
    """Numbers that are not the same in all names; what counts channels, planes or positions included."""
    columns = all_columns(names)
    return [c for c in columns if not any(t.clock for t in c.tokens) and len(set(c.values)) > 1]


def is_unique(column: Column) -> bool:
    """Whether a number may be the time: another in each name, and no count of things."""
    return len(set(column.values)) == len(column.values) and not column.counts_things


def column_pattern(names: Sequence[str], *columns: Column) -> str:
    """A pattern that finds some numbers, if they tell all files apart."""
    unique = len(set(zip(*(column.values for column in columns), strict=True))) == len(names)
    order = sorted(range(len(names)), key=lambda n: [column.values[n] for column in columns])
    if any(other_orders(names, column, order=order) for column in columns if not column.tokens[0].clock):
        return ""  # what may be a date, or go on over midnight, is put in order by no pattern
    given = {column.place for column in columns}
    parts = {place for column in columns for place in parts_of_time(names, column.place)}
    first = min(given, default=0)
    slower = [
        c
        for c in running_columns(names)
        if c.place < first and (c.place in parts or date_orders([token.text for token in c.tokens]))
    ]
    whole = sorted(range(len(names)), key=lambda n: [c.values[n] for c in (*slower, *columns)])
    if whole != order:
        return ""  # nor are the minutes of other hours, or the hours of other days
    return pattern_of(names, [column.place for column in columns]) if unique and columns else ""


def parts_of_time(names: Sequence[str], place: int) -> list[int]:
    """Places of the numbers that run and may be one time, of which one stands at a place."""
    found = [place]
    for fields in fields_of(names):
        places = fields.places(names[0])
        if place in places and fields.seconds() is not None and len(places) > len(found):
            found = places
    return found


def other_orders(
    names: Sequence[str],
    column: Column,
    within: Sequence[int] | None = None,
    order: Sequence[int] = (),
) -> list[list[int]]:
    """Orders in which names stand if a number is a part of a date or a time of day, or begins again.

    Parameters
    ----------
    within
        Places of the only numbers that it may be made of; by default those beside it.
    order
        In which they stand otherwise; by default that of the number.
    """
    orders = []
    groups = fields_of(names)
    for fields in groups:
        places = fields.places(names[0])
        if (
            column.place not in places
            or not any(fields.runs)
            or (within not in (None, places) and len(fields.signs) < 2)
        ):
            continue
        texts, seconds = fields.date_texts(), fields.seconds()
        counts = not fields.signs and is_dense([float(row[0]) for row in fields.texts])
        if texts is not None and len({len(text) for text in texts}) == 1 and not counts:
            orders += date_orders(texts)
        orders += orders_of_year(fields)
        wholes = (other for other in groups if other.runs[0] and other.seconds() is not None)
        whole = not any(fields.is_part_of(other) for other in wholes)
        if seconds is not None and whole:
            orders += [turned(seconds) or []]
        if fields.are_minutes() and whole:
            orders += [over_the_hour([60 * float(a) + float(b) for a, b in fields.texts]) or []]
        orders += [wrapped(fields) or []]
    own = list(order) or sorted(range(len(names)), key=lambda n: column.values[n])
    return [other for other in orders if other and other != own]


def ways_to_say(names: Sequence[str], readings: Sequence[Sequence[Column]]) -> str:
    """Remedy for numbers of which any may be the time: the patterns for each, of decimals in both ways."""
    ways = [column_pattern(names, *columns) for columns in readings]
    ways += [way.replace(r"([\d.]+)", r"(\d+)\.(\d+)") for way in ways]
    tried = [
        way for way in dict.fromkeys(ways) if way and len({matched(way, n) for n in names}) == len(names)
    ]
    if not tried:
        return YEAR_REMEDY
    return f"Say in the column 'time_point' which tells the time, the slowest first: {', or '.join(tried)}"


def different_orders(
    names: Sequence[str], orders: Sequence[Sequence[int]], *columns: Column, remedy: str = ""
) -> UncertainOrderError:
    """What to say of numbers that put the names in different orders."""
    shown = [shown_in_order(names, order) for order in orders]
    found = f"numbers that run in different orders ({'; or '.join(shown)})"
    return UncertainOrderError(found, shown, pattern=column_pattern(names, *columns), remedy=remedy)


def shown_in_order(names: Sequence[str], order: Sequence[int]) -> str:
    """The first names of an order."""
    return ", ".join(names[n] for n in order[:SHOWN]) + ", …"


def described(column: Column) -> str:
    """A number in words: what stands before it, and its first values."""
    values = sorted(set(column.values))
    listed = ", ".join(map(written_out, values[:SHOWN])) + (", …" if len(values) > SHOWN else "")
    return f"{word_of(column)} {listed}"


def word_of(column: Column) -> str:
    """What stands before a number, in words."""
    if column.label == WELL:
        return "what may be wells of a plate:"
    return f"after '{column.label}':" if column.label else "a number:"
