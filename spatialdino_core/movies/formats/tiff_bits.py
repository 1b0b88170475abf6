"""Pages of voxels of 10, 12 or 14 bits: packed, as their header says, or in whole numbers of 16 bits, as many
programs write them all the same. How many bytes there are tells which."""

from __future__ import annotations

import math
from itertools import pairwise

import tifffile

from spatialdino_core.errors import BadInputError

UNCOMPRESSED = 1
FLOAT = 3  # SampleFormat
AnyPage = tifffile.TiffPage | tifffile.TiffFrame


def in_whole_numbers(page: AnyPage) -> bool:
    """Whether voxels lie there as whole numbers, one after the other, though the header says fewer bits.

    Raises
    ------
    BadInputError
        If they are neither packed nor whole numbers in one piece.
    """
    key = _model(page)
    if not _says_fewer_bits(page) or key.compression != UNCOMPRESSED:
        return False
    packed, whole = _bytes_of(page, math.prod(page.chunked) if key.is_tiled else None)
    stored = sum(page.databytecounts)
    if stored == packed:
        return False
    places = zip(page.dataoffsets, page.databytecounts, strict=True)
    joined = all(first + count == second for (first, count), (second, _) in pairwise(places))
    plain = not key.is_tiled and key.fillorder == 1 and key.predictor == 1
    if stored < whole or not joined or not plain:
        raise _unclear(page, f"{stored} bytes in {len(page.databytecounts)} pieces, not {packed}")
    return True


def check_bits(page: tifffile.TiffPage) -> None:
    """Refuse compressed voxels that are whole numbers, though the header says fewer bits: the library would
    take them for packed ones.

    Raises
    ------
    BadInputError
        If the first piece of the page holds as many bytes as whole numbers have.
    """
    kind = page.compression
    if not _says_fewer_bits(page) or kind == UNCOMPRESSED or kind in tifffile.TIFF.IMAGE_COMPRESSIONS:
        return
    _, whole = _bytes_of(page, 1)
    file = page.parent.filehandle
    file.seek(page.dataoffsets[0])
    decoded = tifffile.TIFF.DECOMPRESSORS[kind](file.read(page.databytecounts[0]), out=whole)
    if len(decoded) >= whole:
        raise _unclear(page, "whole numbers, compressed")


def _model(page: AnyPage) -> tifffile.TiffPage:
    """The page that says what this one is like."""
    assert page.keyframe is not None
    return page.keyframe


def _says_fewer_bits(page: AnyPage) -> bool:
    key = _model(page)
    return (
        page.dtype is not None and key.sampleformat != FLOAT and key.bitspersample != 8 * page.dtype.itemsize
    )


def _bytes_of(page: AnyPage, chunks: int | None) -> tuple[int, int]:
    """Bytes of so many chunks, or of the page: packed, each row from a byte on; and as whole numbers."""
    shape = page.shape if chunks is None else (chunks, *page.chunks)
    rows, width = math.prod(shape[:-1]), shape[-1]
    assert page.dtype is not None
    return rows * math.ceil(width * _model(page).bitspersample / 8), rows * width * page.dtype.itemsize


def _unclear(page: AnyPage, found: str) -> BadInputError:
    return BadInputError(
        page.parent.filehandle.path,
        found=f"voxels of {_model(page).bitspersample} bits, by the header, and {found}",
        expected="packed voxels, or whole numbers of 16 bits in one piece",
        remedy="Export it again with 16 bits per voxel; the program that wrote it knows how it did.",
    )
