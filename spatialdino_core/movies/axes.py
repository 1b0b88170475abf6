"""The sample sheet's column ``axes``: what the planes of a file, or the axes of an array, are.

``t4z24yx``: letters, slowest first, each with its number where the file does not say it itself.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

LETTERS = re.compile(r"([tczyx])(\d*)")


def parsed(axes: str) -> list[tuple[str, int | None]]:
    """Letter (upper case) and number of each axis.

    Examples
    --------
    >>> parsed("t4zyx")
    [('T', 4), ('Z', None), ('Y', None), ('X', None)]
    """
    return [(letter.upper(), int(number) if number else None) for letter, number in LETTERS.findall(axes)]


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


def plane_axes(axes: str, planes: int, stored: Sequence[int] = ()) -> tuple[str, tuple[int, ...]] | None:
    """What the planes of a file are, of which there are ``planes``.

    Parameters
    ----------
    axes
        Cell of the sheet.
    planes
        Number of planes in the file.
    stored
        Lengths of the axes before y and x as the file has them, taken where the cell gives no numbers.

    Returns
    -------
    tuple or None
        Letters before y and x, and their lengths; ``None`` if they do not come to that number of planes.

    Examples
    --------
    >>> plane_axes("t4zyx", 96), plane_axes("tzyx", 96, (4, 24)), plane_axes("t5zyx", 96)
    (('TZ', (4, 24)), ('TZ', (4, 24)), None)
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
    if counts.count(None) > 1 and len(stored) == len(counts):
        counts = [given or there for given, there in zip(counts, stored, strict=True)]
    known = math.prod(count for count in counts if count is not None)
    if counts.count(None) == 1 and known > 0 and planes % known == 0:
        counts = [planes // known if count is None else count for count in counts]
    sizes = [count for count in counts if count is not None]
    if len(sizes) < len(counts) or math.prod(sizes) != planes or planes == 0:
        return None
    return order, tuple(sizes)
