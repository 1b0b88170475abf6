"""Which chunks of a Zarr array are there: Zarr itself reads a lost one as its fill value, without a word.

Source: Zarr core specification 3, and its sharding codec: a shard holds an index with offset and length of
every chunk within it, both 2⁶⁴ − 1 for one that is not there.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

NOT_THERE = np.uint64(2**64 - 1)
CHECKSUM_BYTES = 4


def folder_of(array: Any) -> Path:
    """Where the chunk files of an array lie."""
    return Path(array.store_path.store.root) / array.store_path.path


def files_there(array: Any) -> np.ndarray:
    """Which chunk files, or files of shards, are there: bool, with the axes of the array."""
    root = folder_of(array)
    present = _files(root)
    files = grid_of(array.shape, array.shards or array.chunks)
    there = np.zeros(files, bool)
    for place in itertools.product(*map(range, files)):
        there[place] = array.metadata.encode_chunk_key(place) in present
    return there


def chunks_there(array: Any, files: np.ndarray | None = None) -> np.ndarray:
    """Which chunks were written.

    Parameters
    ----------
    array
        Zarr array, version 2 or 3, sharded or not.
    files
        Of `files_there`, if they are known.

    Returns
    -------
    ndarray of bool
        One element for each chunk, those within shards counted singly, with the axes of the array.
    """
    files = files_there(array) if files is None else files
    return _within_shards(array, folder_of(array), files) if array.shards else files


def holds_bytes(folder: Path, least: int) -> bool:
    """Whether the files in a folder and below have so many bytes; no more are looked at than it takes."""
    total = 0
    for below, _, names in os.walk(folder):
        for name in names:
            total += os.stat(os.path.join(below, name)).st_size
            if total >= least:
                return True
    return False


def grid_of(shape: Sequence[int], chunk: Sequence[int]) -> tuple[int, ...]:
    """How many chunks an array has along each axis."""
    return tuple(-(-length // size) for length, size in zip(shape, chunk, strict=True))


def _files(root: Path) -> set[str]:
    """Names of all files below, as chunk keys; of every folder's content in one call."""
    return {
        os.path.relpath(os.path.join(folder, name), root).replace(os.sep, "/")
        for folder, _, names in os.walk(root)
        for name in names
    }


def _within_shards(array: Any, root: Path, shards: np.ndarray) -> np.ndarray:
    per_shard = grid_of(array.shards, array.chunks)
    there = np.zeros([n * k for n, k in zip(shards.shape, per_shard, strict=True)], bool)
    for place in zip(*np.nonzero(shards), strict=True):
        own = tuple(slice(n * k, (n + 1) * k) for n, k in zip(place, per_shard, strict=True))
        file = root / array.metadata.encode_chunk_key(tuple(map(int, place)))
        there[own] = _index(array, file, per_shard)
    return there[tuple(map(slice, grid_of(array.shape, array.chunks)))]


def _index(array: Any, file: Path, per_shard: tuple[int, ...]) -> np.ndarray | bool:
    """Which chunks of a shard are there. An index that is coded in an unusual way is left to Zarr."""
    codec = array.metadata.codecs[0].to_dict()["configuration"]
    names = [part["name"] for part in codec["index_codecs"]]
    if names not in (["bytes"], ["bytes", "crc32c"]):
        return True
    count = 2 * int(np.prod(per_shard))
    size = 8 * count + (CHECKSUM_BYTES if "crc32c" in names else 0)
    if file.stat().st_size < size:
        return False
    endian = codec["index_codecs"][0].get("configuration", {}).get("endian", "little")
    with file.open("rb") as opened:
        if codec.get("index_location", "end") == "end":
            opened.seek(-size, os.SEEK_END)
        index = np.frombuffer(opened.read(8 * count), ">u8" if endian == "big" else "<u8")
    return (index.reshape(*per_shard, 2) != NOT_THERE).any(axis=-1)
