"""Crops in WebDataset shards: tar files that any WebDataset reader streams, with an index for random
access, so that a training step can name its crops and a resumed training sees the same ones.

Which crops there are is not decided here, nor in which order they are read (``order.py``).
"""

from __future__ import annotations

import errno
import io
import json
import math
import os
import sys
import tarfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import webdataset
import xxhash

from spatialdino_core.errors import BadInputError
from spatialdino_core.files import published, read_json, write_json
from spatialdino_core.parameters import digest

OnCorrupt = Literal["fail", "skip"]
CROP_SUFFIX = "crop.npy"
LEDGER = "written.jsonl"
BLOCK = tarfile.BLOCKSIZE
PART = 2**20
NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@dataclass(frozen=True)
class Crop:
    """A crop and what is known of it."""

    key: str
    values: np.ndarray
    about: dict[str, Any]

    def npy(self) -> bytes:
        """Values as float16 in the ``.npy`` format."""
        buffer = io.BytesIO()
        np.save(buffer, self.values.astype(np.float16, copy=False))
        return buffer.getvalue()

    def json(self) -> bytes:
        """What is known of it, keys sorted."""
        return json.dumps(self.about, sort_keys=True).encode()


def write_shards(
    folder: Path | str,
    crops_from: Callable[[int], Iterable[Crop]],
    *,
    shard_bytes: float,
    about: dict[str, Any],
) -> None:
    """Write ``shard-NNNNNN.tar`` files and, last, ``index.json``.

    Shards that a killed attempt with the same ``about`` has finished are kept; their bytes would be the
    same.

    Parameters
    ----------
    crops_from
        The crops from a number on, always the same and in the same order; values (c, z, y, x) in
        [0, 1].
    shard_bytes
        Largest size of a shard; one crop that is larger has a shard of its own.
    about
        JSON-able facts common to all crops, kept in the index: what the crops depend on.

    Raises
    ------
    BadInputError
        If the disk is full. Finished shards stay.
    """
    folder = Path(folder)
    # Without an index the shards are nothing: a killed attempt must not leave the index of another.
    (folder / "index.json").unlink(missing_ok=True)
    # A tar file ends with two empty blocks and is filled up to whole records.
    room = shard_bytes // tarfile.RECORDSIZE * tarfile.RECORDSIZE - 2 * BLOCK
    ledger = _Ledger(folder, digest(about, shard_bytes))
    samples = [sample for shard in ledger.shards for sample in shard["samples"]]
    for group in _grouped(crops_from(len(samples)), room):
        name = f"shard-{len(ledger.shards):06}.tar"
        try:
            with published(folder / name) as temporary:
                _write_tar(temporary, group)
                shard = {"name": name, **_inventory(temporary, name)}
        except OSError as error:
            if error.errno not in NO_ROOM:
                raise
            raise BadInputError(
                folder / name,
                found=f"no room to write it ({os.strerror(error.errno)})",
                expected=f"{shard_bytes / 1e6:g} MB on this disk",
                remedy="Make room and run again: finished shards are kept.",
            ) from error
        ledger.add(shard)
    for surplus in set(folder.glob("shard-*.tar")) - {folder / shard["name"] for shard in ledger.shards}:
        surplus.unlink()
    shards = [{k: v for k, v in shard.items() if k != "samples"} for shard in ledger.shards]
    samples = [sample for shard in ledger.shards for sample in shard["samples"]]
    write_json(folder / "index.json", {"about": about, "shards": shards, "samples": samples})
    ledger.path.unlink(missing_ok=True)


