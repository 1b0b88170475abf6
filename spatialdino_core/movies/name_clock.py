"""When each file of a series was taken, by the names of all of them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from spatialdino_core.movies.daytime import (
    DAY_S,
    WHOLE,
    Daytime,
    certain_days,
    date_orders,
    dates_of,
    days_of,
    daytimes_of,
    is_even,
    is_steady,
    turned,
)
from spatialdino_core.movies.moments import Fields, thousandths_after
from spatialdino_core.movies.names import (
    HOURS,
    OTHER_LABELS,
    Token,
    columns_of,
    template,
    tokens,
)

BETWEEN = re.compile(r"[T_. -]| at ")
"""What stands between a date and the time of day."""


@dataclass(frozen=True)
class NameClock:
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


def clock_of_names(names: Sequence[str]) -> NameClock:
    """Time of each file: of the clock in the names that shows another time in each; the absolute first."""
    if len({template(name) for name in names}) > 1:
        return NameClock()
    columns = columns_of(names)
    for kind in ("absolute", "relative"):
        running = [c for c in columns if all(t.clock == kind for t in c) and len({t.value for t in c}) > 1]
        units = [{token.unit for token in column} for column in running]
        for column in running:
            if kind == "absolute" and (finer := _finer(names, column)) is not None:
                return finer
            if len({token.value for token in column}) == len(column):
                times = [token.value for token in column]
                if kind == "absolute" or len(running) == 1 or len(set.union(*units)) < sum(map(len, units)):
                    # Hours and minutes of one number, which may be times of a day.
                    daily = column[0].unit == HOURS and turned(times) is not None
                    return NameClock(tuple(times), daily=daily)
        if running and kind == "relative" and len(set.union(*units)) == sum(map(len, units)):
            # Hours, minutes and seconds of one time: none of them tells it alone.
            times = [sum(parts) for parts in zip(*([t.value for t in c] for c in running), strict=True)]
            if len(set(times)) == len(times):
                hours = any(unit.startswith("h") for unit in set.union(*units))
                return NameClock(tuple(times), daily=hours and turned(times) is not None)
    return _daily_clock(names)


def _finer(names: Sequence[str], stamps: Sequence[Token]) -> NameClock | None:
    """Time stamps to the second, with the thousandths that stand after them."""
    if any(stamp.unit or "." in stamp.text or "," in stamp.text for stamp in stamps):
        return None
    finer = thousandths_after(names, stamps[0].end, [stamp.value for stamp in stamps])
    if finer is None or len(set(finer[0])) < len(names):
        return None
    return NameClock(finer[0], places=frozenset(finer[2]))


def unwrapped(times: Sequence[float], clock: NameClock) -> list[float]:
    """Times of day, in an order that is known: the day goes on where they fall by more than half a day."""
    if not clock.daily:
        return list(times)
    days, whole = 0, []
    for before, now in zip([times[0], *times], times, strict=False):
        days += before - now > DAY_S / 2
        whole.append(now + days * DAY_S)
    return whole


def _daily_clock(names: Sequence[str]) -> NameClock:
    """The time of day in names, of the day in them where that stands before it or changes with it."""
    dates = list(dates_of(names))
    for found in daytimes_of(names):
        clock = _dated(names, found, dates) or _undated(names, found)
        if clock is not None and len(set(clock.times_s)) == len(names):
            return clock
    return NameClock()


def _dated(
    names: Sequence[str], time: Daytime, dates: Sequence[tuple[list[str], Fields]]
) -> NameClock | None:
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
            return NameClock(times, certain=len(time.signs) != 1, places=places)
    return None


def _undated(names: Sequence[str], time: Daytime) -> NameClock | None:
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
        dates = [] if time.to_thousandths else date_orders(time.digits)
        if longer or first_label in OTHER_LABELS or any(o != own for o in dates):
            return None
        telling = is_steady(time.seconds)
    else:
        # Digits that are in even steps as a time only are one.
        first = [tokens(name)[min(time.places)].value for name in names]
        telling = is_even(time.seconds) and (time.to_thousandths or not is_even(first))
    if not (telling or turned(time.seconds) is not None):
        return None
    return NameClock(time.seconds, certain=False, daily=True, places=time.places)
