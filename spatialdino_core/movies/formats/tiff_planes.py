"""The planes of one TIFF file, in the order in which they are stored: where they lie, whether they are there.

What the planes mean (time, channel, z) is not known here.
"""

from __future__ import annotations

import math
import struct
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tifffile

from spatialdino_core.errors import BadInputError
from spatialdino_core.movies.formats.image import (
    MOST_COMPRESSION,
    WHOLE,
    Readable,
    Region,
    numbers_of,
    opening,
)
from spatialdino_core.movies.formats.tiff_bits import UNCOMPRESSED, check_bits, in_whole_numbers

SIGN_BIT = 32768
CONTIGUOUS = 1  # PlanarConfiguration: red, green and blue of a pixel beside each other
MOST_ANNOUNCED = 1000
"""So many times the planes that a file can hold may be announced: an acquisition may be stopped early."""
FORM_TAGS = (256, 257, 258, 259, 266, 277, 278, 284, 317, 322, 323, 339, 32997)
"""Tags that say the shape of a page's planes, and how they are coded."""
MOST_TAGS = 4096
NOWHERE = 2**63
"""Place of data that are nowhere in a file, bytes."""
Form = tuple[tuple[int, ...], str]
Page = tuple[Form, bool, tuple[int, int], int]
"""Shape and dtype; whether its voxels lie there as they are; their first and last byte; its directory's."""


@dataclass(frozen=True)
class Planes:
    """Layout of a file.

    Attributes
    ----------
    shape_yx, dtype
        Of the planes that count; dtype in native byte order.
    stored
        The dtype in the byte order of the file.
    per_page
        Planes in one directory (page): 1 but for whole stacks in one block, and colours.
    offsets
        Where the voxels of each plane begin; ``None`` if any of them do not lie there as they are.
    ends
        Where the data of each plane end, bytes.
    directories
        Where the directory of each page begins, bytes.
    alike
        Whether each plane has this shape and dtype.
    size
        Of the file, bytes.
    open_ended
        Whether the last directory announces another one, which a complete file never does.
    signed
        Whether the counts are stored plus 32,768, as ImageJ does with signed ones.
    """

    shape_yx: tuple[int, int]
    dtype: np.dtype[Any]
    stored: np.dtype[Any]
    per_page: int
    offsets: list[int] | None
    ends: list[int]
    directories: list[int]
    alike: list[bool]
    size: int
    open_ended: bool
    signed: bool = False

    @property
    def dtype_of_values(self) -> np.dtype[Any]:
        """Of the counts that are read."""
        return np.dtype(np.int16) if self.signed else self.dtype

    def fault(self, numbers: Sequence[int]) -> str | None:
        """Why planes cannot be read; ``None`` if all of them are there."""
        present = sum(number < len(self.ends) and self.ends[number] <= self.size for number in numbers)
        if present < len(numbers):
            return f"{present} of {len(numbers)} planes (the file is truncated, or was not finished)"
        if not all(self.alike[number] for number in numbers):
            return "pages of another shape or type among the planes"
        return None


def directories_alike(tif: tifffile.TiffFile) -> bool:
    """Whether the directories of all pages say the same of the shape and the coding of their planes.

    Raises
    ------
    ValueError
        If they lead back to one before: tifffile sees this of the first hundred only, and else goes round for
        hours.
    """
    file, order, big = tif.filehandle, tif.byteorder, tif.is_bigtiff
    count, link, size = (order + "Q", order + "Q", 20) if big else (order + "H", order + "I", 12)
    codes = {struct.pack(order + "H", code) for code in FORM_TAGS}
    seen: set[int] = set()
    forms: set[tuple[bytes, ...]] = set()
    places: dict[int, list[slice]] = {}
    file.seek(8 if big else 4)
    while offset := _number(file, link):
        if offset in seen:
            raise ValueError(f"directories of pages that go round in a circle, at byte {offset}")
        seen.add(offset)
        file.seek(offset)
        tags = _number(file, count)
        entries = file.read(min(tags, MOST_TAGS) * size)
        if tags not in places:  # programs write the same tags for each page, but for the first
            places[tags] = [
                slice(k, k + size) for k in range(0, len(entries), size) if entries[k : k + 2] in codes
            ]
        forms.add(tuple(entries[place] for place in places[tags]))
        file.seek(offset + struct.calcsize(count) + tags * size)
    return len(forms) < 2


