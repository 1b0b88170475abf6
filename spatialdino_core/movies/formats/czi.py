"""Raw movies in CZI files (ZEISS ZEN), read plane by plane.

Needs the optional extra ``czi`` (the package czifile, BSD-3-Clause), which knows the file's segments; what
the planes and the metadata mean is said here. Mosaics are refused.
"""

from __future__ import annotations

import importlib
import itertools
import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Sequence
from glob import escape
from pathlib import Path
from types import ModuleType
from typing import Any

import imagecodecs
import numpy as np
import tifffile

from spatialdino_core.errors import BadInputError
from spatialdino_core.movies.formats.image import (
    WHOLE,
    FileMetadata,
    Image,
    Piece,
    Place,
    Readable,
    Region,
    check_announced,
    opening,
    positive,
    ranges,
)
from spatialdino_core.movies.names import natural

# Compression codes of the CZI format that are used for camera planes.
UNCOMPRESSED, JPEG_XR, ZSTD, ZSTD_WITH_HEADER = 0, 4, 5, 6
# Segments to which the head of a file points.
DIRECTORY, METADATA, ATTACHMENTS = "ZISRAWDIRECTORY", "ZISRAWMETADATA", "ZISRAWATTDIR"


def images_of(path: Path) -> list[Image]:
    """The scenes of a CZI file, each an image with dimensions T, C, Z, Y, X."""
    with opening(path), _opened(path) as czi:
        _refuse_parts(path, czi)
        metadata = _segment(path, czi, METADATA, czi.header.metadata_position)
        said = ElementTree.fromstring("<none/>" if metadata is None else _text(path, metadata))
        scenes = _scenes(path, czi)
        if not scenes:
            raise ValueError("no image")
        names = _scene_names(said)
        stamps = _time_stamps(path, czi)
        return [
            _image(
                path,
                said,
                scene,
                names.get(scene, "" if len(scenes) == 1 else str(scene)),
                entries,
                stamps,
            )
            for scene, entries in sorted(scenes.items())
        ]


def _image(
    path: Path,
    said: ElementTree.Element,
    scene: int,
    name: str,
    entries: list[Any],
    stamps: Sequence[float],
) -> Image:
    planes = _by_position(path, entries)
    size = path.stat().st_size
    times, channels, depth = (1 + max(key[n] for key in planes) for n in range(3))
    check_announced(path, times, channels, depth)
    form = (_sizes(entries[0]), np.dtype(entries[0].dtype))
    stacks: dict[Place, tuple[Piece, ...]] = {}
    faults: dict[Place, str] = {}
    for place in itertools.product(range(times), range(channels)):
        lost = [z for z in range(depth) if (*place, z) not in planes]
        own = [planes[*place, z] for z in range(depth) if z not in lost]
        if lost:
            faults[place] = _lost(path, lost, depth, place, times)
        elif any(entry.file_position >= size for entry in own):
            faults[place] = f"{size} bytes, which end before the planes of time {place[0]} (truncated)"
        elif any((_sizes(entry), np.dtype(entry.dtype)) != form for entry in own):
            faults[place] = f"planes of different shape or dtype at time {place[0]}"
        else:
            stacks[place] = (Piece(path, f"s={scene} t={place[0]} c={place[1]}", depth),)
    metadata, names = _metadata(said, path.name)
    return Image(
        name=name,
        times=times,
        channels=channels,
        channel_names=names,
        shape_zyx=(depth, *form[0]),
        dtype=form[1],
        stacks=stacks,
        faults=faults,
        clock_s=({place: stamps[place[0]] for place in stacks} if len(stamps) == times else {}),
        metadata=metadata,
    )


def _lost(path: Path, lost: Sequence[int], depth: int, place: Place, times: int) -> str:
    """What is missing of a stack, and whether it looks as if the acquisition was stopped."""
    time, channel = place
    stopped = time == times - 1 and list(lost) == list(range(depth - len(lost), depth))
    why = "the acquisition was stopped here" if stopped else "the file has no such images"
    which = f"plane {ranges(lost)} of channel {channel}" if len(lost) < depth else f"all of channel {channel}"
    return f"{path.name}: {depth - len(lost)} of {depth} planes of time {time}; {which} missing ({why})"


class CziReader:
    """Reads stacks of one file by scene, time and channel."""

    def __init__(self, path: Path) -> None:
        self.path = path
        with opening(path), _opened(path) as czi:
            scenes = _scenes(path, czi).items()
            self._scenes = {scene: _by_position(path, entries) for scene, entries in scenes}

    def read(self, where: str, region: Region = WHOLE) -> np.ndarray:
        z, y, x = region
        scene, t, c = (int(part.partition("=")[2]) for part in where.split())
        planes = self._scenes[scene]
        depth = 1 + max(key[2] for key in planes)
        entries = [planes[t, c, number] for number in range(depth)[z]]
        shape_yx = _sizes(next(iter(planes.values())))
        dtype = np.dtype(next(iter(planes.values())).dtype)
        height, width = (len(range(n)[part]) for n, part in zip(shape_yx, (y, x), strict=True))
        stack = np.empty((len(entries), height, width), dtype)
        segment = _czifile(self.path).Segment
        with Readable(self.path), tifffile.FileHandle(self.path) as file:
            for plane, entry in zip(stack, entries, strict=True):
                block = segment(file, entry.file_position).data()
                if not 0 <= block.data_size <= file.size:
                    raise ValueError(f"{block.data_size} bytes of a plane, in a file of {file.size}")
                plane[:] = _decode(block.data(raw=True), entry.compression, shape_yx, dtype)[y, x]
        return stack


