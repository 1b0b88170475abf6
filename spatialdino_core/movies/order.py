"""Which time point each file of a series is, by the names of all of them, and when it was taken.

A number is taken for the time point by evidence, in this order: a pattern that the user gives; the number
after ``stack``, then after ``t``, ``frame`` and the like, if each file has another one; the only number that
runs. The clock in the names must agree, and nothing else may change with time. What stays open is refused
with its readings.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import groupby, pairwise

from spatialdino_core.movies.daytime import (
    DAY_S,
    SPARSE,
    WHOLE,
    Daytime,
    ascends,
    certain_days,
    date_orders,
    dates_of,
    days_of,
    daytimes_of,
    is_dense,
    is_even,
    is_steady,
    over_the_hour,
    turned,
)
from spatialdino_core.movies.formats.image import MOST_STACKS
from spatialdino_core.movies.hints import globs_of, pattern_of
from spatialdino_core.movies.moments import Fields, fields_of, orders_of_year, wrapped
from spatialdino_core.movies.names import (
    AXES,
    FIRST_LABEL,
    HOURS,
    ORDER,
    OTHER_LABELS,
    TIME_LABELS,
    VISIBLE_NM,
    WELL,
    Token,
    columns_of,
    matched,
    place_of,
    template,
    tokens,
    written_out,
)
from spatialdino_core.time_limit import TimeIsUp, time_limit

TIME_FIELDS = ("hr", "hour", "min", "minute")
"""Words before the parts of a time of day, which may stand still, go on and begin again; ``h`` and ``m`` if
both are there, for alone they can be anything."""
SLOW_LABELS = (*TIME_LABELS, "day", "date")
"""Words before the number of a slower loop, which may stand still and rise."""
SPECIMENS = (
    *("animal", "cell", "colony", "condition", "control", "ctrl", "dish", "donor", "embryo", "ex", "exp"),
    *("experiment", "fish", "ko", "larva", "mouse", "mut", "mutant", "nuclei", "nucleus", "organoid"),
    *("patient", "rep", "repl", "replicate", "sample", "spheroid", "worm", "wt"),
)
"""Words before the number of a thing, which counts no time."""
YEARS_S = 3e8
"""Times beyond are those of a date, since 1970."""
AGES = ("hpf", "dpf", "hpi", "dpi", "hpt")
"""Hours or days after something, right after a number."""
FRAME_DIGITS, MOST_THINGS = 3, 10_000
"""Digits of a number from 0 that counts frames after such a word (``cell000``); numbers beyond things."""
FEW_TIMES = 3
"""Times that are as many as the exposures or doses that are tried."""
BETWEEN = re.compile(r"[T_. -]| at ")
"""What stands between a date and the time of day."""
YEAR_REMEDY = (
    "Rename the files with the whole date before the time, the year first (20240131_235958), or number them "
    "in order of time (t0000, t0001, …)."
)
Key = tuple[float, ...]
SHOWN = 3
PATTERN_S = 60.0
"""Time that a pattern of the user may take for all names, s: there are some that take for ever."""
MOST_POINTS, MOST_SHARE = 1000, 20
"""Numbers that run over more than so many time points, and that many times the files, count no frames."""


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
        The word before the number that told it; the numbers.
    """

    point: tuple[int, ...]
    counted: bool
    clock_s: tuple[float, ...]
    by: str
    key: tuple[Key, ...] = ()
    pattern: str = ""
    label: str = ""
    numbers: tuple[float, ...] = ()


@dataclass(frozen=True)
class _Column:
    """The number at one place of every name."""

    place: int
    tokens: tuple[Token, ...]
    values: tuple[float, ...]

    @property
    def label(self) -> str:
        return self.tokens[0].label

    @property
    def counts_things(self) -> bool:
        """Whether the number counts or measures something else than time, by the word or unit beside it."""
        if self.label in OTHER_LABELS or all(token.measures for token in self.tokens):
            return True
        if self.tokens[0].after in AGES:
            return False
        frames = min(self.values) == 0 and all(len(token.text) >= FRAME_DIGITS for token in self.tokens)
        return self.label in SPECIMENS and not frames and max(self.values) < MOST_THINGS