def _number(file: tifffile.FileHandle, form: str) -> int:
    """The number that stands here; 0 beyond the end of the file."""
    data = file.read(struct.calcsize(form))
    return int(struct.unpack(form, data)[0]) if len(data) == struct.calcsize(form) else 0


def planes_of(tif: tifffile.TiffFile) -> Planes:
    """Survey an open file (opened with ``is_ome=False``, so that no other file is)."""
    form, raw, extents, directories, cut = _survey(tif)
    # A thumbnail or a label may stand before the planes: what most pages are is the movie.
    usual = Counter(form).most_common(1)[0][0]
    first = _full_page(tif, form.index(usual))
    check_bits(first)
    if first.samplesperpixel > 1 and first.planarconfig == CONTIGUOUS:
        raise BadInputError(
            Path(tif.filehandle.path),
            found="pictures in colour (RGB)",
            expected="camera counts, one number for each voxel",
            remedy="Export the movie again from the raw data, as grey values of 16 bits and not as RGB.",
        )
    shape = usual[0]
    leading = math.prod(shape[:-2])
    shape_yx = (int(shape[-2]), int(shape[-1])) if len(shape) > 1 else (1, int(shape[0]))
    dtype = np.dtype(usual[1])
    plane_bytes = math.prod(shape_yx) * dtype.itemsize
    block = tif.series[0] if len(tif.pages) == 1 and leading == 1 else None
    if block is not None and block.dataoffset is not None:
        per_page = max(1, math.prod(int(n) for n in block.shape) // math.prod(shape_yx))
        held = 1 + tif.filehandle.size // plane_bytes
        if per_page > MOST_ANNOUNCED * held:
            raise ValueError(f"{per_page} planes announced, in a file of {tif.filehandle.size} bytes")
        extents = [(block.dataoffset, block.dataoffset + block.nbytes)]
    else:
        per_page = leading
    offsets = [start + k * plane_bytes for start, _ in extents for k in range(per_page)] if raw else None
    if raw and per_page > 1:
        ends = [start + (k + 1) * plane_bytes for start, _ in extents for k in range(per_page)]
    else:
        ends = [end for _, end in extents for _ in range(per_page)]
    return Planes(
        shape_yx=shape_yx,
        dtype=dtype,
        stored=(first.dtype.newbyteorder(tif.byteorder) if first.dtype is not None else dtype),
        per_page=per_page,
        offsets=offsets,
        ends=ends,
        directories=directories,
        alike=[page == usual for page in form for _ in range(per_page)],
        size=tif.filehandle.size,
        open_ended=cut or _is_open_ended(tif),
        signed=dtype == np.uint16 and _is_signed(tif.imagej_metadata or {}),
    )


def _is_signed(imagej: Mapping[str, Any]) -> bool:
    """Whether ImageJ says that counts are stored plus 32,768: a straight line (``cf=0``), c0 + c1 · stored.

    Source: ij.measure.Calibration (ImageJ 1, public domain), setSigned16BitCalibration.
    """
    line = (imagej.get("cf"), imagej.get("c0"), imagej.get("c1"))
    return line == (0, -SIGN_BIT, 1)


def _full_page(tif: tifffile.TiffFile, number: int) -> tifffile.TiffPage:
    """A page with all of its tags."""
    page = tif.pages[number]
    return page if isinstance(page, tifffile.TiffPage) else page.aspage()


def _survey(tif: tifffile.TiffFile) -> tuple[list[Form], bool, list[tuple[int, int]], list[int], bool]:
    """Shape and dtype of each page, whether all lie there as they are, where each begins and ends, and where
    its directory is; and whether a directory is cut."""
    pages = tif.pages
    # As frames of the first page only the tags that say where the data lie are read: a quarter of the time.
    pages.useframes = directories_alike(tif)
    pages.set_keyframe(0)
    try:
        found, cut = _pages(pages)
    except RuntimeError:  # a page of another shape is no frame of the first
        pages.useframes = False
        found, cut = _pages(pages)
    pages.useframes = False
    forms, raw, extents, directories = map(list, zip(*found, strict=True))
    return forms, all(raw), extents, directories, cut


def _pages(pages: tifffile.TiffPages) -> tuple[list[Page], bool]:
    """What is known of each page, up to the first whose directory is cut."""
    found = [_page(pages[0])]
    for number in range(1, len(pages)):
        try:
            page = pages[number]
            if not page.shape:  # room for a page that was never written
                return found, True
            found.append(_page(page))
        except (struct.error, tifffile.TiffFileError, IndexError):
            return found, True
    return found, False


def _page(page: tifffile.TiffPage | tifffile.TiffFrame) -> Page:
    places = list(zip(page.dataoffsets, page.databytecounts, strict=True))
    first = places[0][0] if places else 0
    end = max((offset + count for offset, count in places), default=0)
    dtype = page.dtype if page.dtype is not None else np.dtype(np.void)
    shape = tuple(map(int, page.shape))
    # A header may claim more voxels than its strips have bytes, or than any compression can make of them.
    claimed, stored = math.prod(shape) * dtype.itemsize, sum(count for _, count in places)
    keyframe = page.keyframe
    whole = page.compression == UNCOMPRESSED and keyframe and keyframe.bitspersample == 8 * dtype.itemsize
    # Tiles and strips are decoded as a whole, and may reach far beyond the plane.
    decoded = math.prod(page.chunked) * math.prod(page.chunks) * dtype.itemsize
    too_much = max(claimed, decoded) > MOST_COMPRESSION * stored
    as_they_are = bool(page.is_final) or in_whole_numbers(page)
    end += max(claimed - stored, 0) if whole else 0
    if not whole and too_much:
        end = NOWHERE
    if math.prod(page.chunked) > len(places):  # strips or tiles without a place
        end = NOWHERE
    return (shape, dtype.newbyteorder("=").str), as_they_are, (first, end), int(page.offset)


def _is_open_ended(tif: tifffile.TiffFile) -> bool:
    last = tif.pages[len(tif.pages) - 1]
    order, big = tif.byteorder, tif.is_bigtiff
    file = tif.filehandle
    file.seek(last.offset)
    head = file.read(8 if big else 2)
    if len(head) < (8 if big else 2):
        return True
    tags = struct.unpack(order + ("Q" if big else "H"), head)[0]
    file.seek(tags * (20 if big else 12), 1)
    link = file.read(8 if big else 4)
    return len(link) < (8 if big else 4) or any(link)


class TiffReader:
    """Reads planes of one file by their numbers."""

    def __init__(self, path: Path) -> None:
        self.path = path
        with opening(path), tifffile.TiffFile(path, is_ome=False) as tif:
            # Known once, because opening a file of ten thousand planes takes longer than reading a frame.
            self._planes = planes_of(tif)

    def read(self, where: str, region: Region = WHOLE) -> np.ndarray:
        z, y, x = region
        planes = self._planes
        numbers = numbers_of(where)[z]
        fault = planes.fault(numbers)
        with Readable(self.path):
            if fault:
                raise ValueError(fault)
            if planes.offsets is None:
                part = self._decoded(numbers, y, x)
            else:
                part = self._copied([planes.offsets[number] for number in numbers], y, x)
            return (part ^ np.uint16(SIGN_BIT)).view(np.int16) if planes.signed else part

    def _copied(self, offsets: Sequence[int], y: slice, x: slice) -> np.ndarray:
        """Part of planes that lie in the file as they are: one read of whole rows each, into place."""
        planes = self._planes
        rows = range(planes.shape_yx[0])[y]
        width = planes.shape_yx[1]
        part = np.empty((len(offsets), len(rows), width), planes.dtype)
        skipped = rows.start * width * planes.dtype.itemsize
        with tifffile.FileHandle(self.path) as file:
            for plane, offset in zip(part, offsets, strict=True):
                file.read_array(planes.stored, plane.size, offset + skipped, out=plane.reshape(-1))
        return np.ascontiguousarray(part[:, :, x])

    def _decoded(self, numbers: Sequence[int], y: slice, x: slice) -> np.ndarray:
        """Part of planes that are compressed, tiled or scattered; no other pages are decoded."""
        planes = self._planes
        if not numbers:
            return np.empty((0, *planes.shape_yx), planes.dtype)[:, y, x]
        pages = sorted({number // planes.per_page for number in numbers})
        with tifffile.TiffFile(self.path, is_ome=False) as tif:
            own = [tif.pages[page] for page in pages]
            # Together they are decoded in the way of the first.
            alike = len({page.hash for page in own}) == 1
            decoded = tif.asarray(key=pages) if alike else np.stack([page.asarray() for page in own])
        decoded = decoded.reshape(len(pages) * planes.per_page, *planes.shape_yx)
        place = {page: k * planes.per_page for k, page in enumerate(pages)}
        chosen = [place[number // planes.per_page] + number % planes.per_page for number in numbers]
        return np.ascontiguousarray(decoded[chosen][:, y, x], planes.dtype)
