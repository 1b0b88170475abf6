"""Raw movies in TIFF files: a series with one file per time point, or one file with everything.

Knows OME-TIFF, ImageJ hyperstacks and plain stacks, compressed or not, and recognises a truncated file by its
headers. What lies beside the files is the business of ``settings_file.py``.
"""

from __future__ import annotations

import math
import re
import struct
import xml.etree.ElementTree as ElementTree
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tifffile

from spatialdino_core.errors import BadInputError
from spatialdino_core.movies.settings_file import read_settings, settings_beside, times_in_names
from spatialdino_core.movies.source import (
    S_PER_UNIT,
    UM_PER_UNIT,
    WHOLE,
    FileMetadata,
    Readable,
    Region,
    file_stamp,
    pick_channel,
    positive,
    quantity,
)


class TiffSeries:
    """One TIFF file per time point, ordered by the time point in the name, else naturally.

    A file may hold several channels.
    """

    def __init__(
        self, pattern: str, files: Sequence[Path], time_point: str, channel: str, channel_index: int
    ) -> None:
        self.pattern = pattern
        self._by_frame = _order(pattern, files, time_point)
        first, channels, own = _first_that_opens([path for path in self._by_frame if path is not None])
        beside = read_settings(settings_beside(files))
        self.metadata = (*beside, *times_in_names(self._by_frame), own)
        self._channel = pick_channel(first, channels, own.channels, channel, channel_index)

    def __len__(self) -> int:
        return len(self._by_frame)

    def _path(self, frame: int) -> Path:
        path = self._by_frame[frame]
        if path is None:
            raise BadInputError(
                self.pattern,
                found=f"no file for time point {frame} (counted from the first)",
                expected=f"one file for each of the {len(self)} time points",
                remedy="Restore the file, or set on_bad_frame: skip to record the gap and go on.",
            )
        return path

    def read(self, frame: int, region: Region = WHOLE) -> np.ndarray:
        path = self._path(frame)
        with Readable(path), tifffile.TiffFile(path) as tif:
            _check_complete(tif, path)
            layout = _one_stack(tif, path)
            numbers = layout.numbers(0, self._channel, region)
            offsets = _offsets(tif, layout, numbers)
            if offsets is None:
                return _decoded(tif, layout, numbers, region)
            return _copied(tif.filehandle, layout, offsets, region)

    def describe(self, frame: int) -> tuple[tuple[int, ...], np.dtype[Any]]:
        path = self._path(frame)
        with Readable(path), tifffile.TiffFile(path) as tif:
            _check_complete(tif, path)
            layout = _one_stack(tif, path)
            return layout.shape_zyx, layout.dtype

    def stamp(self, frame: int) -> str | None:
        path = self._by_frame[frame]
        return None if path is None else file_stamp(path)


def _order(pattern: str, files: Sequence[Path], time_point: str) -> list[Path | None]:
    found = [(int(match.group(1)), file) for file in files if (match := re.search(time_point, file.name))]
    if len(found) < len(files):
        return [
            *sorted(files, key=lambda p: [int(s) if s.isdigit() else s for s in re.split(r"(\d+)", p.name)])
        ]
    points: dict[int, Path] = {}
    for point, path in found:
        if point in points:
            raise BadInputError(
                pattern,
                found=f"{points[point].name} and {path.name}, both time point {point}",
                expected="one file per time point",
                remedy="Make the path match one channel and one acquisition only.",
            )
        points[point] = path
    return [points.get(point) for point in range(min(points), max(points) + 1)]


def _first_that_opens(paths: Sequence[Path]) -> tuple[Path, int, FileMetadata]:
    """The first file that is no wreck, its number of channels, and what it says."""
    for path in paths:
        try:
            with Readable(path), tifffile.TiffFile(path) as tif:
                return path, _one_stack(tif, path).count("C"), _tiff_metadata(tif)
        except BadInputError:
            if path == paths[-1]:
                raise
    raise ValueError("no path")


class TiffFile:
    """One TIFF file that holds the whole movie, or a single stack."""

    def __init__(self, path: Path, channel: str, channel_index: int) -> None:
        self.path = path
        with Readable(path), tifffile.TiffFile(path) as tif:
            _check_complete(tif, path)
            self._layout = _layout(tif, path)
            # Known once, because opening a file of ten thousand planes takes longer than reading a frame.
            self._offsets = _offsets(tif, self._layout, range(math.prod(self._layout.counts)))
            own = _tiff_metadata(tif)
        self.metadata = (*read_settings(settings_beside([path])), own)
        channels = self._layout.count("C")
        self._channel = pick_channel(path, channels, own.channels, channel, channel_index)

    def __len__(self) -> int:
        return self._layout.count("T")

    def read(self, frame: int, region: Region = WHOLE) -> np.ndarray:
        numbers = self._layout.numbers(frame, self._channel, region)
        if self._offsets is None:
            with Readable(self.path), tifffile.TiffFile(self.path) as tif:
                return _decoded(tif, self._layout, numbers, region)
        offsets = [self._offsets[number] for number in numbers]
        with Readable(self.path), tifffile.FileHandle(self.path) as file:
            return _copied(file, self._layout, offsets, region)

    def describe(self, frame: int) -> tuple[tuple[int, ...], np.dtype[Any]]:
        return self._layout.shape_zyx, self._layout.dtype

    def stamp(self, frame: int) -> str | None:
        return file_stamp(self.path)


