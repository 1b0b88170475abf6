"""What the names of a series of files say: which time point each file is, and when it was taken.

Names are strings here; no file is opened. A number is taken for the time point by evidence, in this order:
a pattern that the user gives; the number after ``stack``, then after ``t``, ``frame`` and the like, if each
file has another one; the only number that runs. The clock in the names must agree. What stays open is
refused with its readings.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import pairwise

from spatialdino_core.movies.formats.image import S_PER_UNIT

FIRST_LABEL = "stack"
TIME_LABELS = ("t", "tp", "time", "timepoint", "frame", "iter", "iteration", "cycle")
_CHANNELS = ("c", "ch", "channel", "cam", "camera", "w", "wave", "wavelength")
_PLACES = ("x", "xy", "y", "z", "slice", "plane", "s", "series", "site", "pos", "position", "well", "field")
_VIEWS = ("scene", "fov", "roi", "tile", "view", "angle", "spot")
OTHER_LABELS = frozenset((*_CHANNELS, *_PLACES, *_VIEWS))
Key = tuple[float, ...]
SHOWN = 3
ORDER = "order"
"""Name of a group in a pattern whose number puts files in order, and does not count frames."""
MOST_POINTS, MOST_SHARE = 1000, 20
"""Numbers that run over more than so many time points, and that many times the files, count no frames."""
SPARSE = 2.0
"""Times as many numbers as files: then they do not count frames, unless a word says that they do."""

_STAMP = re.compile(
    r"(?<!\d)((?:19|20)\d\d)-?(\d\d)-?(\d\d)[T_ -]?(\d\d)[-:h.]?(\d\d)[-:m.]?(\d\d)(?:[.,](\d{1,6}))?(?!\d)"
)
_CLOCK = re.compile(
    r"(\d+(?:[.,]\d+)?)[ _]?((?:mins?|hrs?|h)(?![A-Za-z])|(?:msecAbs|msecs?|ms|secs?|s)(?![A-Za-z0-9]))",
    re.IGNORECASE,
)
_NUMBER = re.compile(r"\d+(?:\.\d+)?")
_LABEL = re.compile(r"([A-Za-z]+)([^A-Za-z0-9/]*)$")
_WORD = re.compile(r"[A-Za-z]*\d+[A-Za-z]*|[A-Za-z]+")


class UncertainOrderError(ValueError):
    """Names that leave open which file is which time point.

    Attributes
    ----------
    found
        What leaves it open.
    readings
        The orders that are possible, in words.
    """

    def __init__(self, found: str, readings: Sequence[str] = ()) -> None:
        self.found, self.readings = found, list(readings)
        super().__init__(found)


@dataclass(frozen=True)
class Token:
    """A number in a name.

    Attributes
    ----------
    text, value
        As written; as a number, for a clock in seconds.
    label
        The word before it, in lower case.
    clock
        ``""`` for a number; ``absolute`` or ``relative`` for a time with its ``unit``.
    signed
        Whether it may be meant as a negative number.
    """

    text: str
    value: float
    label: str
    clock: str = ""
    unit: str = ""
    signed: bool = False


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
    """

    point: tuple[int, ...]
    counted: bool
    clock_s: tuple[float, ...]
    by: str
    key: tuple[Key, ...] = ()


def natural(text: str) -> list[tuple[int, float, str]]:
    """Key that sorts numbers in a text by value.

    Examples
    --------
    >>> sorted(["t10/a", "t9/a", "t1/a"], key=natural)
    ['t1/a', 't9/a', 't10/a']
    """
    parts = re.split(r"(\d+)", text)
    return [(0, int(p), "") if p.isdigit() else (1, 0, p.casefold()) for p in parts]


def normalised(channel: str) -> str:
    """A channel's name without case, spaces and ``nm``: what makes two names the same.

    Examples
    --------
    >>> normalised("488 nm") == normalised("488nm") == normalised("488")
    True
    """
    plain = "".join(channel.casefold().split())
    return re.sub(r"(?<=\d)nm$", "", plain)


