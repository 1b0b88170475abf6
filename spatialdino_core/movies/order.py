"""Which time point each file of a series is, by the names of all of them, and when it was taken.

A number is taken for the time point by evidence, in this order: a pattern that the user gives; the number
after ``stack``, then after ``t``, ``frame`` and the like, if each file has another one; the only number that
runs. The clock in the names must agree, and nothing else may change with time. What stays open is refused
with its readings.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

from spatialdino_core.movies.daytime import (
    DAY_S,
    turned,
)
from spatialdino_core.movies.given_pattern import by_pattern
from spatialdino_core.movies.hints import globs_of
from spatialdino_core.movies.kinds import refuse_kinds, refuse_twins, signs
from spatialdino_core.movies.name_clock import NameClock, clock_of_names, unwrapped
from spatialdino_core.movies.names import (
    FIRST_LABEL,
    HOURS,
    ORDER,
    OTHER_LABELS,
    TIME_LABELS,
    VISIBLE_NM,
    tokens,
)
from spatialdino_core.movies.number_columns import (
    AGES,
    SPECIMENS,
    YEAR_REMEDY,
    Column,
    UncertainOrderError,
    all_columns,
    column_pattern,
    described,
    different_orders,
    is_unique,
    other_orders,
    parts_of_time,
    running_columns,
    shown_in_order,
    ways_to_say,
)
from spatialdino_core.movies.other_things import refuse_exposures, refuse_other_things
from spatialdino_core.movies.restarts import LOOPS, refuse_restart
from spatialdino_core.movies.time_points import MOST_THINGS, Series, counted

COUNTER_DIGITS = 3
"""A number of so many digits is a counter's; one from 1 that stands not after ``stack`` takes one more."""
YEARS_S = 3e8
"""Times beyond are those of a date, since 1970."""


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
    clock = clock_of_names(names)
    if pattern is not None:
        series = by_pattern(names, pattern, clock)
    elif len(names) == 1:
        return Series((0,), False, clock.times_s, "one file")
    else:
        series = _by_evidence(names, clock)
    order = sorted(range(len(names)), key=lambda n: series.point[n])
    times = unwrapped([clock.times_s[n] for n in order], clock) if clock.times_s else []
    runs = bool(times) and all(b > a for a, b in pairwise(times))
    if times and not runs:
        a, b = next((order[n], order[n + 1]) for n in range(len(times) - 1) if times[n + 1] <= times[n])
        found = f"{names[a]} before {names[b]} by {series.by}, after it by the clock in the name"
        if pattern is not None:
            return replace(series, warnings=(f"numbers and times of names disagree: {found}",))
        raise UncertainOrderError(
            f"names whose numbers and times disagree: {found}",
            [f"by {series.by}", "by the clock in the names"],
            pattern=series.pattern.replace(f"?P<{ORDER}>", ""),
        )
    place = {n: k for k, n in enumerate(order)}
    own = tuple(times[place[n]] for n in range(len(names))) if runs and clock.certain else ()
    return replace(series, clock_s=own)


def _by_evidence(names: Sequence[str], clock: NameClock) -> Series:
    refuse_kinds(names)
    refuse_twins(names)
    if len({tuple(token.value for token in tokens(name) if token.signed) for name in names}) > 1:
        raise signs(names)
    columns = [column for column in running_columns(names) if column.place not in clock.places]
    for labels in ((FIRST_LABEL,), TIME_LABELS):
        own = [c for label in labels if (c := _labelled(columns, label)) is not None]
        labelled = _agreeing(names, own)
        if labelled:
            others = other_orders(names, labelled, [labelled.place])
            by_time = sorted(range(len(names)), key=lambda n: clock.times_s[n]) if clock.times_s else []
            if by_time in others and clock.certain and not clock.daily:
                return _by_clock(names, [c for c in columns if c is not labelled], clock)
            _refuse_orders(names, labelled, others)
            refuse_other_things(names, columns, labelled.values, labelled)
            return _doubted(names, labelled, clock, counted(names, labelled, True))
    single = _agreeing(names, [column for column in columns if is_unique(column)])
    if single:
        _refuse_still_time(names, single)
        _refuse_orders(names, single, other_orders(names, single))
        _refuse_fields(names, single, clock)
        refuse_other_things(names, columns, single.values, single)
        return _doubted(names, single, clock, counted(names, single, False))
    if clock.times_s:
        return _by_clock(names, columns, clock)
    things = _things(columns)
    for column in columns:
        if column.label in SPECIMENS and len(set(column.values)) == len(names):
            _refuse_orders(names, column, other_orders(names, column))
    counting = [column for column in columns if not column.counts_things]
    raise UncertainOrderError(
        "numbers that run, of which none is certain to be the time: " + "; ".join(map(described, columns)),
        [f"by {described(column)}" for column in columns],
        globs=globs_of(names, [column.place for column in things]),
        pattern=column_pattern(names, *(counting or columns)),
    )


def _doubted(names: Sequence[str], column: Column, clock: NameClock, series: Series) -> Series:
    """Doubt a number of which no word says that it counts time: so people number what they take, from 1.

    Programs count frames from 0, or with more digits.
    """
    says = column.label in TIME_LABELS or column.tokens[0].after in AGES or bool(clock.times_s)
    digits, first = min(len(token.text) for token in column.tokens), min(column.values)
    if says or first == 0 or digits >= COUNTER_DIGITS + (first == 1 and column.label != FIRST_LABEL):
        return series
    doubt = UncertainOrderError(
        f"a number that runs, of which no word says that it counts time: {described(column)}",
        [f"as {len(names)} movies, one for each of them", "as one movie"],
        globs=globs_of(names, [column.place]) if len(names) <= MOST_THINGS else (),
        pattern=column_pattern(names, column),
    )
    return replace(series, doubt=doubt)


