"""Raw movies in CZI files (ZEISS ZEN), read plane by plane.

Needs the optional extra ``czi`` (the package czifile, BSD-3-Clause), which knows the file's segments; what
the planes and the metadata mean is said here. Mosaics and files with several scenes are refused.
"""

from __future__ import annotations

import importlib
import re
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from types import ModuleType
from typing import Any

import imagecodecs
import numpy as np
import tifffile

from spatialdino_core.errors import BadInputError
from spatialdino_core.movies.source import (
    WHOLE,
    FileMetadata,
    Readable,
    Region,
    file_stamp,
    pick_channel,
    positive,
)

# Compression codes of the CZI format that are used for camera planes.
UNCOMPRESSED, JPEG_XR, ZSTD, ZSTD_WITH_HEADER = 0, 4, 5, 6


class CziMovie:
    """One CZI file: dimensions T, C, Z, Y, X, one scene."""

    def __init__(self, path: Path, channel: str, channel_index: int) -> None:
        self.path = path
        with Readable(path), _czifile(path).CziFile(str(path)) as czi:
            xml = czi.metadata()
            said = ElementTree.fromstring("<none/>" if xml is None else xml)
            entries = [e for e in czi.subblock_directory if not e.pyramid_type]
            if not entries:
                raise ValueError("no image")
            _refuse_scenes(path, entries, said)
            self._planes = _by_position(path, entries)
            self._dtype = np.dtype(entries[0].dtype)
        self._size = path.stat().st_size
        self._counts = {axis: 1 + max(key[n] for key in self._planes) for n, axis in enumerate("TCZ")}
        self._shape_yx = _sizes(next(iter(self._planes.values())))
        self.metadata = (_metadata(said, path.name),)
        names = self.metadata[0].channels
        self._channel = pick_channel(path, self._counts["C"], names, channel, channel_index)

    def __len__(self) -> int:
        return self._counts["T"]

    def read(self, frame: int, region: Region = WHOLE) -> np.ndarray:
        z, y, x = region
        entries = self._stack(frame)[z]
        height, width = (len(range(n)[part]) for n, part in zip(self._shape_yx, (y, x), strict=True))
        stack = np.empty((len(entries), height, width), self._dtype)
        segment = _czifile(self.path).Segment
        with Readable(self.path), tifffile.FileHandle(self.path) as file:
            for plane, entry in zip(stack, entries, strict=True):
                data = segment(file, entry.file_position).data().data(raw=True)
                plane[:] = _decode(data, entry.compression, self._shape_yx, self._dtype)[y, x]
        return stack

    def describe(self, frame: int) -> tuple[tuple[int, ...], np.dtype[Any]]:
        entries = self._stack(frame)
        if any(entry.file_position >= self._size for entry in entries):
            raise BadInputError(
                self.path,
                found=f"{self._size} bytes, which end before the planes of frame {frame} (truncated)",
                expected="a complete file",
                remedy="Copy it again from the microscope, or set on_bad_frame: skip.",
            )
        kinds = {(_sizes(entry), np.dtype(entry.dtype)) for entry in entries}
        if len(kinds) > 1:
            raise BadInputError(
                self.path,
                found=f"planes of {sorted(map(str, kinds))} in frame {frame}",
                expected="planes of one shape and dtype",
                remedy="Export the movie as an OME-TIFF with axes TCZYX.",
            )
        return (len(entries), *self._shape_yx), self._dtype

    def stamp(self, frame: int) -> str | None:
        return file_stamp(self.path)

    def _stack(self, frame: int) -> list[Any]:
        """Directory entries of a frame's planes, in order of z."""
        planes = range(self._counts["Z"])
        missing = [z for z in planes if (frame, self._channel, z) not in self._planes]
        if missing:
            raise BadInputError(
                self.path,
                found=f"{len(planes) - len(missing)} of {len(planes)} planes of frame {frame}",
                expected="every plane",
                remedy="The acquisition was stopped within this frame: set on_bad_frame: skip.",
            )
        return [self._planes[frame, self._channel, z] for z in planes]


def _czifile(path: Path) -> ModuleType:
    """The optional package, imported when the first CZI file is met."""
    try:
        return importlib.import_module("czifile")
    except ImportError:
        raise BadInputError(
            path,
            found="a CZI file, but the package czifile is not installed",
            expected="the optional extra 'czi'",
            remedy="Install it with: pip install 'spatialdino-workflow[czi]'.",
        ) from None


def _starts(entry: Any) -> dict[str, int]:
    return {dimension.dimension: dimension.start for dimension in entry.dimension_entries}


def _sizes(entry: Any) -> tuple[int, int]:
    """Height and width of a plane, voxels."""
    sizes = {dimension.dimension: dimension.size for dimension in entry.dimension_entries}
    return sizes["Y"], sizes["X"]