class _Ledger:
    """Finished shards of an attempt, so that the next one goes on after them."""

    def __init__(self, folder: Path, key: str) -> None:
        self.path, self.key = folder / LEDGER, key
        self.shards: list[dict[str, Any]] = []
        for shard in self._lines():
            path = folder / shard["name"]
            if not path.is_file() or path.stat().st_size != shard["bytes"]:
                break
            self.shards.append(shard)
        folder.mkdir(parents=True, exist_ok=True)
        self.path.write_text("".join(self._line(shard) for shard in self.shards))

    def add(self, shard: dict[str, Any]) -> None:
        """Record a published shard; on disk when this returns."""
        with self.path.open("a", encoding="utf-8") as file:
            file.write(self._line(shard))
            file.flush()
            os.fsync(file.fileno())
        self.shards.append(shard)

    def _line(self, shard: dict[str, Any]) -> str:
        return json.dumps({"key": self.key, "shard": shard}) + "\n"

    def _lines(self) -> Iterator[dict[str, Any]]:
        text = self.path.read_text(encoding="utf-8") if self.path.exists() else ""
        for line in text.splitlines():
            try:
                content = json.loads(line)
            except json.JSONDecodeError:
                return  # a line torn by a kill: its shard is not finished
            if isinstance(content, dict) and content.get("key") == self.key and "shard" in content:
                yield content["shard"]


def _grouped(crops: Iterable[Crop], most_bytes: float) -> Iterator[Iterator[Crop]]:
    """Groups whose tar members fit into ``most_bytes``, cut while they are written: never more than two
    crops in memory."""
    source = ((crop, _tar_bytes(crop)) for crop in crops)
    waiting = next(source, None)

    def group() -> Iterator[Crop]:
        nonlocal waiting
        size = 0
        while waiting is not None and (size == 0 or size + waiting[1] <= most_bytes):
            size += waiting[1]
            crop, waiting = waiting[0], next(source, None)
            yield crop

    while waiting is not None:
        yield group()


def _tar_bytes(crop: Crop) -> int:
    """Bytes of a crop's two members in a tar file."""
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        header, {"descr": "<f2", "fortran_order": False, "shape": crop.values.shape}
    )
    contents = {CROP_SUFFIX: len(header.getvalue()) + 2 * crop.values.size, "json": len(crop.json())}
    return sum(
        len(tarfile.TarInfo(f"{crop.key}.{suffix}").tobuf()) + BLOCK * math.ceil(content / BLOCK)
        for suffix, content in contents.items()
    )


def _write_tar(path: Path, crops: Iterable[Crop]) -> None:
    # Fixed times and owners: equal crops give equal files. A time that is not an integer would take two
    # blocks of its own.
    with webdataset.TarWriter(str(path), mtime=0, user="", group="") as writer:
        for crop in crops:
            writer.write({"__key__": crop.key, CROP_SUFFIX: crop.npy(), "json": crop.json()})


def _inventory(path: Path, name: str) -> dict[str, Any]:
    """Size and checksum of a shard, and where each crop's voxels lie in it."""
    samples = []
    with tarfile.open(path) as tar, path.open("rb") as raw:
        for member in tar:
            if not member.name.endswith(CROP_SUFFIX):
                continue
            raw.seek(member.offset_data)
            np.lib.format.read_magic(raw)
            shape, _, dtype = np.lib.format.read_array_header_1_0(raw)
            samples.append(
                {
                    "key": member.name.removesuffix("." + CROP_SUFFIX),
                    "shard": name,
                    "offset": raw.tell(),
                    "shape": list(shape),
                    "dtype": str(dtype),
                    "checksum": xxhash.xxh3_128_hexdigest(raw.read(math.prod(shape) * dtype.itemsize)),
                }
            )
    whole = {"bytes": path.stat().st_size, "crops": len(samples), "checksum": file_checksum(path)}
    return whole | {"samples": samples}


def file_checksum(path: Path) -> str:
    """XXH3 (32 hexadecimal digits) of a file: as fast as it is read."""
    total = xxhash.xxh3_128()
    with path.open("rb") as file:
        while part := file.read(PART):
            total.update(part)
    return total.hexdigest()


