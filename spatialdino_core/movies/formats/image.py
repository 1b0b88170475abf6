"""What a file of a raw movie holds, in terms that all formats share. Opens no file."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from spatialdino_core.errors import BadInputError
from spatialdino_core.time_limit import TimeIsUp, time_limit

OPENING_S = 600.0
"""Time that the headers of a file may take to read, s: far more than on the slowest of network disks."""
BYTES_PER_S = 1e7
"""For so many bytes of a file another second is granted: headers of large files are spread over them."""
MOST_STACKS, MOST_PLANES = 100_000, 10_000_000
"""Stacks and planes that one image may announce: more are a damaged header."""
MOST_COMPRESSION = 100_000
"""Bytes of voxels that no compression makes of one byte."""
Region = tuple[slice, slice, slice]
WHOLE: Region = (slice(None), slice(None), slice(None))
MARKS = (".zgroup", ".zarray", "zarr.json")
"""Files any of which makes a folder a Zarr store."""
Place = tuple[int, int]
"""Time point and channel, counted from 0 within an image."""

UM_PER_UNIT: Mapping[str, float] = {
    "m": 1e6,
    "meter": 1e6,
    "cm": 1e4,
    "centimeter": 1e4,
    "mm": 1e3,
    "millimeter": 1e3,
    "inch": 25400.0,
    "in": 25400.0,
    "\N{MICRO SIGN}m": 1.0,
    "\N{GREEK SMALL LETTER MU}m": 1.0,
    "um": 1.0,
    "micrometer": 1.0,
    "micrometre": 1.0,
    "micron": 1.0,
    "microns": 1.0,
    "nm": 1e-3,
    "nanometer": 1e-3,
    "nanometre": 1e-3,
    "\N{LATIN CAPITAL LETTER A WITH RING ABOVE}": 1e-4,
    "angstrom": 1e-4,
}
S_PER_UNIT: Mapping[str, float] = {
    "s": 1.0,
    "sec": 1.0,
    "secs": 1.0,
    "second": 1.0,
    "seconds": 1.0,
    "ms": 1e-3,
    "msec": 1e-3,
    "millisecond": 1e-3,
    "\N{MICRO SIGN}s": 1e-6,
    "us": 1e-6,
    "microsecond": 1e-6,
    "min": 60.0,
    "minute": 60.0,
    "minutes": 60.0,
    "h": 3600.0,
    "hr": 3600.0,
    "hour": 3600.0,
}

LEAST_WORD = 3
"""Letters of the shortest unit that is written as a word."""


@dataclass(frozen=True)
class FileMetadata:
    """What one file says of a movie; ``None`` where it says nothing.

    Attributes
    ----------
    pixel_um
        Pixel size in the image plane, along x, µm.
    pixel_y_um
        Pixel size along y, µm, where the file states it separately.
    plane_spacing_um
        Distance between planes, µm. For a skewed stack this is ambiguous (stage step or distance
        along the optical axis), so it is never taken for a stage step.
    step_um
        Distance that the stage moves between planes, µm, where the file says unambiguously that it is one.
    interval_s
        Time between frames, s.
    scan, angle_deg, skew_axis, scan_sign
        How the stack was scanned, in the sample sheet's terms.
    origin
        Where this was read, for the record.
    """

    pixel_um: float | None = None
    pixel_y_um: float | None = None
    plane_spacing_um: float | None = None
    step_um: float | None = None
    interval_s: float | None = None
    scan: str | None = None
    angle_deg: float | None = None
    skew_axis: str | None = None
    scan_sign: int | None = None
    origin: str = "file metadata"


@dataclass(frozen=True)
class Piece:
    """Planes of one stack that lie in one file.

    Attributes
    ----------
    file
        TIFF or CZI file, or Zarr store.
    where
        Which of its planes, in the words of its format.
    planes
        How many.
    """

    file: Path
    where: str
    planes: int


@dataclass(frozen=True, kw_only=True)
class Image:
    """One position of the sample: everything of it that a file, or a set of files, holds.

    Attributes
    ----------
    name
        As the file calls it; empty where it has none.
    times, channels
        Numbers of time points and channels, those announced but missing included.
    channel_names
        In order; empty, or empty strings, where the file names none.
    shape_zyx, dtype
        Of a stack.
    stacks
        Where the planes of each stack are, in order of z; not there if it is not whole.
    faults
        Why a stack is not whole.
    absent
        Those of which nothing is there: announced, and never recorded.
    clock_s
        When stacks were taken, s from an origin that all share, where the file says.
    took_s
        How long these took, from their first plane to the last, s.
    started
        Date and time that the file states, for which its clock may be 0; empty where it states none.
    metadata
        What it says of sizes and times.
    axes
        Those of a TIFF file that holds it, as the column ``axes`` of the sheet is written (``t4z24yx``);
        empty where several files or another format do.
    """

    name: str
    times: int
    channels: int
    channel_names: tuple[str, ...]
    shape_zyx: tuple[int, int, int]
    dtype: np.dtype[Any]
    stacks: Mapping[Place, tuple[Piece, ...]]
    faults: Mapping[Place, str] = field(default_factory=dict)
    absent: frozenset[Place] = frozenset()
    clock_s: Mapping[Place, float] = field(default_factory=dict)
    took_s: Mapping[Place, float] = field(default_factory=dict)
    started: str = ""
    metadata: FileMetadata = field(default_factory=FileMetadata)
    axes: str = ""


class Reader(Protocol):
    """Reads planes of one file."""

    def read(self, where: str, region: Region = WHOLE) -> np.ndarray:
        """Part of the planes that ``Piece.where`` names: an array (z, y, x) in native byte order.

        No more of the file is decoded than the planes or chunks that the region touches.
        """


def positive(value: object, unit: float = 1.0) -> float | None:
    """``value`` times ``unit`` if it is a positive, finite number, else ``None``.

    Zero is what many programs write where they do not know.
    """
    try:
        number = float(value) * unit  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return None
    return number if math.isfinite(number) and number > 0 else None


def quantity(value: object, unit: str | None, per_unit: Mapping[str, float]) -> float | None:
    """A stated number in µm or s; ``None`` where it is not positive or its unit is not known."""
    if unit is None:
        return None
    # A word means the same in capitals; a letter may not (mm and Mm).
    known = unit if unit in per_unit or len(unit) < LEAST_WORD else unit.casefold()
    return positive(value, per_unit[known]) if known in per_unit else None


class Readable:
    """Context that turns whatever a reader raises on a damaged file into one message with its name."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        if isinstance(error, Exception) and not isinstance(error, BadInputError):
            raise BadInputError(
                self.path,
                found=f"a file that cannot be read ({type(error).__name__}: {error})",
                expected="a complete TIFF file, CZI file or OME-Zarr store",
                remedy="Copy it again from the microscope, or set on_bad_frame: skip.",
            ) from error


