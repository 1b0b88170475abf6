"""Micro-Manager's own lists of planes: ``NDTiff.index`` beside the files, or an index map within each of them
(MMStack). Only they say what a plane is: planes lie in the order in which the camera gave them.

Sources: NDTiff (github.com/micro-manager/NDTiffStorage, BSD) and the Micro-Manager file formats
(micro-manager.org), both as tifffile reads them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tifffile

from spatialdino_core.errors import BadInputError
from spatialdino_core.movies.formats.image import MOST_PLANES

INDEX = "NDTiff.index"
MARK = "_MMStack"
FIRST_WITH_INDEX = 2
"""Version of NDTiff since which there is an index."""
AXES = ("time", "channel", "z")
SIZES = {"time": "Frames", "channel": "Channels", "z": "Slices", "position": "Positions"}
"""Axes, and what the summary calls their lengths."""
Value = int | str


@dataclass(frozen=True)
class Listed:
    """A plane that a list names.

    Attributes
    ----------
    axes
        Time, channel and z; what else there is tells positions apart.
    file
        Where it lies.
    offset
        Of its voxels (NDTiff) or of its directory (MMStack), bytes.
    """

    axes: Mapping[str, Value]
    file: Path
    offset: int


@dataclass(frozen=True)
class StackHeader:
    """What Micro-Manager wrote into a file beside its pages.

    Attributes
    ----------
    path
        The file.
    has_index
        Whether it is an NDTiff, whose index lies beside it.
    summary
        Of the acquisition; the same in all of its files.
    own
        The planes of the file itself; ``None`` where nothing lists them.
    """

    path: Path
    has_index: bool
    summary: Mapping[str, Any]
    own: tuple[Listed, ...] | None

    def announced(self, axis: str) -> int:
        """How long the summary says that an axis is; of an NDTiff only the index counts."""
        size = self.summary.get(SIZES[axis]) if not self.has_index else 0
        return size if isinstance(size, int) else 0

    def files(self) -> list[Path]:
        """Files of its acquisition, as far as names tell: itself, and those beside it."""
        if self.has_index:
            return sorted({listed.file for listed in self.own or ()})
        announced = math.prod(max(1, self.announced(axis)) for axis in SIZES)
        prefix, mark, _ = self.path.name.partition(MARK)
        if not mark or self.own is None or len(self.own) >= announced:
            return [self.path]
        beside = self.path.parent.iterdir()
        ends = (".tif", ".tiff")
        return sorted(f for f in beside if f.name.startswith(prefix + mark) and f.name.lower().endswith(ends))

    def channel_name(self, channel: Value) -> str:
        """By the list, or by the summary where the list has a number."""
        names = self.summary.get("ChNames")
        if isinstance(channel, str):
            return channel
        return str(names[channel]) if isinstance(names, list) and 0 <= channel < len(names) else ""


def stack_header(tif: tifffile.TiffFile, path: Path) -> StackHeader | None:
    """What Micro-Manager wrote into an open file; ``None`` for the file of another program."""
    if not tif.pages.first.is_micromanager:
        return None
    try:
        found = tifffile.read_micromanager_metadata(tif.filehandle, {"Summary", "IndexMap"})
    except ValueError:
        return None
    summary = found.get("Summary", {})
    if found.get("MajorVersion", 0) >= FIRST_WITH_INDEX:
        index = path.with_name(INDEX)
        return StackHeader(path, True, summary, _by_index(index) if index.is_file() else None)
    if "IndexMap" not in found:
        return StackHeader(path, False, summary, None) if summary else None
    own = [
        Listed({"time": int(t), "channel": int(c), "z": int(z), "position": int(p)}, path, int(offset))
        for c, z, t, p, offset in found["IndexMap"]
    ]
    return StackHeader(path, False, summary, tuple(own))


def _by_index(index: Path) -> tuple[Listed, ...]:
    """All planes of an acquisition; one that was taken again counts instead of the one before."""
    found = {
        frozenset(axes.items()): Listed(axes, index.with_name(name), offset)
        for axes, name, offset, *_ in tifffile.read_ndtiff_index(index)
    }
    return tuple(found.values())


def unlisted(header: StackHeader) -> BadInputError:
    """A file without its list."""
    what = f"no {INDEX} beside it" if header.has_index else "no index map in it (it was not finished)"
    remedy = (
        f"Copy {INDEX} from the folder of the acquisition. If it is lost" if header.has_index else "Where"
    )
    return BadInputError(
        header.path,
        found=f"a file of Micro-Manager, and {what}",
        expected="the list that says which plane is which",
        remedy=f"{remedy} and all planes lie one after the other, say in the sample sheet's column 'axes' "
        "what they are, e.g. t4z24yx.",
    )


def positions(listed: Sequence[Listed]) -> dict[str, list[Listed]]:
    """Planes by position: by all axes but time, channel and z.

    Raises
    ------
    BadInputError
        If some planes have other axes than others.
    """
    kinds = {tuple(sorted(one.axes)): one for one in listed}
    if len(kinds) > 1:
        words = "; ".join(", ".join(axes) or "none" for axes in kinds)
        raise BadInputError(
            listed[0].file,
            found=f"planes with different axes in its list: {words}",
            expected="the same axes for all planes of an acquisition",
            remedy="Say in the sample sheet's column 'axes' what the planes of this file are, in the order "
            "in which they were taken, e.g. t4z24yx; or save the stacks as one file for each time point.",
        )
    others = [axis for axis in listed[0].axes if axis not in AXES]
    found: dict[tuple[Value, ...], list[Listed]] = {}
    for one in listed:
        found.setdefault(tuple(one.axes[axis] for axis in others), []).append(one)
    varying = [n for n in range(len(others)) if len({key[n] for key in found}) > 1]
    names = {key: ", ".join(f"{others[n]} {key[n]}" for n in varying) for key in found}
    if len(varying) == 1:
        names = {key: str(key[varying[0]]) for key in found}
    # By number; those that are words in the order in which they were taken.
    return {names[key]: found[key] for key in sorted(found, key=lambda key: [_number(v) for v in key])}


def _number(value: Value) -> int:
    return value if isinstance(value, int) else 0


def along(listed: Sequence[Listed], axis: str, announced: int = 0) -> list[Value]:
    """Every value of an axis: of time and z also those between that were never taken, and those announced."""
    values = list(dict.fromkeys(one.axes.get(axis, 0) for one in listed))
    numbers = [value for value in values if isinstance(value, int)]
    if len(numbers) < len(values):
        return values
    if axis == "channel" and not announced:
        return sorted(numbers)
    first, end = 0 if announced else min(numbers), max(max(numbers) + 1, announced)
    if end - first > MOST_PLANES:
        raise ValueError(f"a list of planes whose {axis} runs from {first} to {end - 1}")
    return list(range(first, end))