@dataclass(frozen=True)
class _Clock:
    """Times in names.

    Attributes
    ----------
    times_s
        Of each file, s; empty without a clock.
    certain
        Whether they are times, and do not only put files in order.
    daily
        Whether they are times of a day that nobody knows.
    places
        Of the numbers that it is made of, where these are no clocks by themselves.
    """

    times_s: tuple[float, ...] = ()
    certain: bool = True
    daily: bool = False
    places: frozenset[int] = frozenset()


def series_of(names: Sequence[str], pattern: str | None = None) -> Series:
    """Put the files of a series in order of time.

    Parameters
    ----------
    names
        Paths below the folder that all have in common; all different.
    pattern
        Regular expression that the user gives: its groups are the time point, the slowest first. The number
        of a single group counts frames, so that one left out is a missing file, unless the group is called
        ``order``.

    Raises
    ------
    UncertainOrderError
        If the names leave it open.
    """
    clock = _clock(names)
    if pattern is not None:
        series = _by_pattern(names, pattern)
    elif len(names) == 1:
        return Series((0,), False, clock.times_s, "one file")
    else:
        series = _by_evidence(names, clock)
    order = sorted(range(len(names)), key=lambda n: series.point[n])
    times = _unwrapped([clock.times_s[n] for n in order], clock) if clock.times_s else []
    runs = bool(times) and all(b > a for a, b in pairwise(times))
    if times and not runs and pattern is None:
        a, b = next((order[n], order[n + 1]) for n in range(len(times) - 1) if times[n + 1] <= times[n])
        raise UncertainOrderError(
            f"names whose numbers and times disagree: {names[a]} before {names[b]} by "
            f"{series.by}, after it by the clock in the name",
            [f"by {series.by}", "by the clock in the names"],
            pattern=series.pattern.replace(f"?P<{ORDER}>", ""),
        )
    place = {n: k for k, n in enumerate(order)}
    own = tuple(times[place[n]] for n in range(len(names))) if runs and clock.certain else ()
    return replace(series, clock_s=own)


def _unwrapped(times: Sequence[float], clock: _Clock) -> list[float]:
    """Times of day, in an order that is known: the day goes on where they fall by more than half a day."""
    if not clock.daily:
        return list(times)
    days, unwrapped = 0, []
    for before, now in zip([times[0], *times], times, strict=False):
        days += before - now > DAY_S / 2
        unwrapped.append(now + days * DAY_S)
    return unwrapped


def _clock(names: Sequence[str]) -> _Clock:
    """Time of each file: of the clock in the names that shows another time in each; the absolute first."""
    if len({template(name) for name in names}) > 1:
        return _Clock()
    columns = columns_of(names)
    for kind in ("absolute", "relative"):
        running = [c for c in columns if all(t.clock == kind for t in c) and len({t.value for t in c}) > 1]
        units = [{token.unit for token in column} for column in running]
        for column in running:
            if len({token.value for token in column}) == len(column):
                times = [token.value for token in column]
                if kind == "absolute" or len(running) == 1 or len(set.union(*units)) < sum(map(len, units)):
                    # Hours and minutes of one number, which may be times of a day.
                    daily = column[0].unit == HOURS and turned(times) is not None
                    return _Clock(tuple(times), daily=daily)
        if running and kind == "relative" and len(set.union(*units)) == sum(map(len, units)):
            # Hours, minutes and seconds of one time: none of them tells it alone.
            times = [sum(parts) for parts in zip(*([t.value for t in c] for c in running), strict=True)]
            if len(set(times)) == len(times):
                hours = any(unit.startswith("h") for unit in set.union(*units))
                return _Clock(tuple(times), daily=hours and turned(times) is not None)
    return _daily_clock(names)


def _daily_clock(names: Sequence[str]) -> _Clock:
    """The time of day in names, of the day in them where that stands before it or changes with it."""
    dates = list(dates_of(names))
    for found in daytimes_of(names):
        clock = _dated(names, found, dates) or _undated(names, found)
        if clock is not None and len(set(clock.times_s)) == len(names):
            return clock
    return _Clock()