class CropShards:
    """Random access to the crops of several indices, in the order of the indices.

    Every shard is read once, against its checksum, before any of it is used.

    Parameters
    ----------
    indices
        Paths of ``index.json`` files; their shards lie beside them.
    on_corrupt
        Whether a shard that is missing, cut off or altered is an error, or is left out and counted in
        the log.
    channels
        How many channels ``[]`` returns, the first ones; by default all that a crop has.

    Attributes
    ----------
    abouts
        What each index says about all its crops.
    skipped
        Shards that were left out, and why.

    Raises
    ------
    BadInputError
        Naming the shard.
    """

    def __init__(
        self,
        indices: Sequence[Path | str],
        on_corrupt: OnCorrupt = "fail",
        channels: int | None = None,
    ) -> None:
        self._samples: list[tuple[Path, dict[str, Any]]] = []
        self._channels = channels
        self.abouts: list[dict[str, Any]] = []
        self.shard_lengths: list[int] = []
        self.skipped: dict[str, str] = {}
        contents = [(Path(index), read_json(index)) for index in indices]
        shards = [(index, shard) for index, content in contents for shard in content["shards"]]
        with ThreadPoolExecutor() as readers:  # hashing frees the interpreter lock
            problems = readers.map(lambda item: _problem(item[0].parent, item[1]), shards)
            damaged = {
                (index, shard["name"]): problem
                for (index, shard), problem in zip(shards, problems, strict=True)
                if problem
            }
        if damaged and on_corrupt == "fail":
            (index, name), problem = next(iter(damaged.items()))
            raise _refusal(index, name, problem)
        for index, content in contents:
            self.abouts.append(content["about"])
            kept = [s for s in content["samples"] if (index, s["shard"]) not in damaged]
            self._samples += [(index.parent / sample["shard"], sample) for sample in kept]
            lengths = {shard["name"]: shard["crops"] for shard in content["shards"]}
            self.shard_lengths += [n for name, n in lengths.items() if (index, name) not in damaged]
        self.skipped = {str(index.parent / name): why for (index, name), why in damaged.items()}
        self._report(sum(shard["crops"] for _, shard in shards), len(shards))

    def _report(self, crops: int, shards: int) -> None:
        if not self.skipped:
            return
        left_out = crops - len(self)
        print(
            f"training crops: {len(self.skipped)} of {shards} shards are damaged, {left_out} of {crops} "
            "crops left out: " + "; ".join(f"{path}: {why}" for path, why in self.skipped.items()),
            file=sys.stderr,
            flush=True,
        )

    def __len__(self) -> int:
        return len(self._samples)

    @property
    def content_hash(self) -> str:
        """Fingerprint of all crops, in order."""
        return digest([sample["checksum"] for _, sample in self._samples])

    def __getitem__(self, number: int) -> np.ndarray:
        """Crop (c, z, y, x), float16 in [0, 1]; a memory map: only what is cut out of it is read."""
        path, sample = self._samples[number]
        voxels = np.memmap(path, sample["dtype"], "r", sample["offset"], tuple(sample["shape"]))
        return voxels[: self._channels]

    def key(self, number: int) -> str:
        """Name of a crop: its key and the shard it lies in."""
        path, sample = self._samples[number]
        return f"{path}:{sample['key']}"


def _problem(folder: Path, shard: dict[str, Any]) -> str:
    """What is wrong with a shard; empty if nothing is."""
    path = folder / shard["name"]
    if not path.is_file():
        return "no such file"
    size = path.stat().st_size
    if size != shard["bytes"]:
        return f"{size} bytes instead of {shard['bytes']}"
    found = file_checksum(path)
    return "" if found == shard["checksum"] else f"checksum {found} instead of {shard['checksum']}"


def _refusal(index: Path, name: str, problem: str) -> BadInputError:
    return BadInputError(
        index.parent / name,
        found=problem,
        expected=f"the shard that {index.name} describes",
        remedy=f"Delete {index}: the workflow then cuts the crops of this movie again. Or set "
        "crops.on_corrupt_shard to skip.",
    )
