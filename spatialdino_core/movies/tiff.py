"""Raw movies in TIFF files: a series with one file per time point, or one file with everything.

Knows OME-TIFF, ImageJ hyperstacks and plain stacks, and recognises a truncated file by its headers.
"""

from __future__ import annotations

import re
import struct
import xml.etree.ElementTree as ElementTree
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
import zarr

from spatialdino_core.errors import BadInputError
from spatialdino_core.movies.source import (
    S_PER_UNIT,
    UM_PER_UNIT,
    FileMetadata,
    Readable,
    file_stamp,
    pick_channel,
)


@dataclass
class TiffSeries:
    """One TIFF file per time point, ordered by the time point in the name, else naturally."""

    pattern: str
    files: Sequence[Path]
    time_point: str
    metadata: FileMetadata = field(init=False)

    def __post_init__(self) -> None:
        self._by_frame = _order(self.pattern, self.files, self.time_point)
        with tifffile.TiffFile(next(p for p in self._by_frame if p is not None)) as tif:
            self.metadata = _tiff_metadata(tif)

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

    def read(self, frame: int) -> np.ndarray:
        path = self._path(frame)
        with Readable(path), tifffile.TiffFile(path) as tif:
            _check_complete(tif, path)
            return _as_zyx(tif.series[0].asarray(), path)

    def describe(self, frame: int) -> tuple[tuple[int, ...], np.dtype[Any]]:
        path = self._path(frame)
        with Readable(path), tifffile.TiffFile(path) as tif:
            _check_complete(tif, path)
            series = tif.series[0]
            return tuple(n for n in series.shape if n > 1 or len(series.shape) == 3), series.dtype

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


class TiffFile:
    """One TIFF file that holds the whole movie, or a single stack."""

    def __init__(self, path: Path, channel: str, channel_index: int) -> None:
        self.path = path
        with Readable(path), tifffile.TiffFile(path) as tif:
            _check_complete(tif, path)
            series = tif.series[0]
            self._axes, self._shape, self._dtype = series.axes, series.shape, series.dtype
            self.metadata = _tiff_metadata(tif)
        # Plain stacks carry no axes: tifffile names them Q (unknown), I (pages) or S (samples).
        for unknown in "QIS":
            if "Z" not in self._axes:
                self._axes = self._axes.replace(unknown, "Z", 1)
        if not set("ZYX") <= set(self._axes) <= set("TCZYX"):
            raise BadInputError(
                path,
                found=f"axes {series.axes} with shape {series.shape}",
                expected="planes in z, y, x, with time and channels at most",
                remedy="Export the movie as an OME-TIFF with axes TCZYX.",
            )
        self._channel = pick_channel(path, self._axis("C"), self.metadata.channels, channel, channel_index)

    def _axis(self, name: str) -> int:
        return self._shape[self._axes.index(name)] if name in self._axes else 1

    def __len__(self) -> int:
        return self._axis("T")

    def read(self, frame: int) -> np.ndarray:
        index = tuple({"T": frame, "C": self._channel}.get(axis, slice(None)) for axis in self._axes)
        with (
            Readable(self.path),
            tifffile.TiffFile(self.path) as tif,
            tif.series[0].aszarr(level=0) as store,
        ):
            array = zarr.open(store, mode="r")
            planes = np.asarray(array[index])  # type: ignore[index]
        kept = [axis for axis in self._axes if axis not in "TC"]
        return planes.transpose([kept.index(axis) for axis in "ZYX"])

    def describe(self, frame: int) -> tuple[tuple[int, ...], np.dtype[Any]]:
        return tuple(self._axis(axis) for axis in "ZYX"), self._dtype

    def stamp(self, frame: int) -> str | None:
        return file_stamp(self.path)


def _check_complete(tif: tifffile.TiffFile, path: Path) -> None:
    size = path.stat().st_size
    end = max(
        (
            offset + count
            for page in tif.pages
            for offset, count in zip(page.dataoffsets, page.databytecounts, strict=True)
        ),
        default=0,
    )
    promised = _promised_planes(tif)
    if end > size or len(tif.pages) < promised or _more_is_announced(tif):
        raise BadInputError(
            path,
            found=f"{size} bytes and {len(tif.pages)} planes (the file is truncated)",
            expected=f"at least {end} bytes and {promised} planes",
            remedy="Copy it again from the microscope, or set on_bad_frame: skip.",
        )


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
    if not tif.is_ome or not tif.ome_metadata:
        return 0
    pixels = _pixels(tif.ome_metadata)
    samples = max(1, tif.pages.first.samplesperpixel)
    return int(pixels["SizeT"]) * int(pixels["SizeZ"]) * int(pixels["SizeC"]) // samples


def _pixels(ome_xml: str) -> dict[str, str]:
    element = ElementTree.fromstring(ome_xml).find(".//{*}Image/{*}Pixels")
    return dict(element.attrib) if element is not None else {}


def _as_zyx(stack: np.ndarray, path: Path) -> np.ndarray:
    squeezed = stack if stack.ndim == 3 else stack.squeeze()
    if squeezed.ndim != 3:
        raise BadInputError(
            path,
            found=f"an array of shape {stack.shape}",
            expected="one stack (z, y, x) per file",
            remedy="Export one 3D stack per time point and channel.",
        )
    return squeezed


def _tiff_metadata(tif: tifffile.TiffFile) -> FileMetadata:
    name = Path(tif.filename).name
    if tif.is_ome and tif.ome_metadata:
        return _ome_metadata(tif.ome_metadata, name)
    if tif.is_imagej and tif.imagej_metadata:
        return _imagej_metadata(tif, name)
    return FileMetadata(origin=f"file metadata of {name}")


def _ome_metadata(ome_xml: str, name: str) -> FileMetadata:
    pixels = _pixels(ome_xml)

    def quantity(attribute: str, per_unit: dict[str, float], default_unit: str) -> float | None:
        unit = pixels.get(f"{attribute}Unit", default_unit)
        return float(pixels[attribute]) * per_unit[unit] if attribute in pixels and unit in per_unit else None

    x, y = (quantity(f"PhysicalSize{axis}", UM_PER_UNIT, "µm") for axis in "XY")
    if x is not None and y is not None and abs(x - y) > 1e-6 * x:
        raise BadInputError(
            name,
            found=f"pixels of {x} × {y} µm",
            expected="square pixels",
            remedy="Give pixel_um in the sample sheet if the file's metadata is wrong.",
        )
    channels = ElementTree.fromstring(ome_xml).findall(".//{*}Image/{*}Pixels/{*}Channel")
    return FileMetadata(
        pixel_um=x,
        plane_spacing_um=quantity("PhysicalSizeZ", UM_PER_UNIT, "µm"),
        interval_s=quantity("TimeIncrement", S_PER_UNIT, "s"),
        channels=tuple(c.attrib.get("Name", "") for c in channels),
        origin=f"OME-XML of {name}",
    )


def _imagej_metadata(tif: tifffile.TiffFile, name: str) -> FileMetadata:
    metadata: Any = tif.imagej_metadata
    um = UM_PER_UNIT.get(str(metadata.get("unit", "")).replace("\\u00B5", "µ"))
    resolution = tif.pages.first.get_resolution()[0] if um else 0
    return FileMetadata(
        pixel_um=um / resolution if um and resolution else None,
        plane_spacing_um=metadata["spacing"] * um if um and "spacing" in metadata else None,
        interval_s=metadata.get("finterval"),
        origin=f"ImageJ metadata of {name}",
    )
