"""What else changes in the names of a series beside the time: another cell, position, channel or exposure."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby, pairwise

from spatialdino_core.movies.daytime import (
    ascends,
    days_of,
    is_even,
)
from spatialdino_core.movies.hints import clock_pattern, globs_of
from spatialdino_core.movies.names import (
    AXES,
    HOURS,
    OTHER_LABELS,
    TIME_LABELS,
    tokens,
)
from spatialdino_core.movies.number_columns import (
    SHOWN,
    SPECIMENS,
    Column,
    UncertainOrderError,
    all_columns,
    column_pattern,
    different_orders,
    ways_to_say,
    word_of,
)
from spatialdino_core.movies.restarts import MOVE_RUNS, globs_of_runs, runs_of_counter

TIME_FIELDS = ("hr", "hour", "min", "minute")
"""Words before the parts of a time of day, which may stand still, go on and begin again; ``h`` and ``m`` if
both are there, for alone they can be anything."""
SLOW_LABELS = (*TIME_LABELS, "day", "date")
"""Words before the number of a slower loop, which may stand still and rise."""
FEW_TIMES = 3
"""Times that are as many as the exposures or doses that are tried."""


def refuse_other_things(
    names: Sequence[str], columns: Sequence[Column], times: Sequence[float], time: Column | None
) -> None:
    """Refuse names in which something else changes with time: another cell, position, channel or part."""
    order = sorted(range(len(names)), key=lambda n: times[n])
    things = [c for c in columns if c is not time and not _goes_with_time(names, c, order)]
    things += [c for c in all_columns(names) if _stands(c, order)]
    if not things:
        return
    plain = [c for c in things if time and not c.counts_things and c.label not in SLOW_LABELS]
    before = [c for c in plain if c.place < time.place] if time else []
    whole = sorted(range(len(names)), key=lambda n: [*(c.values[n] for c in before), times[n]])
    if time and before and whole != order:
        raise different_orders(names, [order, whole], remedy=ways_to_say(names, [[time], [*before, time]]))
    spans = "; ".join(_spans(names, thing, order, time) for thing in things)
    globs = globs_of(names, [thing.place for thing in things])
    readings = [f"as {len(globs)} movies or channels, one for each of them"] if globs else []
    runs = next((found for c in things if time is None and (found := runs_of_counter(names, c, times))), [])
    remedy = ""
    if runs:
        reading = f"as {len(runs)} runs, of which the second begins with {names[runs[1][0]]}"
        own = globs_of_runs(names, runs)
        remedy = f"For a movie of each run: {'; '.join(own)}." if own else MOVE_RUNS
        if any(len(run) > len(runs[0]) for run in runs):
            # Things that are visited in turn are all visited in the first round.
            globs, readings, remedy = own, [], "" if own else MOVE_RUNS
        readings.append(reading)
    raise UncertainOrderError(
        f"names in which another number changes beside the time: {spans}",
        [*readings, "as one movie that goes on"],
        globs=globs,
        pattern=column_pattern(names, time) if time else clock_pattern(names),
        remedy=remedy,
    )


def _stands(column: Column, order: Sequence[int]) -> bool:
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


def _goes_with_time(names: Sequence[str], column: Column, order: Sequence[int]) -> bool:
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


def _spans(names: Sequence[str], thing: Column, order: Sequence[int], time: Column | None) -> str:
    """Which time points go with each value of a number."""
    own: dict[str, list[int]] = {}
    for n in order:
        own.setdefault(thing.tokens[n].text, []).append(n)
    parts = []
    for text, files in list(own.items())[:SHOWN]:
        first, last = ((time.tokens[n].text if time else names[n]) for n in (files[0], files[-1]))
        parts.append(f"{text} ({first})" if first == last else f"{text} ({first} to {last})")
    more = ", …" if len(own) > SHOWN else ""
    return f"{word_of(thing)} {', '.join(parts)}{more}"


def refuse_exposures(names: Sequence[str], times: Sequence[float]) -> None:
    """Refuse a few durations, or uneven ones, which may be exposures or doses: none is 0, of one unit."""
    clocks = [c for c in all_columns(names) if c.tokens[0].clock and len(set(c.values)) > 1]
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
            pattern=clock_pattern(names),
        )


def _is_long(times: Sequence[float]) -> bool:
    return len(times) > FEW_TIMES and is_even(times)