def mentions(name: str, channel: str) -> bool:
    """Whether a file's name holds a channel's name as a word.

    Examples
    --------
    >>> mentions("cell_ch0_stack0001_488nm.tif", "488 nm"), mentions("cell_488.tif", "48")
    (True, False)
    """
    wanted = normalised(channel)
    return any(normalised(word) == wanted for word in _WORD.findall(name)) or (
        not wanted.isalnum() and wanted in name.casefold()
    )


def words(name: str) -> list[str]:
    """Words and numbers in a name."""
    return _WORD.findall(name)


def tokens(name: str) -> list[Token]:
    """All numbers of a name, clock times recognised.

    Examples
    --------
    >>> [(t.label, t.value, t.clock) for t in tokens("c_stack0012_488nm_0.25s.tif")]
    [('stack', 12.0, ''), ('', 488.0, ''), ('nm', 0.25, 'relative')]
    """
    found: list[Token] = []
    place = 0
    while (number := _NUMBER.search(name, place)) is not None:
        before = _LABEL.search(name[place : number.start()])
        label = _label(before[1].casefold(), before[2]) if before else ""
        stamp, clock = _STAMP.match(name, number.start()), _CLOCK.match(name, number.start())
        seconds = _seconds(stamp) if stamp else None
        if stamp and seconds is not None:
            found.append(Token(stamp[0], seconds, label, "absolute"))
            place = stamp.end()
        elif clock:
            unit = clock[2].casefold()
            kind = "absolute" if unit == "msecabs" else "relative"
            per_unit = S_PER_UNIT["ms" if unit.startswith("ms") else unit.removesuffix("s") or "s"]
            seconds = float(clock[1].replace(",", ".")) * per_unit
            found.append(Token(clock[1], seconds, label, kind, unit, _is_signed(name, number.start())))
            place = clock.end()
        else:
            signed = _is_signed(name, number.start())
            found.append(Token(number[0], float(number[0]), label, signed=signed))
            place = number.end()
    return found


def _is_signed(name: str, start: int) -> bool:
    """Whether a dash before a number may be its sign: after ``t``, or after another separator."""
    return re.search(r"(?:^|[^A-Za-z0-9]|(?<![A-Za-z])[tT])-$", name[:start]) is not None


def _label(word: str, apart: str) -> str:
    """The word before a number; a single letter apart from it, as in ``c_1``, is a name and no label."""
    return "" if apart and len(word) == 1 and word in OTHER_LABELS else word


def _seconds(stamp: re.Match[str]) -> float | None:
    """A date and time of day, s; ``None`` if there is no such moment."""
    try:
        moment = datetime(*(int(part) for part in stamp.groups()[:6]), tzinfo=UTC)  # type: ignore[misc, arg-type]
    except ValueError:
        return None
    return moment.timestamp() + float(f"0.{stamp[7] or 0}")


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
    found = [tokens(name) for name in names]
    clock = _clock(found)
    if pattern is not None:
        series = _by_pattern(names, pattern)
    elif len(names) == 1:
        return Series((0,), False, tuple(clock), "one file")
    else:
        series = _by_evidence(names, found, clock)
    order = sorted(range(len(names)), key=lambda n: series.point[n])
    runs = bool(clock) and all(clock[b] > clock[a] for a, b in pairwise(order))
    if clock and not runs and pattern is None:
        turned = next((a, b) for a, b in pairwise(order) if clock[b] <= clock[a])
        raise UncertainOrderError(
            f"names whose numbers and times disagree: {names[turned[0]]} before {names[turned[1]]} by "
            f"{series.by}, after it by the clock in the name",
            [f"by {series.by}", "by the clock in the names"],
        )
    return Series(series.point, series.counted, tuple(clock) if runs else (), series.by, series.key)