def _things(columns: Sequence[Column]) -> list[Column]:
    """Numbers that may tell movies or channels apart: those whose word is not of time, or have a word."""
    coloured = [column for column in columns if _are_wavelengths(column)]
    if coloured:
        return coloured + [c for c in columns if c.counts_things and c not in coloured]
    if any(column.label in (FIRST_LABEL, *TIME_LABELS) for column in columns):
        return [column for column in columns if column.label not in (FIRST_LABEL, *TIME_LABELS)]
    labelled = [column for column in columns if column.label]
    return labelled if 0 < len(labelled) < len(columns) else [c for c in columns if c.counts_things]


def _are_wavelengths(column: Column) -> bool:
    """Whether a number is a wavelength that several files share."""
    shared = len(set(column.values)) < len(column.values)
    return shared and all(VISIBLE_NM[0] <= value <= VISIBLE_NM[1] for value in column.values)


def _by_clock(names: Sequence[str], columns: Sequence[Column], clock: NameClock) -> Series:
    """By the clock alone: other numbers may count loops."""
    times = clock.times_s
    if clock.daily and (other := turned(times)) is not None:
        order = sorted(range(len(names)), key=lambda n: times[n])
        raise UncertainOrderError(
            "times of day, which may go on over midnight, or over noon by a clock of twelve hours",
            [shown_in_order(names, o) for o in (order, other)],
            remedy="Put the date before the time (20240131_235958), or number the files (t0000, t0001, …).",
        )
    if len({time // DAY_S for time in times}) == 1 and min(times) >= YEARS_S:
        other = turned([time % DAY_S for time in times])
        if other is not None:
            order = sorted(range(len(names)), key=lambda n: times[n])
            raise UncertainOrderError(
                "times of one day, which may go on over midnight, or over noon by a clock of twelve hours",
                [shown_in_order(names, o) for o in (order, other)],
                remedy="Correct the date of what was taken on another day and write hours from 00 to 23, or "
                "number the files (t0000, t0001, …).",
            )
    refuse_exposures(names, times)
    refuse_restart(names, columns, times)
    refuse_other_things(names, [c for c in columns if c.label not in LOOPS], times, None)
    rank = {time: number for number, time in enumerate(sorted(times))}
    by = "the clock in the names" if clock.certain else "the time of day in the names"
    return Series(tuple(rank[time] for time in times), False, (), by, tuple((t,) for t in times))


def _labelled(columns: Sequence[Column], label: str) -> Column | None:
    """The only number after a word, if it is another one in every name."""
    own = [column for column in columns if column.label == label]
    return own[0] if len(own) == 1 and is_unique(own[0]) else None


def _agreeing(names: Sequence[str], columns: Sequence[Column]) -> Column | None:
    """The first of several columns that put the files in the same order; ``None`` if there is none."""
    orders = {tuple(sorted(range(len(names)), key=lambda n: c.values[n])) for c in columns}
    orders |= {
        tuple(sorted(range(len(names)), key=lambda n: [int(p) for p in c.tokens[n].text.split(".")]))
        for c in columns
    }
    if len(orders) > 1:
        raise different_orders(names, sorted(orders), remedy=ways_to_say(names, [[c] for c in columns]))
    return columns[0] if columns else None


def _refuse_still_time(names: Sequence[str], single: Column) -> None:
    """Refuse a number after a word where the number of the time point is there as well and stays 0."""
    loops = (FIRST_LABEL, *TIME_LABELS)
    still = [
        c for c in all_columns(names) if c.label in loops and set(c.values) == {0} and not c.tokens[0].clock
    ]
    if still and single.label not in ("", *loops):
        raise UncertainOrderError(
            f"names in which the number after '{still[0].label}' stays 0, and another runs: "
            f"{described(single)}",
            [f"as {len(names)} movies, one for each of them", "as one movie"],
            globs=globs_of(names, [single.place]),
            pattern=column_pattern(names, single),
        )


def _refuse_orders(names: Sequence[str], column: Column, others: Sequence[list[int]]) -> None:
    """Refuse a number that gives another order as a part of a date or time of day."""
    if others:
        order = sorted(range(len(names)), key=lambda n: column.values[n])
        orders = [list(other) for other in dict.fromkeys(map(tuple, (order, *others)))]
        raise different_orders(names, orders, remedy=YEAR_REMEDY)


def _refuse_fields(names: Sequence[str], single: Column, clock: NameClock) -> None:
    """Refuse a number that may be the fine part of a time or date: with the others it gives another order."""
    order = sorted(range(len(names)), key=lambda n: single.values[n])
    columns = [c for c in all_columns(names) if c.place not in clock.places and len(set(c.values)) > 1]
    columns = [c for c in columns if not c.tokens[0].clock or c.tokens[0].unit not in ("", HOURS)]
    running = [c for c in columns if c.label not in OTHER_LABELS]
    for several in (running, running[::-1]):
        other = sorted(range(len(names)), key=lambda n: [column.values[n] for column in several])
        if other != order:
            parts = parts_of_time(names, single.place)
            if len(parts) > 1:
                raise different_orders(names, [order, other], *(c for c in columns if c.place in parts))
            remedy = ways_to_say(names, [*([column] for column in running), running])
            raise different_orders(names, [order, other], remedy=remedy)