def _opened(path: Path) -> Any:
    """The file itself, also where it is a part of another."""
    return _czifile(path).CziFile(str(path), multifile=False)


def _refuse_parts(path: Path, czi: Any) -> None:
    """Refuse a file that ZEN split (``a.czi``, ``a(1).czi``): planes would be left out, or read from the
    wrong part."""
    directory = _segment(path, czi, DIRECTORY, czi.header.directory_position)
    elsewhere = sum(entry.file_part != 0 for entry in directory.entries) if directory is not None else 0
    beside = path.parent.glob(f"{escape(path.stem)}([0-9]*){path.suffix}")
    parts = sorted((file.name for file in beside if _is_part_of(file, czi.header.file_guid)), key=natural)
    if czi.header.file_part:
        found = f"part {czi.header.file_part} of a movie that was split over several CZI files"
    elif parts:
        found = f"a CZI file of which parts lie beside it: {', '.join(parts)}"
    elif elsewhere:
        found = f"{elsewhere} of {len(directory.entries)} planes in other files, of a CZI file that was split"
    else:
        return
    raise BadInputError(
        path,
        found=found,
        expected="the whole movie in one CZI file",
        remedy="Open it in ZEN and save it as one file, or export it as an OME-TIFF with axes TCZYX.",
    )


def _is_part_of(path: Path, whole: Any) -> bool:
    """Whether a CZI file says that it is a part of one with this identifier."""
    with opening(path), _opened(path) as czi:
        header = czi.header
        return bool(header.file_part) or whole == header.primary_file_guid != header.file_guid


def _segment(path: Path, czi: Any, kind: str, position: int) -> Any:
    """What a segment of the file holds; ``None`` where the file's head points to no such segment.

    The package would then look through the file from segment to segment, in circles if one is damaged.
    """
    if not 0 < position < path.stat().st_size:
        return None
    found = _czifile(path).Segment(czi._fh, position)
    return found.data() if found.sid == kind else None


def _text(path: Path, metadata: Any) -> str:
    size = path.stat().st_size
    if not 0 <= metadata.xml_size <= size:
        raise ValueError(f"{metadata.xml_size} bytes of metadata, in a file of {size}")
    return str(metadata.data(raw=True))


def _scenes(path: Path, czi: Any) -> dict[int, list[Any]]:
    """Directory entries of each scene, pyramid levels left out."""
    scenes: dict[int, list[Any]] = {}
    directory = _segment(path, czi, DIRECTORY, czi.header.directory_position)
    if directory is None:
        raise ValueError("no directory of its images: the file was not finished, or is damaged")
    for entry in directory.entries:
        if not entry.pyramid_type:
            scenes.setdefault(_starts(entry).get("S", 0), []).append(entry)
    return scenes


def _scene_names(said: ElementTree.Element) -> dict[int, str]:
    return {
        int(scene.attrib.get("Index", number)): scene.attrib.get("Name", "")
        for number, scene in enumerate(said.findall(".//Image/Dimensions/S/Scenes/Scene"))
    }


def _time_stamps(path: Path, czi: Any) -> list[float]:
    """Seconds from the start of the acquisition, one for each time point where ZEN kept them."""
    directory = _segment(path, czi, ATTACHMENTS, czi.header.attachment_directory_position)
    for entry in directory.entries if directory is not None else ():
        if entry.name == "TimeStamps":
            return [float(second) for second in entry.data_segment().data()]
    return []


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


def _by_position(path: Path, entries: list[Any]) -> dict[tuple[int, int, int], Any]:
    """Directory entries by (t, c, z), counted from 0."""
    starts = [_starts(entry) for entry in entries]
    # Channels keep their numbers, which those of the names are: one may have recorded nothing.
    first = {axis: min(start.get(axis, 0) for start in starts) for axis in "TZ"} | {"C": 0}
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


def _metadata(said: ElementTree.Element, name: str) -> tuple[FileMetadata, tuple[str, ...]]:
    """Voxel size, interval and the skew of a lattice light-sheet; names of the channels.

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
    channels = tuple(c.attrib.get("Name", "") for c in dimensions.findall("Channels/Channel"))
    common: dict[str, Any] = {
        "pixel_um": sizes.get("X"),
        "pixel_y_um": sizes.get("Y"),
        "interval_s": positive(dimensions.findtext("T/Positions/Interval/Increment")),
        "origin": f"CZI metadata of {name}",
    }
    skew = re.fullmatch(r"Skew(\d+)", dimensions.findtext("Z/ZAxisShear", "").strip())
    if skew is None or not 0 < int(skew[1]) < 90:
        return FileMetadata(plane_spacing_um=sizes.get("Z"), **common), channels
    skewed = FileMetadata(
        step_um=sizes.get("Z"),
        scan="stage",
        angle_deg=90.0 - int(skew[1]),
        skew_axis="y",
        scan_sign=1,
        **common,
    )
    return skewed, channels