@contextmanager
def opening(path: Path) -> Iterator[None]:
    """Context for headers: `Readable`, `in_time`."""
    with in_time(path), Readable(path):
        yield


@contextmanager
def in_time(path: Path) -> Iterator[None]:
    """Context that ends the reading of headers that takes for ever, with one message that names the file."""
    seconds = OPENING_S + (path.stat().st_size / BYTES_PER_S if path.is_file() else 0)
    try:
        with time_limit(seconds):
            yield
    except TimeIsUp:
        raise BadInputError(
            path,
            found=f"headers that were not read within {seconds:.0f} s",
            expected="a complete TIFF file, CZI file or OME-Zarr store, on a disk that answers",
            remedy="Look whether the disk answers; if it does, the file is damaged: copy it again from the "
            "microscope.",
        ) from None


def check_announced(path: Path, times: int, channels: int, depth: int) -> None:
    """Refuse numbers of time points, channels and planes that no acquisition has.

    Raises
    ------
    BadInputError
        For more than `MOST_STACKS` stacks or `MOST_PLANES` planes.
    """
    if times * channels > MOST_STACKS or times * channels * depth > MOST_PLANES:
        raise BadInputError(
            path,
            found=f"{times} time points of {channels} channels of {depth} planes announced",
            expected=f"at most {MOST_STACKS} stacks and {MOST_PLANES} planes",
            remedy="The header is damaged: copy the file again from the microscope.",
        )


def file_stamp(path: Path) -> str:
    """Size in bytes and modification time in ns, as text."""
    status = path.stat()
    return f"{status.st_size}:{status.st_mtime_ns}"


def ranges(numbers: Sequence[int]) -> str:
    """Numbers as text: first-last, with a step where it is not 1, several parts between commas.

    Examples
    --------
    >>> ranges([0, 1, 2, 3]), ranges([0, 2, 4]), ranges([5]), ranges([0, 1, 7])
    ('0-3', '0-4:2', '5', '0-1,7')
    """
    parts = []
    start = 0
    while start < len(numbers):
        step = numbers[start + 1] - numbers[start] if start + 1 < len(numbers) else 1
        end = start + 1
        while end < len(numbers) and step > 0 and numbers[end] - numbers[end - 1] == step:
            end += 1
        if end == start + 2 and step != 1:  # two numbers make no step
            end = start + 1
        first, last = numbers[start], numbers[end - 1]
        shown = str(first) if first == last else f"{first}-{last}"
        parts.append(shown if step == 1 or first == last else f"{shown}:{step}")
        start = end
    return ",".join(parts)


def numbers_of(text: str) -> list[int]:
    """What `ranges` wrote.

    Examples
    --------
    >>> numbers_of("0-4:2,7")
    [0, 2, 4, 7]
    """
    numbers: list[int] = []
    for part in text.split(","):
        span, _, step = part.partition(":")
        first, _, last = span.partition("-")
        numbers += range(int(first), int(last or first) + 1, int(step or 1))
    return numbers