def _dated(names: Sequence[str], time: Daytime, dates: Sequence[tuple[list[str], Fields]]) -> _Clock | None:
    """Time and date: of a date that changes from day to day, or of one that stands right before the time."""
    for texts, date in dates:
        days = days_of(texts)
        if date.start < time.end and time.start < date.end:
            continue
        before = BETWEEN.fullmatch(names[0][date.end : time.start]) is not None
        after = BETWEEN.fullmatch(names[0][time.end : date.start]) is not None
        if not before and (days is None or (time.signs and not after)):
            continue
        if days is None:
            days = certain_days(texts) if len(texts[0]) == WHOLE else None
        if days is None or (len(set(days)) == 1 and not time.signs):
            continue
        times = tuple(DAY_S * day + second for day, second in zip(days, time.seconds, strict=True))
        # Two numbers, or three after a sign that stands anywhere, may count something else.
        plain = len(time.signs) == 0 or (len(time.signs) > 1 and "_" not in time.signs)
        if plain or is_steady(times):
            places = time.places | frozenset(date.places(names[0]))
            # Two numbers may be hours and minutes, or minutes and seconds.
            return _Clock(times, certain=len(time.signs) != 1, places=places)
    return None


def _undated(names: Sequence[str], time: Daytime) -> _Clock | None:
    """Times of a day that nobody knows, where they are in even steps, or may go on over midnight."""
    if len(time.signs) == 1:
        return None
    if time.signs:
        own = sorted(range(len(names)), key=lambda n: time.seconds[n])
        first_label = tokens(names[0])[min(time.places)].label
        sign = re.escape(time.signs[0])
        longer = re.search(rf"\d{sign}$", names[0][: time.start]) or re.match(
            rf"{sign}\d", names[0][time.end :]
        )
        if longer or first_label in OTHER_LABELS or any(o != own for o in date_orders(time.digits)):
            return None
        telling = is_steady(time.seconds)
    else:
        # Digits that are in even steps as a time only are one.
        first = [tokens(name)[min(time.places)].value for name in names]
        telling = is_even(time.seconds) and not is_even(first)
    if not (telling or turned(time.seconds) is not None):
        return None
    return _Clock(time.seconds, certain=False, daily=True, places=time.places)


def _by_pattern(names: Sequence[str], pattern: str) -> Series:
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
    by = f"the pattern {pattern!r}"
    counts = ORDER not in re.compile(pattern).groupindex
    if counts and all(len(key) == 1 and key[0].is_integer() for key in keys):
        hint = pattern.replace("(", f"(?P<{ORDER}>", 1)
        numbers = tuple(int(key[0]) for key in keys)
        if max(numbers) - min(numbers) > MOST_STACKS:
            raise _too_many(numbers, hint)
        return Series(numbers, True, (), by, pattern=hint)
    rank = {key: number for number, key in enumerate(sorted(keys))}
    return Series(tuple(rank[key] for key in keys), False, (), by, keys)


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


def _too_many(numbers: Sequence[float], hint: str) -> UncertainOrderError:
    """Numbers that run over far more time points than there are files: they count no frames."""
    first, last = min(numbers), max(numbers)
    return UncertainOrderError(
        f"{len(numbers)} files whose numbers run from {first:.0f} to {last:.0f}", pattern=hint
    )


def _refuse_part_of_time(names: Sequence[str], pattern: str) -> None:
    """Refuse a pattern for the minutes or seconds alone of times whose hours or minutes change too."""
    found = {place_of(pattern, name) for name in names}
    place = found.pop()
    if len({template(name) for name in names}) > 1 or found or place is None:
        return
    columns = {column.place: column for column in _running(names)}
    slower = [columns[p] for p in _parts(names, place) if p < place and p in columns]
    if not slower or place not in columns:
        return
    given = columns[place]
    order = sorted(range(len(names)), key=lambda n: given.values[n])
    slower = [c for c in columns.values() if c.place < place and (c in slower or not c.label)]
    whole = sorted(range(len(names)), key=lambda n: [c.values[n] for c in (*slower, given)])
    if whole != order:
        raise UncertainOrderError(
            f"the pattern {pattern!r}, which finds one part of what may be a time; a slower part runs too",
            [_shown(names, o) for o in (whole, order)],
            pattern=_pattern(names, *slower, given),
        )