def _clock(found: Sequence[Sequence[Token]]) -> list[float]:
    """Time of each file, s: of the clock in the names that shows another time in each; the absolute first."""
    clocks = [[token for token in own if token.clock] for own in found]
    if len({len(own) for own in clocks}) != 1:
        return []
    columns = [list(column) for column in zip(*clocks, strict=True)]
    for kind in ("absolute", "relative"):
        kept = [column for column in columns if all(token.clock == kind for token in column)]
        running = [[token.value for token in column] for column in kept]
        running = [times for times in running if len(set(times)) > 1]
        units = [{token.unit for token in column} for column in kept]
        if kind == "relative" and len(running) > 1 and len(set.union(*units)) == sum(map(len, units)):
            # Hours, minutes and seconds of one time: none of them tells it alone.
            running = [[sum(parts) for parts in zip(*running, strict=True)]]
        for times in running:
            if len(set(times)) == len(times):
                return times
    return []


def _by_pattern(names: Sequence[str], pattern: str) -> Series:
    """The time point is what the user's pattern finds in the file's name, else in the path."""
    points: dict[tuple[float, ...], str] = {}
    keys = []
    for name in names:
        match = re.search(pattern, name.rpartition("/")[2]) or re.search(pattern, name)
        try:
            key = tuple(float(group) for group in match.groups()) if match else ()
        except (TypeError, ValueError):
            key = ()
        if not key:
            raise UncertainOrderError(f"{name}, in which the pattern {pattern!r} finds no number")
        if key in points:
            shown = ", ".join(f"{part:g}" for part in key)
            raise UncertainOrderError(f"{points[key]} and {name}, both time point {shown} by {pattern!r}")
        points[key] = name
        keys.append(key)
    counts = ORDER not in re.compile(pattern).groupindex
    if counts and all(len(key) == 1 and key[0].is_integer() for key in keys):
        return Series(tuple(int(key[0]) for key in keys), True, (), f"the pattern {pattern!r}")
    rank = {key: number for number, key in enumerate(sorted(keys))}
    return Series(tuple(rank[key] for key in keys), False, (), f"the pattern {pattern!r}", tuple(keys))


def _by_evidence(names: Sequence[str], found: Sequence[Sequence[Token]], clock: Sequence[float]) -> Series:
    if len({tuple(token.value for token in own if token.signed) for own in found}) > 1:
        raise UncertainOrderError("numbers with a dash before them, which may be a sign: " + names[0])
    alike = len({_template(name) for name in names}) == 1
    for labels in ((FIRST_LABEL,), TIME_LABELS):
        labelled = _agreeing(names, [c for label in labels if (c := _labelled(found, label))])
        if labelled and alike:
            return _counted(labelled, True)
    columns = _running(found) if alike else []
    single = _agreeing(names, [column for column in columns if _is_unique(column)])
    if single:
        _refuse_fields(names, found, single)
        return _counted(single, False)
    if clock:
        rank = {time: number for number, time in enumerate(sorted(clock))}
        return Series(
            tuple(rank[time] for time in clock),
            False,
            (),
            "the clock in the names",
            tuple((t,) for t in clock),
        )
    if not alike:
        raise UncertainOrderError(_differing(names))
    if columns:
        raise UncertainOrderError(
            "numbers that run, of which none is certain to be the time: "
            + "; ".join(_described(column) for column in columns),
            [f"by {_described(column)}" for column in columns],
        )
    raise UncertainOrderError(_differing(names))


@dataclass(frozen=True)
class _Column:
    """The number at one place of every name."""

    label: str
    tokens: tuple[Token, ...]


def _labelled(found: Sequence[Sequence[Token]], label: str) -> _Column | None:
    """The number after a word, if every name has exactly one, each another."""
    own = [[token for token in some if token.label == label and not token.clock] for some in found]
    if any(len(some) != 1 for some in own):
        return None
    column = _Column(label, tuple(some[0] for some in own))
    return column if _is_unique(column) else None


