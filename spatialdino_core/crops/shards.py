"""Crops in WebDataset shards: tar files that any WebDataset reader streams, with an index for random
access, so that a training step can name its crops and a resumed training sees the same ones."""

from __future__ import annotations

import hashlib
import io
import json
import math
import tarfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import Any

import numpy as np
import webdataset

from spatialdino_core.errors import BadInputError
from spatialdino_core.files import published, read_json, write_json
from spatialdino_core.parameters import digest

CROP_SUFFIX = "crop.npy"


@dataclass(frozen=True)
class Crop:
    """A crop and what is known of it."""

    key: str
    values: np.ndarray
    about: dict[str, Any]


def write_shards(
    folder: Path | str, crops: Iterable[Crop], *, shard_crops: int, about: dict[str, Any]
) -> None:
    """Write ``shard-NNNNNN.tar`` files and, last, ``index.json``.

    Parameters
    ----------
    crops
        Values (c, z, y, x), float16 in [0, 1].
    shard_crops
        Crops per shard.
    about
        JSON-able facts common to all crops, kept in the index.
    """
    folder = Path(folder)
    # Without an index the shards are nothing: a killed attempt must not leave the index of another.
    (folder / "index.json").unlink(missing_ok=True)
    samples: list[dict[str, Any]] = []
    for number, group in enumerate(_batched(crops, shard_crops)):
        name = f"shard-{number:06}.tar"
        with published(folder / name) as temporary:
            _write_tar(temporary, group)
            samples += _locate(temporary, name)
    for surplus in set(folder.glob("shard-*.tar")) - {folder / sample["shard"] for sample in samples}:
        surplus.unlink()
    write_json(folder / "index.json", {"about": about, "samples": samples})


def _batched(crops: Iterable[Crop], size: int) -> Iterator[Iterator[Crop]]:
    """Groups that are cut while they are written: never more than one crop in memory."""
    iterator = iter(crops)
    for first in iterator:
        yield chain([first], islice(iterator, size - 1))


def _write_tar(path: Path, crops: Iterable[Crop]) -> None:
    # Fixed times and owners: equal crops give equal files.
    with webdataset.TarWriter(str(path), mtime=0.0, user="", group="") as writer:
        for crop in crops:
            buffer = io.BytesIO()
            np.save(buffer, crop.values.astype(np.float16))
            about = json.dumps(crop.about, sort_keys=True)
            writer.write({"__key__": crop.key, CROP_SUFFIX: buffer.getvalue(), "json": about.encode()})


def _locate(path: Path, name: str) -> list[dict[str, Any]]:
    """Where each crop's voxels lie in a shard."""
    found = []
    with tarfile.open(path) as tar, path.open("rb") as raw:
        for member in tar:
            if not member.name.endswith(CROP_SUFFIX):
                continue
            raw.seek(member.offset_data)
            np.lib.format.read_magic(raw)
            shape, _, dtype = np.lib.format.read_array_header_1_0(raw)
            key = member.name.removesuffix("." + CROP_SUFFIX)
            place = {"offset": raw.tell(), "shape": list(shape), "dtype": str(dtype)}
            place["checksum"] = hashlib.blake2b(raw.read(member.size), digest_size=8).hexdigest()
            found.append({"key": key, "shard": name} | place)
    return found


class CropShards:
    """Random access to the crops of several indices, in the order of the indices.

    Parameters
    ----------
    indices
        Paths of ``index.json`` files; their shards lie beside them.

    Raises
    ------
    BadInputError
        If a shard is missing or shorter than its index says.
    """

    def __init__(self, indices: Sequence[Path | str]) -> None:
        self._samples: list[tuple[Path, dict[str, Any]]] = []
        self.abouts: list[dict[str, Any]] = []
        for index in map(Path, indices):
            content = read_json(index)
            self.abouts.append(content["about"])
            self._samples += [(index.parent / sample["shard"], sample) for sample in content["samples"]]
            _check_shards(index, content["samples"])

    def __len__(self) -> int:
        return len(self._samples)

    @property
    def content_hash(self) -> str:
        """Fingerprint of all crops, in order."""
        return digest([sample["checksum"] for _, sample in self._samples])

    def __getitem__(self, number: int) -> np.ndarray:
        """Crop (c, z, y, x), float32 in [0, 1]."""
        path, sample = self._samples[number]
        voxels = np.memmap(path, sample["dtype"], "r", sample["offset"], tuple(sample["shape"]))
        return np.asarray(voxels, np.float32)


def _check_shards(index: Path, samples: Sequence[dict[str, Any]]) -> None:
    ends: dict[str, int] = {}
    for sample in samples:
        size = math.prod(sample["shape"]) * np.dtype(sample["dtype"]).itemsize
        ends[sample["shard"]] = max(ends.get(sample["shard"], 0), sample["offset"] + size)
    for name, end in ends.items():
        shard = index.parent / name
        found = shard.stat().st_size if shard.is_file() else 0
        if found < end:
            raise BadInputError(
                shard,
                found=f"{found} bytes" if shard.is_file() else "no such file",
                expected=f"at least {end} bytes, as {index.name} says",
                remedy=f"Delete {index}; the workflow then cuts the crops of this movie again.",
            )