@dataclass(frozen=True)
class _Layout:
    """What the order of the planes in a TIFF file means.

    Attributes
    ----------
    order, counts
        The axes before y and x, slowest first, and their lengths.
    shape_zyx, dtype
        Of the stack of one time point and channel.
    stored
        The dtype in the byte order of the file.
    """

    order: str
    counts: tuple[int, ...]
    shape_zyx: tuple[int, int, int]
    dtype: np.dtype[Any]
    stored: np.dtype[Any]

    def count(self, axis: str) -> int:
        """Length along T, C or Z."""
        return self.counts[self.order.index(axis)] if axis in self.order else 1

    def numbers(self, frame: int, channel: int, region: Region) -> list[int]:
        """Numbers of the planes that a region of a stack touches, counted through the file."""
        return [
            self._number({"T": frame, "C": channel, "Z": plane})
            for plane in range(self.shape_zyx[0])[region[0]]
        ]

    def _number(self, position: dict[str, int]) -> int:
        number = 0
        for axis, count in zip(self.order, self.counts, strict=True):
            number = number * count + position[axis]
        return number


def _layout(tif: tifffile.TiffFile, path: Path, one_stack: bool = False) -> _Layout:
    """Read the layout; with ``one_stack`` a single axis before y and x is z, whatever a program called it."""
    series = tif.series[0]
    axes = series.axes
    if one_stack and len(axes) == 3 and axes[-2:] == "YX":
        axes = "ZYX"
    # Plain stacks carry no axes: tifffile names them Q (unknown), I (pages) or S (planar samples).
    for unknown in "QIS":
        if "Z" not in axes:
            axes = axes[:-2].replace(unknown, "Z", 1) + axes[-2:]
    if axes[-2:] != "YX" or not set(axes) <= set("TCZYX"):
        raise BadInputError(
            path,
            found=f"axes {series.axes} with shape {series.shape}",
            expected="planes in z, y, x, with time and channels at most",
            remedy="Export the movie as an OME-TIFF with axes TCZYX.",
        )
    sizes = dict(zip(axes, map(int, series.shape), strict=True))
    return _Layout(
        order=axes[:-2],
        counts=tuple(sizes[axis] for axis in axes[:-2]),
        shape_zyx=(sizes.get("Z", 1), sizes["Y"], sizes["X"]),
        dtype=series.dtype.newbyteorder("="),
        stored=series.dtype.newbyteorder(tif.byteorder),
    )


def _one_stack(tif: tifffile.TiffFile, path: Path) -> _Layout:
    layout = _layout(tif, path, one_stack=True)
    if layout.count("T") > 1:
        raise BadInputError(
            path,
            found=f"{layout.count('T')} time points in one file of a series",
            expected="one stack (z, y, x) per file, or one file with the whole movie",
            remedy="Make the path match that single file, or export one stack per time point.",
        )
    return layout


def _offsets(tif: tifffile.TiffFile, layout: _Layout, numbers: Sequence[int]) -> list[int] | None:
    """Where the voxels of planes begin in the file; ``None`` if they do not lie there as they are."""
    series = tif.series[0]
    if series.dataoffset is not None:
        plane_bytes = math.prod(layout.shape_zyx[1:]) * layout.dtype.itemsize
        return [series.dataoffset + number * plane_bytes for number in numbers]
    if series.is_multifile or len(series.pages) != math.prod(layout.counts):
        return None
    offsets = []
    for page in (series.pages[number] for number in numbers):
        if page is None or not page.is_final:
            return None
        offsets.append(page.dataoffsets[0])
    return offsets


def _copied(file: tifffile.FileHandle, layout: _Layout, offsets: Sequence[int], region: Region) -> np.ndarray:
    """Part of planes that lie in the file as they are: one read of whole rows each, straight into place."""
    rows = range(layout.shape_zyx[1])[region[1]]
    width = layout.shape_zyx[2]
    planes = np.empty((len(offsets), len(rows), width), layout.dtype)
    skipped = rows.start * width * layout.dtype.itemsize
    for plane, offset in zip(planes, offsets, strict=True):
        file.read_array(layout.stored, plane.size, offset + skipped, out=plane.reshape(-1))
    return np.ascontiguousarray(planes[:, :, region[2]])


def _decoded(tif: tifffile.TiffFile, layout: _Layout, numbers: Sequence[int], region: Region) -> np.ndarray:
    """Part of planes that are compressed, tiled or scattered; no other planes are decoded."""
    shape = (-1, *layout.shape_zyx[1:])
    if not numbers:
        planes = np.empty((0, *shape[1:]), layout.dtype)
    elif len(tif.series[0].pages) == math.prod(layout.counts):
        planes = tif.asarray(key=list(numbers), series=0).reshape(shape)
    else:  # one page for several planes
        planes = tif.series[0].asarray().reshape(shape)[list(numbers)]
    return np.ascontiguousarray(planes[:, region[1], region[2]])