def _refuse_scenes(path: Path, entries: list[Any], said: ElementTree.Element) -> None:
    scenes = sorted({_starts(entry).get("S", 0) for entry in entries})
    if len(scenes) > 1:
        names = {
            int(scene.attrib.get("Index", number)): scene.attrib.get("Name", "")
            for number, scene in enumerate(said.findall(".//Image/Dimensions/S/Scenes/Scene"))
        }
        listed = ", ".join(f"{scene} '{names.get(scene, '')}'" for scene in scenes)
        raise BadInputError(
            path,
            found=f"{len(scenes)} scenes: {listed}",
            expected="one scene per file",
            remedy="Write the scenes to files of their own (ZEN: Split Scenes), one movie for each.",
        )


def _by_position(path: Path, entries: list[Any]) -> dict[tuple[int, int, int], Any]:
    """Directory entries by (t, c, z), counted from 0."""
    starts = [_starts(entry) for entry in entries]
    first = {axis: min(start.get(axis, 0) for start in starts) for axis in "TCZ"}
    planes: dict[tuple[int, int, int], Any] = {}
    for start, entry in zip(starts, entries, strict=True):
        t, c, z = (start.get(axis, 0) - first[axis] for axis in "TCZ")
        if (t, c, z) in planes:
            raise BadInputError(
                path,
                found=f"several images of time {t}, channel {c}, plane {z} (a mosaic, or views or phases)",
                expected="the dimensions T, C, Z, Y, X only",
                remedy="Stitch or split it, and export it as an OME-TIFF with axes TCZYX.",
            )
        planes[t, c, z] = entry
    return planes


def _decode(data: bytes, compression: int, shape_yx: tuple[int, int], dtype: np.dtype[Any]) -> np.ndarray:
    """Voxels (y, x) of one plane."""
    if compression == JPEG_XR:
        return imagecodecs.jpegxr_decode(data).reshape(shape_yx)
    if compression == ZSTD:
        data = bytes(imagecodecs.zstd_decode(data))
    elif compression == ZSTD_WITH_HEADER:
        data = _zstd_with_header(data, dtype)
    elif compression != UNCOMPRESSED:
        raise ValueError(f"compression {compression} is not supported")
    return np.frombuffer(data, dtype, shape_yx[0] * shape_yx[1]).reshape(shape_yx)


def _zstd_with_header(data: bytes, dtype: np.dtype[Any]) -> bytes:
    """Undo the format's second way of using Zstandard.

    A header tells its own length in its first byte; of length 3 it ends with a bit that says whether the low
    bytes of all voxels come first and then the high bytes.
    """
    length = data[0]
    voxels = imagecodecs.zstd_decode(data[length:])
    if length == 3 and data[2] & 1 and dtype.itemsize == 2:
        return np.frombuffer(voxels, np.uint8).reshape(2, -1).T.tobytes()
    return bytes(voxels)


def _metadata(said: ElementTree.Element, name: str) -> FileMetadata:
    """Voxel size, interval, channels, and the skew of a lattice light-sheet.

    ZEN marks a skewed stack by ``ZAxisShear`` = ``Skew60``: the image planes stand at 60° to the vertical,
    so at 30° to the cover glass; the distance of the planes is then the step of the stage along the cover
    glass, and each plane lies further up the image's y axis than the one before (ZEISS, warpaffine, MIT,
    ``DeskewHelpers::GetTransformationMatrix_Deskew``).
    """
    sizes = {
        distance.attrib.get("Id"): positive(distance.findtext("Value"), 1e6)
        for distance in said.findall(".//Scaling/Items/Distance")
    }
    dimensions = said.find(".//Information/Image/Dimensions")
    if dimensions is None:
        dimensions = ElementTree.Element("Dimensions")
    channels = [c.attrib.get("Name", "") for c in dimensions.findall("Channels/Channel")]
    common: dict[str, Any] = {
        "pixel_um": sizes.get("X"),
        "pixel_y_um": sizes.get("Y"),
        "interval_s": positive(dimensions.findtext("T/Positions/Interval/Increment")),
        "channels": tuple(channels),
        "origin": f"CZI metadata of {name}",
    }
    skew = re.fullmatch(r"Skew(\d+)", dimensions.findtext("Z/ZAxisShear", "").strip())
    if skew is None or not 0 < int(skew[1]) < 90:
        return FileMetadata(plane_spacing_um=sizes.get("Z"), **common)
    return FileMetadata(
        step_um=sizes.get("Z"),
        scan="stage",
        angle_deg=90.0 - int(skew[1]),
        skew_axis="y",
        scan_sign=1,
        **common,
    )
