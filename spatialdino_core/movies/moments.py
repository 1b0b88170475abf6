"""Numbers of a name that are one date or one time of day together: ``30.11.2024``, ``12-59-58``.

A decimal is two numbers here, for ``23.40`` may be a time of day. Names are strings; all are alike but for
their numbers.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from itertools import pairwise

from spatialdino_core.movies.names import VISIBLE_NM, tokens

MOST_FIELDS = 3
YEAR_DAYS = 366
DAYS_APART = 7
"""Days between two days of one movie, at most."""
LEAP_YEAR = 2024
SPARSE = 2.0
"""Times as many numbers as files: then they count no frames."""
FEW_THOUSANDTHS, FEWEST_FALLS = 100, 0.1
"""Thousandths are of many values, or fall from file to file often; a counter does so once at most."""
APART_NM = 10
"""Wavelengths of channels lie so far apart."""
_FRACTION_SEPARATOR = re.compile(r"[-_.]")
_SEPARATOR = re.compile(r"[-_.: hm]")
_DATE_SEPARATOR = re.compile(r"[-_.]")
_NUMBER = re.compile(r"\d+")


@dataclass(frozen=True)
class Fields:
    """Numbers that stand side by side, with one sign between.

    Attributes
    ----------
    texts
        Of each name, the digits of each field.
    signs
        What stands between the fields, the same in all names.
    start, end
        Where they stand in the first name.
    """

    texts: tuple[tuple[str, ...], ...]
    signs: tuple[str, ...]
    start: int
    end: int

    @property
    def runs(self) -> list[bool]:
        """Whether each field is not the same in all names."""
        return [len(set(column)) > 1 for column in zip(*self.texts, strict=True)]

    def places(self, name: str) -> list[int]:
        """Places of the numbers of the first name that are made of these fields."""
        return [
            p for p, token in enumerate(tokens(name)) if token.start < self.end and self.start < token.end
        ]

    def is_part_of(self, other: Fields) -> bool:
        """Whether another group has all of these fields, and more."""
        return other.start <= self.start and self.end <= other.end and len(other.signs) > len(self.signs)

    def seconds(self) -> tuple[float, ...] | None:
        """Times of day, s, if every field can be one: hours, minutes of two digits, seconds likewise."""
        if len(self.signs) == 0 or len({sign for sign in self.signs if sign not in "hm"}) > 1:
            return None
        if self.are_minutes() and any(int(first) > 23 for first, _ in self.texts):
            return tuple(float(60 * int(first) + int(second)) for first, second in self.texts)
        seconds = []
        for first, *others in self.texts:
            if len(first) > 2 or int(first) > 23 or any(len(t) != 2 or int(t) > 59 for t in others):
                return None
            seconds.append(
                sum(int(t) * unit for t, unit in zip((first, *others), (3600, 60, 1), strict=False))
            )
        return tuple(map(float, seconds))

    def are_minutes(self) -> bool:
        """Whether two fields can be minutes and seconds."""
        return len(self.signs) == 1 and all(
            len(minute) <= 2 and int(minute) < 60 and len(second) == 2 and int(second) < 60
            for minute, second in self.texts
        )

    def date_texts(self) -> list[str] | None:
        """Digits of dates of one field or three, days and months of two digits."""
        if not self.signs:
            return [row[0] for row in self.texts]
        if len(self.signs) != 2 or len(set(self.signs)) > 1 or not _DATE_SEPARATOR.fullmatch(self.signs[0]):
            return None
        return ["".join(text.zfill(2) for text in row) for row in self.texts]


def fields_of(names: Sequence[str]) -> list[Fields]:
    """All groups of one to three numbers side by side."""
    found = [list(_NUMBER.finditer(name)) for name in names]
    if len({len(numbers) for numbers in found}) > 1:
        return []
    columns = list(zip(*found, strict=True))
    groups = []
    for first in range(len(columns)):
        signs: list[str] = []
        for last in range(first, min(first + MOST_FIELDS, len(columns))):
            if last > first:
                between = {
                    name[a.end() : b.start()]
                    for name, a, b in zip(names, columns[last - 1], columns[last], strict=True)
                }
                if len(between) > 1 or not _SEPARATOR.fullmatch(sign := between.pop()):
                    break
                signs.append(sign)
            texts = tuple(
                tuple(match.group() for match in row) for row in zip(*columns[first : last + 1], strict=True)
            )
            start, end = columns[first][0].start(), columns[last][0].end()
            groups.append(Fields(texts, tuple(signs), start, end))
    return groups


def thousandths_after(
    names: Sequence[str], end: int, seconds: Sequence[float]
) -> tuple[tuple[float, ...], int, list[int]] | None:
    """Thousandths of a second after a time to the second: ``113000_500``, ``11-30-00-500``.

    Parameters
    ----------
    end
        Where the time ends in the first name.
    seconds
        The time in each name.

    Returns
    -------
    tuple or None
        Times with thousandths, s; where these end in the first name; the places of their numbers. ``None``
        where three digits count frames, or tell positions or channels apart.
    """
    for fields in fields_of(names):
        values = [int(row[0]) for row in fields.texts]
        if fields.signs or fields.start != end + 1 or not _FRACTION_SEPARATOR.fullmatch(names[0][end]):
            continue
        if any(len(row[0]) != 3 for row in fields.texts) or len(set(values)) == 1:
            continue
        order = sorted(range(len(names)), key=lambda n: (seconds[n], values[n]))
        falls = sum(values[b] < values[a] for a, b in pairwise(order))
        rises = all((values[b] - values[a]) % 1000 == 1 for a, b in pairwise(order))
        several = len(set(values))
        dense = max(values) < SPARSE * several
        counts = dense and (several <= FEW_THOUSANDTHS or falls < FEWEST_FALLS * len(names))
        visible = VISIBLE_NM[0] <= min(values) and max(values) <= VISIBLE_NM[1]
        apart = all(b - a >= APART_NM for a, b in pairwise(sorted(set(values))))
        colours = visible and apart and 2 * several <= len(names)
        if not (rises or counts or colours):
            times = tuple(s + v / 1000 for s, v in zip(seconds, values, strict=True))
            return times, fields.end, fields.places(names[0])
    return None


def orders_of_year(fields: Fields) -> Iterator[list[int]]:
    """Orders of days without a year, ``30.11`` or ``3011``, in both ways to read them, over new year or not.

    Four digits and two numbers without a dot are days only if they follow each other within a week.
    """
    rows = fields.texts
    if len(rows[0]) == 1:
        if any(len(row[0]) != 4 for row in rows):
            return
        rows = tuple((row[0][:2], row[0][2:]) for row in rows)
    elif len(rows[0]) != 2 or any(len(text) > 2 for row in rows for text in row):
        return
    for turn in (1, -1):
        try:
            days = [date(LEAP_YEAR, *map(int, row[::-turn])).timetuple().tm_yday for row in rows]
        except ValueError:
            continue
        order = sorted(range(len(days)), key=lambda n: days[n])
        steps = [days[b] - days[a] for a, b in pairwise(order)]
        if 0 in steps:
            continue
        apart = [n for n, step in enumerate(steps, 1) if step > DAYS_APART]
        over = YEAR_DAYS + days[order[0]] - days[order[-1]] <= DAYS_APART
        if not apart or (over and len(apart) == 1):
            cut = apart[0] if apart else 0
            yield order[cut:] + order[:cut]
        elif "." in fields.signs:
            yield order


def wrapped(fields: Fields) -> list[int] | None:
    """The order of a counter of a fixed width that begins again: 98, 99, 00, 01."""
    texts = [row[0] for row in fields.texts]
    width = len(texts[0])
    if len(fields.signs) or width < 2 or len(texts) < 3 or any(len(text) != width for text in texts):
        return None
    values = list(map(int, texts))
    order = sorted(range(len(values)), key=lambda n: values[n])
    steps = [values[b] - values[a] for a, b in pairwise(order)]
    turn = 10**width + values[order[0]] - values[order[-1]]
    cut = steps.index(max(steps)) + 1
    others = {*steps[: cut - 1], *steps[cut:], turn}
    return order[cut:] + order[:cut] if len(others) == 1 and max(steps) > turn else None
