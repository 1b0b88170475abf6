"""What a raw movie looks like to everybody else: one channel as a sequence of frames.

The containers behind it are in ``tiff.py``, ``ome_zarr.py`` and ``czi.py``; ``readers.py`` chooses.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from spatialdino_core.errors import BadInputError

Region = tuple[slice, slice, slice]
WHOLE: Region = (slice(None), slice(None), slice(None))

UM_PER_UNIT = {
    "\N{MICRO SIGN}m": 1.0,
    "\N{GREEK SMALL LETTER MU}m": 1.0,
    "um": 1.0,
    "micrometer": 1.0,
    "micron": 1.0,
    "microns": 1.0,
    "nm": 1e-3,
    "nanometer": 1e-3,
    "mm": 1e3,
    "millimeter": 1e3,
}
S_PER_UNIT = {
    "s": 1.0,
    "sec": 1.0,
    "second": 1.0,
    "ms": 1e-3,
    "msec": 1e-3,
    "millisecond": 1e-3,
    "min": 60.0,
    "minute": 60.0,
}


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
    channels
        Channel names, in order.
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
    channels: tuple[str, ...] = ()
    origin: str = "file metadata"


class FrameSource(Protocol):
    """One channel of a movie as a sequence of frames."""

    @property
    def metadata(self) -> Sequence[FileMetadata]:
        """What the movie's files say of it, the most trusted first."""

    def __len__(self) -> int:
        """Number of time points, missing ones included."""

    def read(self, frame: int, region: Region = WHOLE) -> np.ndarray:
        """Array of shape (z, y, x) in the dtype of the file.

        ``region`` selects a part of the raw stack: slices over z, y, x of step 1. No more of the file is
        decoded than the planes (TIFF, CZI) or chunks (Zarr) that the region touches.
        """

    def describe(self, frame: int) -> tuple[tuple[int, ...], np.dtype[Any]]:
        """Shape (z, y, x) and dtype of a frame, from its headers; raises if the file is damaged."""

    def stamp(self, frame: int) -> str | None:
        """Changes when the frame's file changes; ``None`` for a missing time point."""


def pick_channel(path: Path, count: int, names: Sequence[str], channel: str, position: int) -> int:
    if channel in names:
        return list(names).index(channel)
    if position < count:
        return position
    raise BadInputError(
        path,
        found=f"{count} channels {list(names)}",
        expected=f"channel '{channel}' (row {position + 1} with this path)",
        remedy="Correct 'channel' in the sample sheet, or give the channel a file of its own.",
    )


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
    return positive(value, per_unit[unit]) if unit is not None and unit in per_unit else None


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


def file_stamp(path: Path) -> str:
    """Size in bytes and modification time in ns, as text."""
    status = path.stat()
    return f"{status.st_size}:{status.st_mtime_ns}"
