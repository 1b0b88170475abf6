"""Raw movies of tests: registered as the workflow does it, and read by the table that comes out."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tifffile

from spatialdino_core.movies.acquisition import AcquisitionTable
from spatialdino_core.movies.parameters import ReadingParameters
from spatialdino_core.movies.record import MovieRecord
from spatialdino_core.movies.register import BadFramePolicy, register_movie
from spatialdino_core.movies.sheet import SheetRow
from spatialdino_core.movies.source import FrameSource, open_channels

SHAPE = (5, 8, 9)


def sheet_row(path: Path | str, **changes: object) -> SheetRow:
    """A row that leaves nothing open but the files."""
    values = dict(movie="a", channel="488nm", path=str(path), scan="stage", angle_deg=31.5, step_um=0.4)
    values |= dict(pixel_um=0.104, interval_s=2.0, skew_axis="x", scan_sign=1, train="no")
    return SheetRow(**(values | changes))  # type: ignore[arg-type]


def table_of(
    rows: Sequence[SheetRow], policy: BadFramePolicy = "fail", **reading: object
) -> tuple[MovieRecord, AcquisitionTable]:
    return register_movie(rows, ReadingParameters(**reading), policy)  # type: ignore[arg-type]


def registered(rows: Sequence[SheetRow], policy: BadFramePolicy = "fail", **reading: object) -> MovieRecord:
    return table_of(rows, policy, **reading)[0]


def problem(rows: Sequence[SheetRow], policy: BadFramePolicy = "fail", **reading: object) -> str:
    return registered(rows, policy, **reading).problem or "none"


def sources(
    rows: Sequence[SheetRow], policy: BadFramePolicy = "skip", **reading: object
) -> list[FrameSource]:
    """The channels as later stages read them: through the table on disk."""
    record, table = table_of(rows, policy, **reading)
    assert record.problem is None, record.problem
    return open_channels(record.movie, table)


def movie(frames: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(90, 4000, (frames, *SHAPE)).astype(np.uint16)


def row(path: Path | str, **changes: object) -> Any:
    return sheet_row(path, **({"scan": "none", "angle_deg": None, "skew_axis": None} | changes))


def frames_of(rows: Sequence[Any], policy: str = "skip") -> list[np.ndarray | None]:
    """Frames of the first channel as later stages read them; ``None`` for those left out."""
    record, table = table_of(rows, policy)  # type: ignore[arg-type]
    assert record.problem is None, record.problem
    source = sources(rows)[0]
    return [None if f in record.skipped else source.read(f) for f in range(table.frames)]


def assert_is(found: Sequence[np.ndarray | None], expected: np.ndarray) -> None:
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        assert one is not None
        np.testing.assert_array_equal(one, other)


def write_ome(path: Path, planes: np.ndarray, images: str, uuid: str = "urn:uuid:own") -> None:
    """An OME-TIFF with one plane (y, x) per page, whatever its XML says of them."""
    schema = "http://www.openmicroscopy.org/Schemas/OME/2016-06"
    xml = f'<?xml version="1.0" encoding="UTF-8"?><OME xmlns="{schema}" UUID="{uuid}">{images}</OME>'
    pages = planes.reshape(-1, *planes.shape[-2:])
    tifffile.imwrite(path, pages, description=xml.encode(), photometric="minisblack", metadata=None)


def ome_image(
    name: str, times: int, data: str = "<TiffData/>", planes: str = "", before: str = "", z: int = SHAPE[0]
) -> str:
    """``Image`` of one channel, of stacks of the usual shape."""
    sizes = f'SizeX="{SHAPE[2]}" SizeY="{SHAPE[1]}" SizeZ="{z}" SizeC="1" SizeT="{times}"'
    return (
        f'<Image ID="Image:{name}" Name="{name}">{before}<Pixels ID="Pixels:{name}" DimensionOrder="XYZCT" '
        f'Type="uint16" {sizes}>{data}{planes}</Pixels></Image>'
    )


def in_file(name: str, uuid: str, **first: int) -> str:
    """``TiffData`` of a whole stack in a file: what Bio-Formats writes."""
    attributes = " ".join(f'{key}="{value}"' for key, value in ({"IFD": 0} | first).items())
    return f'<TiffData {attributes} PlaneCount="{SHAPE[0]}"><UUID FileName="{name}">{uuid}</UUID></TiffData>'


NDTIFF, MM_INDEX, MM_INDEX_MAP, MM_SUMMARY = 483729, 54773648, 3453623, 2355492
"""Numbers by which Micro-Manager marks what it writes into its files."""

NOTHING_SAID = b"{      }"
"""Metadata of a plane, 8 bytes."""


def write_ndtiff(
    folder: Path, planes: Sequence[tuple[Mapping[str, int | str], np.ndarray]], per_file: int = 1000
) -> list[Path]:
    """An acquisition as Micro-Manager writes it: files of so many planes, and ``NDTiff.index``."""
    folder.mkdir(parents=True, exist_ok=True)
    index, files = b"", []
    for number, first in enumerate(range(0, len(planes), per_file)):
        name = f"acq_NDTiffStack{f'_{number}' if number else ''}.tif"
        own = planes[first : first + per_file]
        head = struct.pack("<IIIII", NDTIFF, 3, 3, MM_SUMMARY, 2) + b"{}"
        _, voxels = _write_pages(folder / name, head, [plane for _, plane in own])
        for (axes, plane), offset in zip(own, voxels, strict=True):
            words = json.dumps(axes).encode()
            index += struct.pack("<I", len(words)) + words + struct.pack("<I", len(name)) + name.encode()
            index += struct.pack("<IiiiiIii", offset, plane.shape[1], plane.shape[0], 1, 0, 0, 0, 0)
        files.append(folder / name)
    (folder / "NDTiff.index").write_bytes(index)
    return files


def write_mm_stack(
    path: Path,
    planes: Sequence[tuple[tuple[int, int, int, int], np.ndarray]],
    finished: bool = True,
    **summary: object,
) -> None:
    """A file of Micro-Manager without OME-XML; each plane with its channel, z, time and position."""
    said = json.dumps({"MicroManagerVersion": "2.0.0"} | summary).encode()
    head = struct.pack("<IIIIIIII", MM_INDEX, 0, 0, 0, 0, 0, MM_SUMMARY, len(said)) + said
    directories, _ = _write_pages(path, head, [plane for _, plane in planes])
    if finished:
        content = bytearray(path.read_bytes())
        struct.pack_into("<I", content, 12, len(content))
        content += struct.pack("<II", MM_INDEX_MAP, len(planes))
        for (place, _), offset in zip(planes, directories, strict=True):
            content += struct.pack("<5I", *place, offset)
        path.write_bytes(content)


def _write_pages(path: Path, head: bytes, planes: Sequence[np.ndarray]) -> tuple[list[int], list[int]]:
    """A TIFF with something between its header and its pages; where directories and voxels begin."""
    content = bytearray(struct.pack("<2sHI", b"II", 42, 0) + head)
    link, directories, voxels = 4, [], []
    for plane in planes:
        content += bytes(len(content) % 2)
        directories.append(len(content))
        tags = {256: (4, plane.shape[1]), 257: (4, plane.shape[0]), 258: (3, 16), 259: (3, 1), 262: (3, 1)}
        start = len(content) + 2 + 12 * 10 + 4
        tags |= {273: (4, start), 277: (3, 1), 278: (4, plane.shape[0]), 279: (4, plane.nbytes)}
        tags |= {51123: (2, start + plane.nbytes)}
        struct.pack_into("<I", content, link, len(content))
        link = start - 4
        content += struct.pack("<H", len(tags))
        for tag, (kind, value) in tags.items():
            content += struct.pack("<HHII", tag, kind, len(NOTHING_SAID) if tag == 51123 else 1, value)
        voxels.append(start)
        content += bytes(4) + plane.astype("<u2").tobytes() + NOTHING_SAID
    path.write_bytes(content)
    return directories, voxels
