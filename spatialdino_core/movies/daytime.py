"""Times of day and dates in file names: ``235958``, ``23-59-58``, ``20240131``. Names are strings here.

A time of day does not know its day: over midnight it falls.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import pairwise
from statistics import median

from spatialdino_core.movies.moments import SPARSE, Fields, fields_of, thousandths_after
from spatialdino_core.movies.names import Token, columns_of

DAY_S = 86_400.0
NOON_S = DAY_S / 2
HOUR_S = 3600.0
MINUTE_S = 60.0
PAUSE = 2.0
"""Usual steps beyond which a gap may be the day between a morning and an evening."""
FORMATS = {8: ("%Y%m%d", "%d%m%Y", "%m%d%Y"), 6: ("%y%m%d", "%d%m%y", "%m%d%y")}
YEARS = (1980, 2100)
WHOLE, YEAR = 8, 366
"""Digits of a date with its whole year; days."""
EPOCH = datetime(1970, 1, 1).toordinal()

_COMPACT = re.compile(r"([01]\d|2[0-3])([0-5]\d)(?:([0-5]\d)(\d{3})?)?")


@dataclass(frozen=True)
class Daytime:
    """The time of day in every name.

    Attributes
    ----------
    seconds
        Of each name, s after midnight.
    places
        Of the numbers that it is made of.
    start, end
        Where it stands in the first name.
    signs
        What stands between them.
    digits
        Of each name, those of a time of several numbers, which may be a date.
    to_thousandths
        Whether thousandths of a second stand after it.
    """

    seconds: tuple[float, ...]
    places: frozenset[int]
    start: int
    end: int
    signs: tuple[str, ...] = ()
    digits: tuple[str, ...] = ()
    to_thousandths: bool = False


def daytimes_of(names: Sequence[str]) -> Iterator[Daytime]:
    """What may be the time of day in names that are alike but for numbers."""
    columns = columns_of(names)
    for place in range(len(columns)):
        found = _compact(columns[place], place)
        finer = _with_thousandths(names, found) if found is not None else None
        if finer is not None:
            yield finer
        elif found is not None and not is_dense([token.value for token in columns[place]]):
            yield found  # else it is a count
    for fields in sorted(fields_of(names), key=lambda fields: -len(fields.signs)):
        seconds = fields.seconds()
        if seconds is None or not any(fields.runs):
            continue
        places = frozenset(fields.places(names[0]))
        digits = tuple(fields.date_texts() or [""] * len(names))
        found = Daytime(seconds, places, fields.start, fields.end, fields.signs, digits)
        finer = _with_thousandths(names, found)
        if finer or any(fields.runs[:-1]):
            yield finer or found


def _with_thousandths(names: Sequence[str], time: Daytime) -> Daytime | None:
    """A time to the second with the thousandths that stand after it."""
    compact = not time.signs and names[0][time.start : time.end].isdigit() and time.end - time.start == 6
    finer = thousandths_after(names, time.end, time.seconds) if compact or len(time.signs) == 2 else None
    if finer is None:
        return None
    seconds, end, places = finer
    places_of_both = time.places | frozenset(places)
    return replace(time, seconds=seconds, end=end, places=places_of_both, to_thousandths=True)


def dates_of(names: Sequence[str]) -> Iterator[tuple[list[str], Fields]]:
    """Digits that may be dates, of one number or three."""
    for fields in fields_of(names):
        texts = fields.date_texts()
        if texts is not None and len({len(text) for text in texts}) == 1:
            yield texts, fields


def _compact(column: Sequence[Token], place: int) -> Daytime | None:
    """``HHMMSS``, with thousandths or without, or ``HHMM``."""
    seconds = _seconds(column)
    if seconds is None or days_of([token.text for token in column]):
        return None
    return Daytime(tuple(seconds), frozenset([place]), column[0].start, column[0].end)


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


def is_even(times: Sequence[float]) -> bool:
    """Whether no step between times is much longer than the usual one."""
    steps = [b - a for a, b in pairwise(sorted(times))]
    return max(steps) <= PAUSE * median(steps)


def is_steady(times: Sequence[float]) -> bool:
    """Whether no step between times is much longer than any other, by a clock that shows whole steps."""
    steps = [b - a for a, b in pairwise(sorted(times))]
    return max(steps) <= PAUSE * min(steps)


def turned(seconds: Sequence[float]) -> list[int] | None:
    """The order of times that may begin in the evening, or at noon by a clock of twelve hours.

    Returns
    -------
    list of int or None
        Numbers of the times in that order; ``None`` if they are in their own order.
    """
    if max(seconds) - min(seconds) >= DAY_S or len(seconds) < 2:
        return None
    plain = sorted(range(len(seconds)), key=lambda n: seconds[n])
    steps = [seconds[b] - seconds[a] for a, b in pairwise(plain)]
    usual = median([step for step in steps if step < max(steps)] or [MINUTE_S])
    over = seconds[plain[0]] % DAY_S + DAY_S - seconds[plain[-1]]
    cut = steps.index(max(steps)) + 1
    if max(steps) > over and max(steps) >= PAUSE * usual:
        return plain[cut:] + plain[:cut]
    if not all(HOUR_S <= second < 13 * HOUR_S for second in seconds):
        return None
    # From 12:59 to 1:00 by a clock of twelve hours.
    noon = sorted(plain, key=lambda n: seconds[n] % NOON_S)
    times = [seconds[n] % NOON_S for n in noon]
    own = [b - a for a, b in pairwise(times)]
    cut = own.index(max(own)) + 1
    if max(own) > times[0] + NOON_S - times[-1]:
        noon = noon[cut:] + noon[:cut]
        own = [*own[: cut - 1], *own[cut:], times[0] + NOON_S - times[-1]]
    return noon if noon != plain and max(steps) > PAUSE * max(own) else None


def over_the_hour(seconds: Sequence[float]) -> list[int] | None:
    """The order of minutes and seconds that may begin before the full hour and end after it."""
    order = sorted(range(len(seconds)), key=lambda n: seconds[n])
    steps = [seconds[b] - seconds[a] for a, b in pairwise(order)]
    cut = steps.index(max(steps)) + 1
    over = seconds[order[0]] + HOUR_S - seconds[order[-1]]
    return order[cut:] + order[:cut] if 0 < over < max(steps) else None


def ascends(names: Sequence[str], place: int) -> bool:
    """Whether a number is a part of a time of day that goes on from name to name, over midnight or not."""
    columns = columns_of(names)
    times = [
        seconds
        for fields in fields_of(names)
        if place in fields.places(names[0]) and (seconds := fields.seconds()) is not None
    ]
    compact = _seconds(columns[place])
    times += [tuple(compact)] if compact is not None else []
    return any(all(b >= a or a - b > DAY_S / 2 for a, b in pairwise(seconds)) for seconds in times)


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


def certain_days(texts: Sequence[str]) -> list[int] | None:
    """Dates as days since 1970, if they can be read in one way, or are one date."""
    ways = list(_dates(texts))
    certain = len(ways) == 1 or len(set(texts)) == 1
    return ways[0] if ways and certain else None


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
        days = [moment.toordinal() - EPOCH for moment in moments]
        # With two digits of the year, days that lie years apart are no dates.
        near = len(texts[0]) == WHOLE or max((b - a for a, b in pairwise(sorted(days))), default=0) < YEAR
        if near and all(YEARS[0] <= moment.year < YEARS[1] for moment in moments):
            yield days
