"""Times of day and dates in file names: ``235958``, ``23-59-58``, ``20240131``. Names are strings here.

A time of day does not know its day: over midnight it falls.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from statistics import median

from spatialdino_core.movies.names import Token, columns_of

DAY_S = 86_400.0
MINUTE_S = 60.0
SPARSE = 2.0
"""Times as many numbers as files: then they count no frames."""
PAUSE = 2.0
"""Usual steps beyond which a gap may be the day between a morning and an evening."""
FORMATS = {8: ("%Y%m%d", "%d%m%Y", "%m%d%Y"), 6: ("%y%m%d", "%d%m%y", "%m%d%y")}
YEARS = (1980, 2100)
EPOCH = datetime(1970, 1, 1).toordinal()

_COMPACT = re.compile(r"([01]\d|2[0-3])([0-5]\d)(?:([0-5]\d)(\d{3})?)?")
_PAIRS = (re.compile(r"[01]\d|2[0-3]"), re.compile(r"[0-5]\d"), re.compile(r"[0-5]\d"))
_SEPARATOR = re.compile(r"[-_:hm]")


@dataclass(frozen=True)
class Daytime:
    """The time of day in every name.

    Attributes
    ----------
    seconds
        Of each name, s after midnight.
    places
        Of the numbers that it is made of.
    """

    seconds: tuple[float, ...]
    places: frozenset[int]


def daytime_of(names: Sequence[str]) -> Daytime | None:
    """What may be the time of day in names that are alike but for numbers."""
    columns = columns_of(names)
    for place in range(len(columns)):
        found = _compact(columns[place], place)
        if found is not None:
            return found
        found = _fields(names, columns, place)
        # Three numbers can be anything else, and are left to be told by themselves but where that goes wrong.
        if found is not None and goes_over_midnight(found.seconds):
            return found
    return None


def _compact(column: Sequence[Token], place: int) -> Daytime | None:
    """``HHMMSS``, with thousandths or without, or ``HHMM``."""
    seconds = _seconds(column)
    if seconds is None or days_of([token.text for token in column]):
        return None
    if is_dense([token.value for token in column]):
        return None  # a count
    return Daytime(tuple(seconds), frozenset([place]))


def is_dense(values: Sequence[float]) -> bool:
    """Whether whole numbers can count files: there are not many more of them, in steps that all share."""
    ordered = sorted(set(values))
    steps = [int(b - a) for a, b in pairwise(ordered)]
    step = math.gcd(*steps) if len(steps) > 1 else 1
    return not steps or (ordered[-1] - ordered[0]) / step + 1 <= SPARSE * len(values)


def _seconds(column: Sequence[Token]) -> list[float] | None:
    matches = [_COMPACT.fullmatch(token.text) for token in column if not token.clock]
    if len({len(token.text) for token in column}) > 1 or len(matches) < len(column):
        return None
    parts = [[float(part or 0) for part in match.groups()] for match in matches if match]
    return [3600 * h + 60 * m + s + ms / 1000 for h, m, s, ms in parts] if len(parts) == len(column) else None


def _fields(names: Sequence[str], columns: Sequence[Sequence[Token]], place: int) -> Daytime | None:
    """``HH-MM-SS``: three numbers of two digits with one sign between."""
    three = columns[place : place + 3]
    if len(three) < 3 or any(token.clock for column in three for token in column):
        return None
    if not all(kind.fullmatch(t.text) for kind, c in zip(_PAIRS, three, strict=True) for t in c):
        return None
    rows = list(zip(*three, strict=True))
    between = [name[a.end : b.start] for name, row in zip(names, rows, strict=True) for a, b in pairwise(row)]
    if not all(_SEPARATOR.fullmatch(text) for text in between):
        return None
    seconds = tuple(3600 * h.value + 60 * m.value + s.value for h, m, s in rows)
    return Daytime(seconds, frozenset(range(place, place + 3)))


def is_even(times: Sequence[float]) -> bool:
    """Whether no step between times is much longer than the usual one."""
    steps = [b - a for a, b in pairwise(sorted(times))]
    return max(steps) <= PAUSE * median(steps)


def goes_over_midnight(seconds: Sequence[float]) -> bool:
    """Whether times may begin in the evening and end after midnight: the longest pause is within the day."""
    ordered = sorted(second % DAY_S for second in seconds)
    steps = [b - a for a, b in pairwise(ordered)]
    if not steps or max(seconds) - min(seconds) >= DAY_S:
        return False
    usual = median([step for step in steps if step < max(steps)] or [MINUTE_S])
    return max(steps) > ordered[0] + DAY_S - ordered[-1] and max(steps) > PAUSE * usual


def ascends(names: Sequence[str], place: int) -> bool:
    """Whether a number is a part of a time of day that goes on from name to name, over midnight or not."""
    columns = columns_of(names)
    for first in range(max(place - 2, 0), place + 1):
        found = _fields(names, columns, first)
        seconds = found.seconds if found is not None and place in found.places else None
        if first == place and seconds is None:
            compact = _seconds(columns[place])
            seconds = tuple(compact) if compact is not None else None
        if seconds is not None and all(b >= a or a - b > DAY_S / 2 for a, b in pairwise(seconds)):
            return True
    return False


def days_of(texts: Sequence[str]) -> list[int] | None:
    """Dates as days since 1970, if they are days of one run, at least two, without one left out.

    Parameters
    ----------
    texts
        Digits: year, month and day in any usual order.

    Examples
    --------
    >>> days_of(["31012024", "01022024"]), days_of(["20240131", "20240205"])
    ([19753, 19754], None)
    """
    for days in _dates(texts):
        ordered = sorted(set(days))
        if len(ordered) > 1 and all(b - a == 1 for a, b in pairwise(ordered)):
            return days
    return None


def date_orders(texts: Sequence[str]) -> list[list[int]]:
    """The orders in which numbers can stand if they are dates, in every way in which they can be."""
    return [sorted(range(len(days)), key=lambda n: days[n]) for days in _dates(texts)]


def _dates(texts: Sequence[str]) -> Iterator[list[int]]:
    """Numbers of days, for every way to read all of the digits as dates."""
    for form in FORMATS.get(len(texts[0]), ()):
        try:
            moments = [datetime.strptime(text, form) for text in texts]
        except ValueError:
            continue
        if all(YEARS[0] <= moment.year < YEARS[1] for moment in moments):
            yield [moment.toordinal() - EPOCH for moment in moments]
