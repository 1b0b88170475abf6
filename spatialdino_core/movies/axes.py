"""The sample sheet's column ``axes``: what the planes of a file, or the axes of an array, are.

``t4z24yx``: letters, slowest first, each with its number where the file does not say it itself.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence

LETTERS = re.compile(r"([tczyx])(\d*)")
MOST_NAMELESS = 4
"""Channels without names of one file: more of them are rather planes. A program that was told no axes, as
tifffile may be, calls the last one before y and x channels, and that before it z."""


def parsed(axes: str) -> list[tuple[str, int | None]]:
    """Letter (upper case) and number of each axis.

    Examples
    --------
    >>> parsed("t4zyx")
    [('T', 4), ('Z', None), ('Y', None), ('X', None)]
    """
    return [(letter.upper(), int(number) if number else None) for letter, number in LETTERS.findall(axes)]


def written(axes: Iterable[tuple[str, int]]) -> str:
    """A cell of axes before y and x with their numbers; those of one are left out.

    Examples
    --------
    >>> written([("T", 4), ("Z", 24), ("C", 1)]), written([("Z", 1)])
    ('t4z24yx', '')
    """
    leading = "".join(f"{letter.lower()}{count}" for letter, count in axes if count > 1)
    return f"{leading}yx" if leading else ""


def with_planes_for_channels(axes: str, has_times: bool) -> list[str]:
    """What axes are if their channels are planes of a stack: then the file's z is time, or channels.

    Parameters
    ----------
    axes
        As `written`.
    has_times
        Whether the time points are known otherwise, as in a series of files.

    Examples
    --------
    >>> with_planes_for_channels("z40c5yx", False), with_planes_for_channels("t9z2c5yx", False)
    (['t40z5yx'], ['t9c2z5yx'])
    >>> with_planes_for_channels("z2c5yx", False), with_planes_for_channels("z2c5yx", True)
    (['t2z5yx', 'c2z5yx'], ['c2z5yx'])
    """
    if "t" in axes or has_times:
        others = "C"
    else:
        others = "TC" if dict(parsed(axes)).get("Z") in range(2, MOST_NAMELESS + 1) else "T"
    exchanged = [{"C": "Z", "Z": other} for other in others]
    leading = [(letter, count or 1) for letter, count in parsed(axes)[:-2]]
    return [
        written((letters.get(letter, letter), count) for letter, count in leading) for letters in exchanged
    ]


def planes_announced(axes: str) -> int:
    """How many planes a cell with a number for every axis before y and x, time first, comes to; else 0.

    Examples
    --------
    >>> planes_announced("t5z12yx"), planes_announced("z12t5yx"), planes_announced("tz12yx")
    (60, 0, 0)
    """
    leading = parsed(axes)[:-2]
    counts = [count or 0 for _, count in leading]
    return math.prod(counts) if leading and leading[0][0] == "T" else 0


def in_this_order(axes: str, stored: Sequence[tuple[str, int]]) -> str:
    """A cell without numbers, with those that a file has in this order; empty if it has not as many axes.

    Examples
    --------
    >>> in_this_order("tzyx", [("Z", 4), ("C", 24)]), in_this_order("tzyx", [("Z", 96)])
    ('t4z24yx', '')
    """
    leading = parsed(axes)[:-2]
    if len(leading) != len(stored) or any(count for _, count in leading):
        return ""
    return written((letter, count) for (letter, _), (_, count) in zip(leading, stored, strict=True))


def plane_axes(
    axes: str, planes: int, stored: Sequence[tuple[str, int]] = ()
) -> tuple[str, tuple[int, ...]] | None:
    """What the planes of a file are, of which there are ``planes``.

    Parameters
    ----------
    axes
        Cell of the sheet.
    planes
        Number of planes in the file.
    stored
        Axes before y and x as the file has them, and their lengths, which are taken where the cell gives no
        numbers; not where it has the same axes in another order, for then the order may be the slip.

    Returns
    -------
    tuple or None
        Letters before y and x, and their lengths; ``None`` if they do not come to that number of planes.

    Examples
    --------
    >>> plane_axes("t4zyx", 96), plane_axes("t5zyx", 96)
    (('TZ', (4, 24)), None)
    >>> plane_axes("tzyx", 96, [("Z", 4), ("C", 24)]), plane_axes("tzyx", 96, [("Z", 4), ("T", 24)])
    (('TZ', (4, 24)), None)
    """
    named = parsed(axes)
    letters = "".join(letter for letter, _ in named)
    leading = named[:-2]
    order = letters[:-2]
    if (
        not letters.endswith("YX")
        or not order
        or not set(order) <= set("TCZ")
        or len(set(order)) < len(order)
    ):
        return None
    counts = [count for _, count in leading]
    there = "".join(letter for letter, _ in stored)
    exchanged = there != order and set(there) == set(order)
    if counts.count(None) > 1 and len(stored) == len(counts) and not exchanged:
        counts = [given or count for given, (_, count) in zip(counts, stored, strict=True)]
    known = math.prod(count for count in counts if count is not None)
    if counts.count(None) == 1 and known > 0 and planes % known == 0:
        counts = [planes // known if count is None else count for count in counts]
    sizes = [count for count in counts if count is not None]
    if len(sizes) < len(counts) or math.prod(sizes) != planes or planes == 0:
        return None
    return order, tuple(sizes)