def _by_evidence(names: Sequence[str], clock: _Clock) -> Series:
    if len({template(name) for name in names}) > 1:
        raise UncertainOrderError(
            _differing(names),
            globs=globs_of(names),
            remedy="If all of it is one movie, rename the files, so that one number runs through all names, "
            "such as t0000.",
        )
    if len({tuple(token.value for token in tokens(name) if token.signed) for name in names}) > 1:
        raise UncertainOrderError(
            "numbers with a dash before them, which may be a sign: " + names[0],
            remedy="Rename the files with numbers from 0, such as t0000.",
        )
    columns = [column for column in _running(names) if column.place not in clock.places]
    for labels in ((FIRST_LABEL,), TIME_LABELS):
        own = [c for label in labels if (c := _labelled(columns, label)) is not None]
        labelled = _agreeing(names, own)
        if labelled:
            others = _other_orders(names, labelled, [labelled.place])
            by_time = sorted(range(len(names)), key=lambda n: clock.times_s[n]) if clock.times_s else []
            if by_time in others and clock.certain and not clock.daily:
                return _by_clock(names, [c for c in columns if c is not labelled], clock)
            _refuse_orders(names, labelled, others)
            _refuse_other_things(names, columns, labelled.values, labelled)
            return _counted(names, labelled, True)
    single = _agreeing(names, [column for column in columns if _is_unique(column)])
    if single:
        _refuse_still_time(names, single)
        _refuse_orders(names, single, _other_orders(names, single))
        _refuse_fields(names, single, clock)
        _refuse_other_things(names, columns, single.values, single)
        return _counted(names, single, False)
    if clock.times_s:
        return _by_clock(names, columns, clock)
    things = _things(columns)
    for column in columns:
        if column.label in SPECIMENS and len(set(column.values)) == len(names):
            _refuse_orders(names, column, _other_orders(names, column))
    counting = [column for column in columns if not column.counts_things]
    if not columns:
        raise UncertainOrderError(_differing(names))
    raise UncertainOrderError(
        "numbers that run, of which none is certain to be the time: " + "; ".join(map(_described, columns)),
        [f"by {_described(column)}" for column in columns],
        globs=globs_of(names, [column.place for column in things]),
        pattern=_pattern(names, *(counting or columns)),
    )


def _things(columns: Sequence[_Column]) -> list[_Column]:
    """Numbers that may tell movies or channels apart: those whose word is not of time, or have a word."""
    coloured = [column for column in columns if _are_wavelengths(column)]
    if coloured:
        return coloured + [c for c in columns if c.counts_things and c not in coloured]
    if any(column.label in (FIRST_LABEL, *TIME_LABELS) for column in columns):
        return [column for column in columns if column.label not in (FIRST_LABEL, *TIME_LABELS)]
    labelled = [column for column in columns if column.label]
    return labelled if 0 < len(labelled) < len(columns) else [c for c in columns if c.counts_things]


def _are_wavelengths(column: _Column) -> bool:
    """Whether a number is a wavelength that several files share."""
    shared = len(set(column.values)) < len(column.values)
    return shared and all(VISIBLE_NM[0] <= value <= VISIBLE_NM[1] for value in column.values)


