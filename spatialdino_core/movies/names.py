"""What stands in one name of a file: its numbers with the word before them, clock times, channels.

Names are strings here; no file is opened. What several names mean together is settled in `order`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache

from spatialdino_core.movies.formats.image import S_PER_UNIT

FIRST_LABEL = "stack"
TIME_LABELS = ("t", "tp", "time", "timepoint", "frame", "iter", "iteration", "cycle")
PLANE_LABELS = ("z", "slice", "zslice", "plane", "zplane", "zpos")
_CHANNELS = ("c", "ch", "chan", "channel", "laser", "cam", "camera", "w", "wave", "wavelength")
WELL = "well"
_PLACES = (
    "x",
    "xy",
    "y",
    "s",
    "series",
    "site",
    "p",
    "pos",
    "position",
    WELL,
    "f",
    "field",
    "point",
    "stage",
)
_VIEWS = (
    "scene",
    "fov",
    "roi",
    "tile",
    "montage",
    "mosaic",
    "multipoint",
    "view",
    "angle",
    "spot",
    "area",
    "region",
    "crop",
    "section",
    "layer",
)
_VERSIONS = ("v", "version", "it", "coverslip", "slide", "plate", "chamber", "stage")
OTHER_LABELS = frozenset((*_CHANNELS, *_PLACES, *_VIEWS, *PLANE_LABELS, *_VERSIONS))
"""Words whose number counts something else than time."""
AXES = ("x", "y", "z")
"""Letters right after the number of a tile: ``001x_000y_000z``."""
_MEASURE = re.compile(
    r"%|pct|percent|[°º]?[CK]|deg|[fpnuµμm]?M|[pnuµμmc]m|[nuµμmk]?W|[kM]?Hz|k?Pa|[nuµμmk]?V|px|[nuµμm]g"
    r"|[XYZxyz]"
)
VISIBLE_NM = (350, 900)
"""Numbers that may be wavelengths."""
MOST_COLUMNS_OF_A_PLATE = 24
MOST_NAMES = 30_000
"""Names whose parts are remembered, because several questions are asked of each."""
ORDER = "order"
"""Name of a group in a pattern whose number puts files in order, and does not count frames."""

NUMBER = "\0"
"""What stands for every number in a template."""
_STAMP = re.compile(
    r"(?<!\d)((?:19|20)\d\d)-?(\d\d)-?(\d\d)[T_ -]?(\d\d)[-:h.]?(\d\d)[-:m.]?(\d\d)(?:[.,](\d{1,6}))?(?!\d)"
)
_DATE = re.compile(r"(?<!\d)((?:19|20)\d\d)[-.](0[1-9]|1[0-2])[-.](0[1-9]|[12]\d|3[01])(?!\d)")
_CLOCK = re.compile(
    # A number may follow a unit at once (23h59min), but not one that stands apart (hour0_min30).
    r"(\d+(?:[.,]\d+)?)[ _]?((?<=\d)(?:mins?|hrs?|h)(?![A-Za-z])|(?:mins?|hrs?|h)(?![A-Za-z0-9])"
    r"|(?:msecAbs|msecs?|ms|secs?|s)(?![A-Za-z0-9]))",
    re.IGNORECASE,
)
HOURS = "h:m"
"""Unit of a time in hours, minutes and seconds."""
_ELAPSED = re.compile(
    r"(?:(?P<d>\d+)d[ _]?)?(?P<h>\d{1,3})h[ _]?(?P<m>[0-5]?\d)m(?:ins?)?"
    r"(?:[ _]?(?P<s>[0-5]?\d)s?)?(?![A-Za-z0-9])"
    r"|(?P<min>\d+)m(?:ins?)?[ _]?(?P<sec>[0-5]?\d)s(?![A-Za-z0-9])"
)
_NUMBER = re.compile(r"\d+(?:\.\d+)?")
_LABEL = re.compile(r"([A-Za-z]+)([^A-Za-z0-9/]*)$")
_TIME_POINT = re.compile(r"time[ _-]point[^A-Za-z0-9/]*$", re.IGNORECASE)
_WORD = re.compile(r"[A-Za-z]*\d+[A-Za-z]*|[A-Za-z]+")


@dataclass(frozen=True)
class Token:
    """A number in a name.

    Attributes
    ----------
    text, value
        As written; as a number, for a clock in seconds.
    label
        The word before it, in lower case.
    start, end
        Where it stands in the name.
    clock
        ``""`` for a number; ``absolute`` or ``relative`` for a time with its ``unit``.
    signed
        Whether it may be meant as a negative number.
    after
        The letters right after it.
    """

    text: str
    value: float
    label: str
    start: int
    end: int
    clock: str = ""
    unit: str = ""
    signed: bool = False
    after: str = ""

    @property
    def measures(self) -> bool:
        """Whether the number has a unit that is none of time: ``10mW``, ``37C``, a tile's ``001x``."""
        return _MEASURE.fullmatch(self.after) is not None


def natural(text: str) -> list[tuple[int, float, str]]:
    """Key that sorts numbers in a text by value.

    Examples
    --------
    >>> sorted(["t10/a", "t9/a", "t1/a"], key=natural)
    ['t1/a', 't9/a', 't10/a']
    """
    parts = re.split(r"(\d+)", text)
    return [(0, int(p), "") if p.isdecimal() else (1, 0, p.casefold()) for p in parts]


def written_out(number: float) -> str:
    """A number without an exponent.

    Examples
    --------
    >>> written_out(20240131.0), written_out(0.25)
    ('20240131', '0.25')
    """
    return f"{number:.0f}" if float(number).is_integer() else f"{number:.6f}".rstrip("0")


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