def _running(found: Sequence[Sequence[Token]]) -> list[_Column]:
    """Numbers that are not the same in all names; what counts channels, planes or positions included."""
    columns = [_Column(column[0].label, tuple(column)) for column in zip(*found, strict=True)]
    return [c for c in columns if not any(t.clock for t in c.tokens) and len({t.value for t in c.tokens}) > 1]


def _is_unique(column: _Column) -> bool:
    values = [token.value for token in column.tokens]
    return len(set(values)) == len(values) and column.label not in OTHER_LABELS


def _agreeing(names: Sequence[str], columns: Sequence[_Column]) -> _Column | None:
    """The first of several columns that put the files in the same order; ``None`` if there is none."""
    orders = {tuple(sorted(range(len(names)), key=lambda n: c.tokens[n].value)) for c in columns}
    orders |= {
        tuple(
            sorted(
                range(len(names)),
                key=lambda n: [int(p) for p in c.tokens[n].text.split(".")],
            )
        )
        for c in columns
    }
    if len(orders) > 1:
        shown = [", ".join(names[n] for n in order[:SHOWN]) + ", …" for order in sorted(orders)]
        raise UncertainOrderError(f"numbers that run in different orders ({'; or '.join(shown)})", shown)
    return columns[0] if columns else None


def _counted(column: _Column, is_time: bool) -> Series:
    """Time points from a column: whole numbers count frames, unless there are far more of them than files."""
    by = f"the number after '{column.label}'" if column.label else "the number in the names"
    values = [token.value for token in column.tokens]
    ordered = sorted(values)
    if any("." in token.text for token in column.tokens):
        return Series(
            tuple(ordered.index(value) for value in values),
            False,
            (),
            by,
            tuple((value,) for value in values),
        )
    steps = [int(b - a) for a, b in pairwise(ordered)]
    step = 1 if is_time else math.gcd(*steps)
    if step < min(steps) and ordered[-1] - ordered[0] + 1 > SPARSE * len(values):
        # Stamps of a clock or the like: they are in order, and count nothing.
        return Series(
            tuple(ordered.index(value) for value in values),
            False,
            (),
            by,
            tuple((value,) for value in values),
        )
    if (ordered[-1] - ordered[0]) / step > MOST_POINTS + MOST_SHARE * len(values):
        raise UncertainOrderError(
            f"{len(values)} files whose numbers run from {ordered[0]:.0f} to {ordered[-1]:.0f}"
        )
    return Series(tuple(int(value) // step for value in values), True, (), by)


def _refuse_fields(names: Sequence[str], found: Sequence[Sequence[Token]], single: _Column) -> None:
    """Refuse a number that may be the fine part of a time or date: with the others it gives another order."""
    order = sorted(range(len(names)), key=lambda n: single.tokens[n].value)
    columns = [_Column(column[0].label, tuple(column)) for column in zip(*found, strict=True)]
    fields = [c for c in columns if c.label not in OTHER_LABELS and len({t.value for t in c.tokens}) > 1]
    for several in (fields, fields[::-1]):
        other = sorted(range(len(names)), key=lambda n: [column.tokens[n].value for column in several])
        if other != order:
            shown = [", ".join(names[n] for n in o[:SHOWN]) + ", …" for o in (order, other)]
            raise UncertainOrderError(f"numbers that run in different orders ({'; or '.join(shown)})", shown)


def _template(name: str) -> str:
    """A name with every number, clock and time stamp replaced."""
    plain = _STAMP.sub("\0", name)
    return _NUMBER.sub("\0", plain).casefold()


def _differing(names: Sequence[str]) -> str:
    shown = ", ".join(names[:SHOWN]) + (", …" if len(names) > SHOWN else "")
    return f"{len(names)} files without a number that runs through all names ({shown})"


def _described(column: _Column) -> str:
    values = sorted({token.value for token in column.tokens})
    listed = ", ".join(f"{value:g}" for value in values[:SHOWN]) + (", …" if len(values) > SHOWN else "")
    return (f"after '{column.label}': " if column.label else "a number: ") + listed