def _by_clock(names: Sequence[str], columns: Sequence[_Column], clock: _Clock) -> Series:
    """By the clock alone: other numbers may count loops."""
    times = clock.times_s
    if clock.daily and (other := turned(times)) is not None:
        order = sorted(range(len(names)), key=lambda n: times[n])
        raise UncertainOrderError(
            "times of day, which may go on over midnight, or over noon by a clock of twelve hours",
            [_shown(names, o) for o in (order, other)],
            remedy="Put the date before the time (20240131_235958), or number the files (t0000, t0001, …).",
        )
    if len({time // DAY_S for time in times}) == 1 and min(times) >= YEARS_S:
        other = turned([time % DAY_S for time in times])
        if other is not None:
            order = sorted(range(len(names)), key=lambda n: times[n])
            raise UncertainOrderError(
                "times of one day, which may go on over midnight, or over noon by a clock of twelve hours",
                [_shown(names, o) for o in (order, other)],
                remedy="Correct the date of what was taken on another day and write hours from 00 to 23, or "
                "number the files (t0000, t0001, …).",
            )
    _refuse_exposures(names, times)
    loops = (FIRST_LABEL, *TIME_LABELS)
    _refuse_other_things(names, [c for c in columns if c.label not in loops], times, None)
    rank = {time: number for number, time in enumerate(sorted(times))}
    by = "the clock in the names" if clock.certain else "the time of day in the names"
    return Series(tuple(rank[time] for time in times), False, (), by, tuple((t,) for t in times))


def _refuse_exposures(names: Sequence[str], times: Sequence[float]) -> None:
    """Refuse a few durations, or uneven ones, which may be exposures or doses: none is 0, of one unit."""
    clocks = [c for c in _columns(names) if c.tokens[0].clock and len(set(c.values)) > 1]
    if len(clocks) != 1 or min(times) == 0:
        return
    durations = clocks[0].tokens
    if any(t.unit in ("", HOURS) or t.clock != "relative" or t.text.startswith("0") for t in durations):
        return
    steps = {round(b - a, 6) for a, b in pairwise(sorted(times))}
    even = len(steps) == 1 and len(times) >= FEW_TIMES
    if len({t.unit for t in durations}) == 1 and (durations[0].unit == "ms" or not (even or _is_long(times))):
        shown = ", ".join(f"{token.text}{token.unit}" for token in durations[:SHOWN])
        raise UncertainOrderError(
            f"durations, which may be times, exposures or doses: {shown}",
            [f"as {len(names)} movies, one for each of them", "as one movie"],
            globs=globs_of(names, [clocks[0].place]),
            pattern=_clock_pattern(names),
        )


def _is_long(times: Sequence[float]) -> bool:
    return len(times) > FEW_TIMES and is_even(times)


def _columns(names: Sequence[str]) -> list[_Column]:
    return [
        _Column(place, column, tuple(token.value for token in column))
        for place, column in enumerate(columns_of(names))
    ]


def _running(names: Sequence[str]) -> list[_Column]:
    """Numbers that are not the same in all names; what counts channels, planes or positions included."""
    columns = _columns(names)
    return [c for c in columns if not any(t.clock for t in c.tokens) and len(set(c.values)) > 1]


def _labelled(columns: Sequence[_Column], label: str) -> _Column | None:
    """The only number after a word, if it is another one in every name."""
    own = [column for column in columns if column.label == label]
    return own[0] if len(own) == 1 and _is_unique(own[0]) else None


def _is_unique(column: _Column) -> bool:
    return len(set(column.values)) == len(column.values) and not column.counts_things


def _agreeing(names: Sequence[str], columns: Sequence[_Column]) -> _Column | None:
    """The first of several columns that put the files in the same order; ``None`` if there is none."""
    orders = {tuple(sorted(range(len(names)), key=lambda n: c.values[n])) for c in columns}
    orders |= {
        tuple(sorted(range(len(names)), key=lambda n: [int(p) for p in c.tokens[n].text.split(".")]))
        for c in columns
    }
    if len(orders) > 1:
        raise _different_orders(names, sorted(orders), remedy=_ways(names, [[c] for c in columns]))
    return columns[0] if columns else None


def _different_orders(
    names: Sequence[str], orders: Sequence[Sequence[int]], *columns: _Column, remedy: str = ""
) -> UncertainOrderError:
    shown = [_shown(names, order) for order in orders]
    found = f"numbers that run in different orders ({'; or '.join(shown)})"
    return UncertainOrderError(found, shown, pattern=_pattern(names, *columns), remedy=remedy)


def _shown(names: Sequence[str], order: Sequence[int]) -> str:
    return ", ".join(names[n] for n in order[:SHOWN]) + ", …"


def _refuse_still_time(names: Sequence[str], single: _Column) -> None:
    """Refuse a number after a word where the number of the time point is there as well and stays 0."""
    loops = (FIRST_LABEL, *TIME_LABELS)
    still = [
        c for c in _columns(names) if c.label in loops and set(c.values) == {0} and not c.tokens[0].clock
    ]
    if still and single.label not in ("", *loops):
        raise UncertainOrderError(
            f"names in which the number after '{still[0].label}' stays 0, and another runs: "
            f"{_described(single)}",
            [f"as {len(names)} movies, one for each of them", "as one movie"],
            globs=globs_of(names, [single.place]),
            pattern=_pattern(names, single),
        )


def _ways(names: Sequence[str], readings: Sequence[Sequence[_Column]]) -> str:
    """Remedy for numbers of which any may be the time: the patterns for each, of decimals in both ways."""
    ways = [_pattern(names, *columns) for columns in readings]
    ways += [way.replace(r"([\d.]+)", r"(\d+)\.(\d+)") for way in ways]
    tried = [
        way for way in dict.fromkeys(ways) if way and len({matched(way, n) for n in names}) == len(names)
    ]
    if not tried:
        return YEAR_REMEDY
    return f"Say in the column 'time_point' which tells the time, the slowest first: {', or '.join(tried)}"


def _pattern(names: Sequence[str], *columns: _Column) -> str:
    """A pattern that finds some numbers, if they tell all files apart."""
    unique = len(set(zip(*(column.values for column in columns), strict=True))) == len(names)
    order = sorted(range(len(names)), key=lambda n: [column.values[n] for column in columns])
    if any(_other_orders(names, column, order=order) for column in columns if not column.tokens[0].clock):
        return ""  # what may be a date, or go on over midnight, is put in order by no pattern
    given = {column.place for column in columns}
    parts = {place for column in columns for place in _parts(names, column.place)}
    first = min(given, default=0)
    slower = [
        c
        for c in _running(names)
        if c.place < first and (c.place in parts or date_orders([token.text for token in c.tokens]))
    ]
    whole = sorted(range(len(names)), key=lambda n: [c.values[n] for c in (*slower, *columns)])
    if whole != order:
        return ""  # nor are the minutes of other hours, or the hours of other days
    return pattern_of(names, [column.place for column in columns]) if unique and columns else ""


def _counted(names: Sequence[str], column: _Column, is_time: bool) -> Series:
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
        raise _different_orders(names, [order, *others], remedy=YEAR_REMEDY)
    if orders:
        return uncounted
    steps = [int(b - a) for a, b in pairwise(ordered)]
    step = 1 if is_time else math.gcd(*steps)
    if step < min(steps) and ordered[-1] - ordered[0] + 1 > SPARSE * len(values):
        # Stamps of a clock or the like: they are in order, and count nothing.
        return uncounted
    if (ordered[-1] - ordered[0]) / step > MOST_POINTS + MOST_SHARE * len(values):
        raise _too_many(values, hint)
    points = tuple(int(value) // step for value in values)
    return replace(uncounted, point=points, counted=True, key=())


def _other_orders(
    names: Sequence[str],
    column: _Column,
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


def _refuse_orders(names: Sequence[str], column: _Column, others: Sequence[list[int]]) -> None:
    """Refuse a number that gives another order as a part of a date or time of day."""
    if others:
        order = sorted(range(len(names)), key=lambda n: column.values[n])
        orders = [list(other) for other in dict.fromkeys(map(tuple, (order, *others)))]
        raise _different_orders(names, orders, remedy=YEAR_REMEDY)


def _refuse_fields(names: Sequence[str], single: _Column, clock: _Clock) -> None:
    """Refuse a number that may be the fine part of a time or date: with the others it gives another order."""
    order = sorted(range(len(names)), key=lambda n: single.values[n])
    columns = [c for c in _columns(names) if c.place not in clock.places and len(set(c.values)) > 1]
    columns = [c for c in columns if not c.tokens[0].clock or c.tokens[0].unit not in ("", HOURS)]
    running = [c for c in columns if c.label not in OTHER_LABELS]
    for several in (running, running[::-1]):
        other = sorted(range(len(names)), key=lambda n: [column.values[n] for column in several])
        if other != order:
            parts = _parts(names, single.place)
            if len(parts) > 1:
                raise _different_orders(names, [order, other], *(c for c in columns if c.place in parts))
            remedy = _ways(names, [*([column] for column in running), running])
            raise _different_orders(names, [order, other], remedy=remedy)


def _parts(names: Sequence[str], place: int) -> list[int]:
    """Places of the numbers that run and may be one time, of which one stands at a place."""
    found = [place]
    for fields in fields_of(names):
        places = fields.places(names[0])
        if place in places and fields.seconds() is not None and len(places) > len(found):
            found = places
    return found


def _refuse_other_things(
    names: Sequence[str], columns: Sequence[_Column], times: Sequence[float], time: _Column | None
) -> None:
    """Refuse names in which something else changes with time: another cell, position, channel or part."""
    order = sorted(range(len(names)), key=lambda n: times[n])
    things = [c for c in columns if c is not time and not _goes_with_time(names, c, order)]
    things += [c for c in _columns(names) if _stands(c, order)]
    if not things:
        return
    plain = [c for c in things if time and not c.counts_things and c.label not in SLOW_LABELS]
    before = [c for c in plain if c.place < time.place] if time else []
    whole = sorted(range(len(names)), key=lambda n: [*(c.values[n] for c in before), times[n]])
    if time and before and whole != order:
        raise _different_orders(names, [order, whole], remedy=_ways(names, [[time], [*before, time]]))
    spans = "; ".join(_spans(names, thing, order, time) for thing in things)
    globs = globs_of(names, [thing.place for thing in things])
    readings = [f"as {len(globs)} movies or channels, one for each of them"] if globs else []
    raise UncertainOrderError(
        f"names in which another number changes beside the time: {spans}",
        [*readings, "as one movie that goes on"],
        globs=globs,
        pattern=_pattern(names, time) if time else _clock_pattern(names),
    )


def _clock_pattern(names: Sequence[str]) -> str:
    """A pattern that puts files in order by the clock in their names, where one number is the clock."""
    for place, column in enumerate(columns_of(names)):
        units = {token.unit for token in column}
        unique = len({token.value for token in column}) == len(column)
        if column[0].clock and unique and len(units) == 1 and "" not in units:
            return pattern_of(names, [place], counts=False)
    return ""


def _stands(column: _Column, order: Sequence[int]) -> bool:
    """Whether durations stand still over several time points and then change, as exposures and doses do."""
    runs = [len(list(own)) for _, own in groupby(column.tokens[n].value for n in order)]
    return (
        all(token.clock == "relative" and token.unit not in ("", HOURS) for token in column.tokens)
        and len({token.unit for token in column.tokens}) == 1
        and len(runs) == len(set(column.values))
        and min(column.values) > 0
        and len(runs) > 1
        and min(runs) > 1
    )


def _goes_with_time(names: Sequence[str], column: _Column, order: Sequence[int]) -> bool:
    """Whether a number that varies may belong to the time: a count, a slower loop, a part of a date."""
    values = [column.values[n] for n in order]
    texts = [column.tokens[n].text for n in order]
    rises = all(b >= a for a, b in pairwise(values))
    if column.label in OTHER_LABELS or column.label in SPECIMENS or column.tokens[0].after in AXES:
        return False
    if len(set(values)) == len(values) and (rises or column.label in TIME_LABELS):
        return True
    fields = {"h", "m"} if {"h", "m"} <= {token.label for token in tokens(names[0])} else set()
    if column.label in {*TIME_FIELDS, *fields} or (column.label in SLOW_LABELS and rises):
        return True
    days = days_of(texts)
    if days is not None:
        return all(b >= a for a, b in pairwise(days))
    return ascends([names[n] for n in order], column.place)


def _spans(names: Sequence[str], thing: _Column, order: Sequence[int], time: _Column | None) -> str:
    """Which time points go with each value of a number."""
    own: dict[str, list[int]] = {}
    for n in order:
        own.setdefault(thing.tokens[n].text, []).append(n)
    parts = []
    for text, files in list(own.items())[:SHOWN]:
        first, last = ((time.tokens[n].text if time else names[n]) for n in (files[0], files[-1]))
        parts.append(f"{text} ({first})" if first == last else f"{text} ({first} to {last})")
    more = ", …" if len(own) > SHOWN else ""
    return f"{_word(thing)} {', '.join(parts)}{more}"


def _word(column: _Column) -> str:
    if column.label == WELL:
        return "what may be wells of a plate:"
    return f"after '{column.label}':" if column.label else "a number:"


def _differing(names: Sequence[str]) -> str:
    shown = ", ".join(names[:SHOWN]) + (", …" if len(names) > SHOWN else "")
    return f"{len(names)} files without a number that runs through all names ({shown})"


def _described(column: _Column) -> str:
    values = sorted(set(column.values))
    listed = ", ".join(map(written_out, values[:SHOWN])) + (", …" if len(values) > SHOWN else "")
    return f"{_word(column)} {listed}"
