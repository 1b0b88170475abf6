"""An acquisition that was stopped and begun again into the same folder, by its counters and its clock."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import pairwise

from spatialdino_core.movies.hints import clock_pattern, globs_of_groups
from spatialdino_core.movies.names import FIRST_LABEL, TIME_LABELS
from spatialdino_core.movies.number_columns import Column, UncertainOrderError, all_columns

LOOPS = (FIRST_LABEL, *TIME_LABELS)
MOST_RUNS = 10
"""Runs for which globs are looked for."""
MOVE_RUNS = "For a movie of each run, move its files into a folder of their own."


def refuse_restart(names: Sequence[str], columns: Sequence[Column], times: Sequence[float]) -> None:
    """Refuse names whose counters of loops, or the time since the start, begin again as the clock goes on.

    Parameters
    ----------
    columns
        Numbers that run and are no clock.
    times
        By the clock, s.

    Raises
    ------
    UncertainOrderError
        With a glob for each run, where globs can tell them apart by the clock, and a pattern for one movie.
    """
    loops = [column for column in columns if column.label in LOOPS]
    runs = _runs(names, loops, times)
    if len(runs) < 2:
        return
    before, after = names[runs[0][-1]], names[runs[1][0]]
    globs = globs_of_runs(names, runs)
    raise UncertainOrderError(
        f"numbers that begin again while the clock goes on: {after} was taken after {before}",
        [f"as {len(runs)} runs, of which the second begins with {after}", "as one movie that goes on"],
        globs=globs,
        pattern=clock_pattern(names),
        remedy="" if globs else MOVE_RUNS,
    )


def runs_of_counter(names: Sequence[str], column: Column, times: Sequence[float]) -> list[list[int]]:
    """Runs of a number without a word; none where it may be several things that were visited in turn."""
    runs = _runs(names, [column], times) if not column.label else []
    return runs if 1 < len(runs) <= len(set(column.values)) else []


def globs_of_runs(names: Sequence[str], runs: Sequence[Sequence[int]]) -> list[str]:
    """Globs that take runs apart by how their numbers or clocks begin; empty if none do."""
    if len(runs) > MOST_RUNS:
        return []
    groups = [[names[n] for n in run] for run in runs]
    return next(
        (globs for column in all_columns(names) if (globs := globs_of_groups(groups, column.place))), []
    )


def _runs(names: Sequence[str], counters: Sequence[Column], times: Sequence[float]) -> list[list[int]]:
    """Files in order of time, cut where counters begin again."""
    order = sorted(range(len(names)), key=lambda n: times[n])
    elapsed = [column for column in all_columns(names) if _is_elapsed(column, order)]
    values = [tuple(counter.values[n] for counter in counters) for n in order]
    often = Counter(values)
    # A loop that is slow shares each of its numbers; one that counts every stack does not.
    counts = bool(counters) and 2 * sum(own == 1 for own in often.values()) >= len(often)
    runs = [[order[0]]]
    for a, b in pairwise(order):
        rises = any(c.values[b] > c.values[a] or _wraps(c, a, b) for c in counters)
        falls = any(c.values[b] < c.values[a] for c in counters)
        repeats = counts and all(c.values[b] == c.values[a] for c in counters)
        stops = any(c.values[b] <= c.values[a] for c in elapsed)
        if not rises and (falls or repeats or stops):
            runs.append([])
        runs[-1].append(b)
    return runs


def _is_elapsed(column: Column, order: Sequence[int]) -> bool:
    """Whether a number is the time since the start, which rises from most stacks to the next."""
    rises = sum(column.values[b] > column.values[a] for a, b in pairwise(order))
    return all(token.clock == "relative" for token in column.tokens) and 2 * rises > len(order) - 1


def _wraps(column: Column, before: int, after: int) -> bool:
    """Whether a counter of a fixed width has come to its end: 9999, 0000."""
    text, following = column.tokens[before].text, column.tokens[after].text
    return set(text) == {"9"} and 1 < len(text) == len(following) and int(following) <= 1