@lru_cache(MOST_NAMES)
def template(name: str) -> str:
    """A name with every number, clock time and time stamp replaced: alike in all files of a series."""
    place, text = 0, ""
    for token in tokens(name):
        text += name[place : token.start] + NUMBER
        place = token.end
    stem, dot, kind = (text + name[place:]).rpartition(".")
    return stem + dot + ("tif" if kind.casefold() == "tiff" else kind.casefold())


@lru_cache(MOST_NAMES)
def tokens(name: str) -> tuple[Token, ...]:
    """All numbers of a name, clock times recognised.

    Examples
    --------
    >>> [(t.label, t.value, t.clock) for t in tokens("c_stack0012_488nm_0.25s.tif")]
    [('stack', 12.0, ''), ('', 488.0, ''), ('nm', 0.25, 'relative')]
    """
    found: list[Token] = []
    place = 0
    while (number := _NUMBER.search(name, place)) is not None:
        found.append(_token(name, place, number))
        place = found[-1].end
    return tuple(found)


def _token(name: str, place: int, number: re.Match[str]) -> Token:
    """The number that begins at a match, after what ended at ``place``."""
    start = number.start()
    before = _LABEL.search(name[place:start])
    label = _label(before[1].casefold(), before[2]) if before else ""
    if label == "point" and _TIME_POINT.search(name[:start]):
        label = "timepoint"
    stamp, date, clock = (kind.match(name, start) for kind in (_STAMP, _DATE, _CLOCK))
    seconds = _seconds(stamp) if stamp else None
    if stamp and seconds is not None:
        return Token(stamp[0], seconds, label, start, stamp.end(), "absolute")
    if date:
        text = "".join(date.groups())
        return Token(text, float(text), label, start, date.end())
    signed = _is_signed(name, start)
    if elapsed := _ELAPSED.match(name, start):
        parts = {unit: float(part or 0) for unit, part in elapsed.groupdict().items()}
        minutes = 60 * (24 * parts["d"] + parts["h"]) + parts["m"] + parts["min"]
        seconds = 60 * minutes + parts["s"] + parts["sec"]
        unit = HOURS if elapsed["h"] and not elapsed["d"] else ""
        return Token(elapsed[0], seconds, label, start, elapsed.end(), "relative", unit, signed)
    if clock:
        unit = clock[2].casefold()
        kind = "absolute" if unit == "msecabs" else "relative"
        per_unit = S_PER_UNIT["ms" if unit.startswith("ms") else unit.removesuffix("s") or "s"]
        seconds = float(clock[1].replace(",", ".")) * per_unit
        return Token(clock[1], seconds, label, start, clock.end(), kind, unit, signed)
    label = WELL if label not in OTHER_LABELS and _is_well(name, number) else label
    after = re.match(r"[^\W\d_]*[%°º]?[CK]?", name[number.end() :])
    text = after[0] if after and not name[number.end() + after.end() :][:1].isdigit() else ""
    return Token(number[0], float(number[0]), label, start, number.end(), signed=signed, after=text)


def _is_signed(name: str, start: int) -> bool:
    """Whether a dash before a number may be its sign: after ``t``, or after another separator."""
    return re.search(r"(?:^|[^A-Za-z0-9]|(?<![A-Za-z])[tT])-$", name[:start]) is not None


def _label(word: str, apart: str) -> str:
    """The word before a number; a single letter apart from it, as in ``c_1``, is a name and no label, but one
    that is said to equal it, as in ``C=1``.
    """
    return "" if apart.strip("=") and len(word) == 1 and word in OTHER_LABELS else word


def _is_well(name: str, number: re.Match[str]) -> bool:
    """Whether a number and the letter before it can be a well of a plate: ``A1`` to ``P24``, capital."""
    alone = re.fullmatch(r"(?:.*[^A-Za-z0-9])?[A-P]", name[: number.start()], re.DOTALL)
    ends = not name[number.end() : number.end() + 1].isalnum()
    short = number[0].isdigit() and len(number[0]) <= 2
    return bool(alone) and ends and short and int(number[0]) <= MOST_COLUMNS_OF_A_PLATE


def _seconds(stamp: re.Match[str]) -> float | None:
    """A date and time of day, s; ``None`` if there is no such moment."""
    try:
        moment = datetime(*(int(part) for part in stamp.groups()[:6]), tzinfo=UTC)  # type: ignore[misc, arg-type]
    except ValueError:
        return None
    return moment.timestamp() + float(f"0.{stamp[7] or 0}")


def matched(pattern: str, name: str) -> tuple[float, ...]:
    """Numbers that a pattern of the user finds in a file's name, else in its path; empty if none."""
    match = re.search(pattern, name.rpartition("/")[2]) or re.search(pattern, name)
    try:
        numbers = tuple(float(group) for group in match.groups()) if match else ()
    except (TypeError, ValueError):
        return ()
    return numbers if all(map(math.isfinite, numbers)) else ()


def place_of(pattern: str, name: str) -> int | None:
    """Place of the number that the only group of a pattern finds in a name; ``None`` for several groups."""
    file = len(name.rpartition("/")[0]) + ("/" in name)
    match, start = re.search(pattern, name[file:]), file
    if match is None:
        match, start = re.search(pattern, name), 0
    if match is None or len(match.groups()) != 1:
        return None
    begin, end = match.start(1) + start, match.end(1) + start
    places = [p for p, token in enumerate(tokens(name)) if token.start < end and begin < token.end]
    return places[0] if len(places) == 1 else None


def columns_of(names: Sequence[str]) -> list[tuple[Token, ...]]:
    """The numbers at each place of names that are alike but for their numbers."""
    return list(zip(*(tokens(name) for name in names), strict=True))
