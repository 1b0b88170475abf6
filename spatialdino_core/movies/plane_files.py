"""Files that hold one plane each: which planes are one stack, by the names of the files. Opens no file."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path

from spatialdino_core.errors import BadInputError
from spatialdino_core.movies.formats.image import ranges
from spatialdino_core.movies.names import PLANE_LABELS
from spatialdino_core.movies.sheet import SheetRow

LABELLED = re.compile(rf"(?<![A-Za-z])(?:{'|'.join(PLANE_LABELS)})[ _=-]?(\d+)(?![\d.]*\d)", re.IGNORECASE)
MICRO_MANAGER = re.compile(r"(?:^|/)img_\d{9}_[^/]*_(\d{3})\.tiff?$", re.IGNORECASE)
"""What Micro-Manager 1.4 calls them: time point, channel, plane."""
LEAST_DEPTH_STEP = 10
"""Numbers in such steps from 0 are no planes but depths, in nm."""
SHOWN = 3


def files_of_planes(row: SheetRow, names: Mapping[Path, str]) -> Iterator[tuple[str, tuple[Path, ...], str]]:
    """The stacks of a series of single planes.

    Parameters
    ----------
    row
        Of the sample sheet, for messages.
    names
        Every file with its path below the folder that all have in common.

    Yields
    ------
    str, tuple of Path, str
        The name that its files share, the plane's number that of the first of all; the files in order of z;
        which planes are missing, in words, or nothing.

    Raises
    ------
    BadInputError
        If names do not say which plane each file is, with the names that are expected.
    """
    found = {path: _plane_in(name) for path, name in names.items()}
    numbers = {path: int(match[1]) for path, match in found.items() if match is not None}
    if len(numbers) < len(names) or min(numbers.values()) > 1:
        raise _refused(row, names, "")
    least = min(numbers, key=lambda path: numbers[path])
    text = found[least][1]  # type: ignore[index]
    stacks: dict[str, dict[int, Path]] = {}
    for path, match in found.items():
        assert match is not None
        shared = names[path][: match.start(1)] + text + names[path][match.end(1) :]
        planes = stacks.setdefault(shared, {})
        if numbers[path] in planes:
            twice = f", two of them plane {numbers[path]}: {planes[numbers[path]].name} and {path.name}"
            raise _refused(row, names, twice)
        planes[numbers[path]] = path
    usual, _ = Counter(max(planes) for planes in stacks.values()).most_common(1)[0]
    step = math.gcd(*numbers.values())
    step = step if step >= LEAST_DEPTH_STEP else 1
    expected = range(numbers[least], usual + 1, step)
    if len(expected) < 2:
        raise _refused(row, names, ", and not two planes of one stack")
    for shared, planes in stacks.items():
        yield shared, tuple(planes[z] for z in sorted(planes)), _missing(shared, planes, expected)


def _plane_in(name: str) -> re.Match[str] | None:
    """The number of the plane in a name, if there is one, and only one."""
    matches = list(LABELLED.finditer(name)) or list(MICRO_MANAGER.finditer(name))
    return matches[0] if len(matches) == 1 else None


def _missing(name: str, planes: Mapping[int, Path], expected: range) -> str:
    lost = [z for z in expected if z not in planes]
    more = [z for z in sorted(planes) if z not in expected]
    what = [f"no file for plane{'s' if len(lost) > 1 else ''} {ranges(lost)}"] if lost else []
    what += [f"plane {ranges(more)}, which other time points have not"] if more else []
    return f"{starred(name)}: {'; '.join(what)} (of {ranges(expected)})" if what else ""


def starred(name: str) -> str:
    """A glob of all planes of a stack.

    Examples
    --------
    >>> starred("a_t01_z000.tif")
    'a_t01_z*.tif'
    """
    match = _plane_in(name)
    return name if match is None else f"{name[: match.start(1)]}*{name[match.end(1) :]}"


def _refused(row: SheetRow, names: Mapping[Path, str], more: str) -> BadInputError:
    shown = ", ".join(list(names.values())[:SHOWN]) + (", …" if len(names) > SHOWN else "")
    return BadInputError(
        f"movie '{row.movie}' ({row.path})",
        found=f"{len(names)} files of one plane each ({shown}){more}",
        expected="stacks of at least 2 planes: one file per time point, or names with the number of the "
        "plane after z, slice or plane, from 0 or 1, beside that of the time point: a_t000_z000.tif",
        remedy="Name them so, or save each stack as one file (in Fiji: Import > Image Sequence, then Save "
        "As > Tiff).",
    )