def _check_complete(tif: tifffile.TiffFile, path: Path) -> None:
    size = path.stat().st_size
    planes, end = _extent(tif)
    promised = _promised_planes(tif)
    one_block = tif.series[0].dataoffset
    if one_block is not None:
        end = max(end, one_block + tif.series[0].nbytes)
        planes = max(planes, math.prod(tif.series[0].shape[:-2]))
    if end > size or planes < promised:
        expected = f"at least {end} bytes and {promised or planes} planes"
    elif _more_is_announced(tif):
        expected = "the next plane that the last one announces"
    else:
        return
    raise BadInputError(
        path,
        found=f"{size} bytes and {planes} planes (the file is truncated)",
        expected=expected,
        remedy="Copy it again from the microscope, or set on_bad_frame: skip.",
    )


def _extent(tif: tifffile.TiffFile) -> tuple[int, int]:
    """Number of planes with a directory, and where the last of their data ends, bytes."""
    pages = tif.pages
    # As frames of the first page only the tags that say where the data lie are read: a quarter of the time.
    pages.useframes = True
    pages.set_keyframe(0)
    try:
        end = max(_end(page) for page in pages)
    except RuntimeError:  # a page of another shape is no frame of the first
        pages.useframes = False
        end = max(_end(page) for page in pages)
    pages.useframes = False
    return len(pages), end


def _end(page: tifffile.TiffPage | tifffile.TiffFrame) -> int:
    places = zip(page.dataoffsets, page.databytecounts, strict=True)
    return max((offset + count for offset, count in places), default=0)


def _more_is_announced(tif: tifffile.TiffFile) -> bool:
    """Whether the last plane's directory names a next one, which a complete file never does."""
    last = tif.pages[len(tif.pages) - 1]
    order, big = tif.byteorder, tif.is_bigtiff
    file = tif.filehandle
    file.seek(last.offset)
    tags = struct.unpack(order + ("Q" if big else "H"), file.read(8 if big else 2))[0]
    file.seek(tags * (20 if big else 12), 1)
    link = file.read(8 if big else 4)
    return len(link) < (8 if big else 4) or any(link)


def _promised_planes(tif: tifffile.TiffFile) -> int:
    if tif.is_ome and tif.ome_metadata:
        pixels = _pixels(tif.ome_metadata)
        samples = max(1, tif.pages.first.samplesperpixel)
        return int(pixels["SizeT"]) * int(pixels["SizeZ"]) * int(pixels["SizeC"]) // samples
    if tif.is_imagej and tif.imagej_metadata:
        return int(tif.imagej_metadata.get("images", 0))
    return 0


def _pixels(ome_xml: str) -> dict[str, str]:
    element = ElementTree.fromstring(ome_xml).find(".//{*}Image/{*}Pixels")
    return dict(element.attrib) if element is not None else {}


def _tiff_metadata(tif: tifffile.TiffFile) -> FileMetadata:
    name = Path(tif.filename).name
    if tif.is_ome and tif.ome_metadata:
        return _ome_metadata(tif.ome_metadata, name)
    if tif.is_imagej and tif.imagej_metadata:
        return _imagej_metadata(tif, name)
    return FileMetadata(origin=f"file metadata of {name}")


def _ome_metadata(ome_xml: str, name: str) -> FileMetadata:
    pixels = _pixels(ome_xml)

    def stated(attribute: str, per_unit: dict[str, float], default_unit: str) -> float | None:
        return quantity(pixels.get(attribute), pixels.get(f"{attribute}Unit", default_unit), per_unit)

    channels = ElementTree.fromstring(ome_xml).findall(".//{*}Image/{*}Pixels/{*}Channel")
    return FileMetadata(
        pixel_um=stated("PhysicalSizeX", UM_PER_UNIT, "µm"),
        pixel_y_um=stated("PhysicalSizeY", UM_PER_UNIT, "µm"),
        plane_spacing_um=stated("PhysicalSizeZ", UM_PER_UNIT, "µm"),
        interval_s=stated("TimeIncrement", S_PER_UNIT, "s"),
        channels=tuple(c.attrib.get("Name", "") for c in channels),
        origin=f"OME-XML of {name}",
    )


def _imagej_metadata(tif: tifffile.TiffFile, name: str) -> FileMetadata:
    metadata: Any = tif.imagej_metadata
    um = UM_PER_UNIT.get(str(metadata.get("unit", "")).replace("\\u00B5", "µ"))
    pixels = [positive(um / per_um) if um and per_um else None for per_um in tif.pages.first.get_resolution()]
    return FileMetadata(
        pixel_um=pixels[0],
        pixel_y_um=pixels[1],
        plane_spacing_um=positive(metadata.get("spacing"), um) if um else None,
        interval_s=quantity(metadata.get("finterval"), metadata.get("tunit", "sec"), S_PER_UNIT),
        origin=f"ImageJ metadata of {name}",
    )
