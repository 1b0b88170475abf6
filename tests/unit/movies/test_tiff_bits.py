"""Voxels of 10, 12 or 14 bits, packed and in whole numbers, against what was written."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import imagecodecs
import numpy as np
import pytest
import raw
from raw import SHAPE, assert_is, frames_of, movie, row

AXES = f"t3z{SHAPE[0]}yx"
CODECS = {8: imagecodecs.zlib_encode, 5: imagecodecs.lzw_encode, 50000: imagecodecs.zstd_encode}


def packed(plane: np.ndarray, bits: int) -> bytes:
    """Rows of bits, the highest first; each row begins at a byte."""
    rows = ("".join(f"{int(count):0{bits}b}" for count in line) for line in plane)
    padded = (line + "0" * (-len(line) % 8) for line in rows)
    return b"".join(int(line, 2).to_bytes(len(line) // 8, "big") for line in padded)


def write(
    path: Path,
    planes: np.ndarray,
    bits: int,
    pack: bool,
    order: str = "<",
    strips: Sequence[int] = (0, 8),
    codec: int = 1,
    gap: int = 0,
) -> None:
    """A TIFF of planes (n, y, x), whose strips end before these rows."""
    content = bytearray((b"II" if order == "<" else b"MM") + struct.pack(order + "HI", 42, 0))
    link = 4
    for plane in planes.reshape(-1, *planes.shape[-2:]):
        parts = [plane[a:b] for a, b in pairwise(strips)]
        stored = [packed(part, bits) if pack else part.astype(order + "u2").tobytes() for part in parts]
        stored = [CODECS[codec](data) if codec in CODECS else data for data in stored]
        places = []
        for data in stored:
            places.append(len(content))
            content += data + bytes(gap)
        content += bytes(len(content) % 2)
        lists = len(content)
        many = len(stored) > 1
        if many:
            content += struct.pack(f"{order}{2 * len(stored)}I", *places, *map(len, stored))
        tags = {256: plane.shape[1], 257: plane.shape[0], 258: bits, 259: codec, 262: 1}
        tags |= {273: lists if many else places[0], 277: 1, 278: strips[1] - strips[0]}
        tags |= {279: lists + 4 * len(stored) if many else len(stored[0])}
        struct.pack_into(order + "I", content, link, len(content))
        content += struct.pack(order + "H", len(tags))
        for tag, value in tags.items():
            count = len(stored) if tag in (273, 279) else 1
            content += struct.pack(order + "HHII", tag, 4, count, value)
        link = len(content)
        content += bytes(4)
    path.write_bytes(content)


@pytest.mark.parametrize("bits", [10, 12, 14])
@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("strips", [(0, 8), (0, 3, 6, 8)])
@pytest.mark.parametrize("pack", [True, False])
def test_few_bits_are_read_by_the_bytes_that_there_are(
    tmp_path: Path, bits: int, order: str, strips: tuple[int, ...], pack: bool
) -> None:
    data = movie(3) % 2**bits
    write(tmp_path / "a.tif", data, bits, pack, order, strips)
    assert_is(frames_of([row(tmp_path / "a.tif", axes=AXES)]), data)
    part = (slice(1, 4), slice(2, 7), slice(3, None))
    source = raw.sources([row(tmp_path / "a.tif", axes=AXES)])[0]
    np.testing.assert_array_equal(source.read(1, part), data[1][part])


@pytest.mark.parametrize("codec", CODECS)
def test_few_bits_that_are_compressed(tmp_path: Path, codec: int) -> None:
    """Read if they are packed; whole numbers, which would be taken for packed ones, are refused."""
    data = movie(3) % 4096
    write(tmp_path / "a.tif", data, 12, True, codec=codec, strips=(0, 5, 8))
    assert_is(frames_of([row(tmp_path / "a.tif", axes=AXES)]), data)
    write(tmp_path / "a.tif", data, 12, False, codec=codec, strips=(0, 5, 8))
    message = raw.problem([row(tmp_path / "a.tif", axes=AXES)])
    assert "voxels of 12 bits, by the header, and whole numbers, compressed" in message
    assert "Export it again with 16 bits" in message
    # The remedy.
    write(tmp_path / "a.tif", data, 16, False, codec=codec, strips=(0, 5, 8))
    assert_is(frames_of([row(tmp_path / "a.tif", axes=AXES)]), data)


def test_bytes_that_fit_neither(tmp_path: Path) -> None:
    data = movie(3) % 4096
    write(tmp_path / "a.tif", data, 12, False, strips=(0, 3, 6, 8), gap=6)
    assert "bytes in 3 pieces, not 112" in raw.problem([row(tmp_path / "a.tif", axes=AXES)])
    write(tmp_path / "a.tif", data, 12, True)
    content = (tmp_path / "a.tif").read_bytes()
    fewer = content.replace(struct.pack("<HHII", 279, 4, 1, 112), struct.pack("<HHII", 279, 4, 1, 100))
    (tmp_path / "a.tif").write_bytes(fewer)
    assert "100 bytes in 1 pieces, not 112" in raw.problem([row(tmp_path / "a.tif", axes=AXES)])
