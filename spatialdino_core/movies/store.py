"""OME-Zarr 0.5 stores written frame by frame: axes t, c, z, y, x, one shard file per frame and channel.

Which frames of a store are finished is the ledger's knowledge, not the store's.
"""

from __future__ import annotations

import itertools
import math
import os
import re
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import xxhash
import zarr
from zarr.codecs import BloscCodec, Crc32cCodec

from spatialdino_core.errors import BadInputError
from spatialdino_core.files import flush
from spatialdino_core.movies.part import WHOLE, Part
from spatialdino_core.movies.stage_record import StageRecord

AXES = ("t", "c", "z", "y", "x")
CHUNK_ZYX = (32, 128, 128)
FEATURE_CHUNK_ZYX = (16, 16, 16)
SMALLEST_LEVEL = 96  # voxels along the longest axis at which a pyramid ends
NAMESPACE = "spatialdino"
CHECKSUM_BYTES = 4
CLASS_TOKENS = "class_tokens"
VERIFY = "Run with --config verify=true: the stage that wrote it computes this frame again, and no other."
AGAIN = "Run with --config verify=true: the stage that wrote the store makes it again."
LABELS = ("interval_s", "channels")
"""What no voxel depends on: it is rewritten in place."""
DAMAGE = (LookupError, TypeError, ValueError, AttributeError, FileNotFoundError, NotADirectoryError)
"""What Zarr, and whoever follows what it read, may raise where metadata are lost or damaged."""


@dataclass(frozen=True, kw_only=True)
class StoreLayout:
    """What a store looks like; layouts that differ in interval and channel names alone can share one.

    Attributes
    ----------
    shape_czyx
        Channels and voxels of one frame.
    dtype
        Of the voxels.
    voxel_um
        Voxel size (z, y, x), µm.
    origin_um
        Position of the centre of voxel (0, 0, 0) in the deskewed frame, (z, y, x), µm.
    interval_s
        Time between frames, s; ``None`` for a movie of one frame.
    channels
        Channel names.
    kind
        ``image`` (averaged pyramid), ``labels`` (OME-Zarr label image), ``map`` (one level) or ``features``
        (one level, all channels of a small cube in one chunk: whoever wants one wants all).
    """

    shape_czyx: tuple[int, int, int, int]
    dtype: str
    voxel_um: tuple[float, float, float]
    origin_um: tuple[float, float, float] = (0.0, 0.0, 0.0)
    interval_s: float | None
    channels: tuple[str, ...]
    kind: str = "image"

    def level_factors(self) -> list[tuple[int, int, int]]:
        """Cumulative down-sampling (z, y, x) of each level; the axis with the finest voxels halves
        first, so that coarse levels tend to isotropy."""
        factors = [(1, 1, 1)]
        shape, voxel = np.array(self.shape_czyx[1:]), np.array(self.voxel_um)
        while self.kind == "image" and max(shape // factors[-1]) > SMALLEST_LEVEL:
            current = np.array(factors[-1])
            sizes = voxel * current
            can_halve = shape // current > 1
            halved = can_halve & (sizes < 1.5 * sizes[can_halve].min())
            z, y, x = (int(f) for f in current * np.where(halved, 2, 1))
            factors.append((z, y, x))
        return factors


class FrameStore:
    """An OME-Zarr store of one movie, read and written a frame at a time.

    Raises
    ------
    BadInputError
        If its metadata are not there, or damaged.
    """

    def __init__(self, path: Path | str, mode: Literal["r", "r+"] = "r") -> None:
        self.path = Path(path)
        try:
            self._open(mode)
        except DAMAGE as error:
            raise BadInputError(
                self.path,
                found=f"a store in which a zarr.json is lost or damaged ({_line(error)})",
                expected="what the stage wrote",
                remedy=AGAIN,
            ) from error

    def _open(self, mode: Literal["r", "r+"]) -> None:
        self._group: Any = zarr.open_group(self.path, mode=mode)
        attributes: Any = dict(self._group.attrs)
        datasets = attributes["ome"]["multiscales"][0]["datasets"]
        # Frames of zeros must exist as files too, or "missing" and "empty" look alike.
        levels: list[Any] = [self._group[d["path"]] for d in datasets]
        self._levels = [level.with_config({"write_empty_chunks": True}) for level in levels]
        scales = [d["coordinateTransformations"][0]["scale"][2:] for d in datasets]
        self.voxel_um: tuple[float, float, float] = tuple(scales[0])
        self.origin_um: tuple[float, float, float] = tuple(
            datasets[0]["coordinateTransformations"][1]["translation"][2:]
        )
        self._factors = [[round(s / f) for s, f in zip(scale, scales[0], strict=True)] for scale in scales]
        # Written with each frame, by who computes features.
        rows: list[Any] = [self._group[CLASS_TOKENS]] if (self.path / CLASS_TOKENS).is_dir() else []
        self._rows = [array.with_config({"write_empty_chunks": True}) for array in rows]

    @classmethod
    def recorded(cls, folder: Path, record: StageRecord, number: int) -> FrameStore:
        """One of the stores of a stage's record, for reading.

        Raises
        ------
        BadInputError
            If files of a frame are not there, or are not those that the stage wrote.
        """
        path = folder / record.stores[number]
        expected = "what the stage wrote"
        if not path.is_dir():
            raise BadInputError(path, found="no such store", expected=expected, remedy=AGAIN)
        store = cls(path)
        for frame, written in record.stored.items():
            found, kept = store.identity(frame), written[number] if written else None
            if kept and not (found and found.startswith(kept)):
                kind = "other files" if found else "not all files"
                raise BadInputError(path, found=f"{kind} of frame {frame}", expected=expected, remedy=VERIFY)
        return store

    @classmethod
    def prepare(
        cls, path: Path | str, layout: StoreLayout, frames: int, about: dict[str, Any], part: Part = WHOLE
    ) -> FrameStore:
        """Open the store for writing ``frames`` frames, creating it or replacing one of another layout.

        Parameters
        ----------
        about
            JSON-able facts (geometry, provenance) kept in the store's ``spatialdino`` attributes.
        part
            What will be written by this job. If others write at the same time, the store has to be there.

        Raises
        ------
        BadInputError
            If it is not.
        """
        path = Path(path)
        if not part.prepares:
            return cls._prepared(path, layout, frames, part)
        if not _has_layout(path, layout):
            shutil.rmtree(path, ignore_errors=True)
            _create(path, layout, frames)
        store = cls(path, mode="r+")
        if store.about["layout"] != _layout_json(layout):
            store._group.attrs["ome"] = ome_metadata(layout)
        for array in store._arrays:
            if array.shape[0] != frames:
                array.resize((frames, *array.shape[1:]))
        store._group.attrs[NAMESPACE] = {"kind": layout.kind, "layout": _layout_json(layout), **about}
        store._flush_metadata()
        return store

    @classmethod
    def _prepared(cls, path: Path, layout: StoreLayout, frames: int, part: Part) -> FrameStore:
        if _has_layout(path, layout) and cls(path).shape[0] == frames:
            return cls(path, mode="r+")
        raise _unprepared(path, f"no store for {frames} frames of the layout that is needed{part}")

    @property
    def shape(self) -> tuple[int, int, int, int, int]:
        """Shape (t, c, z, y, x) of the full resolution."""
        t, c, z, y, x = self._levels[0].shape
        return t, c, z, y, x

    @property
    def about(self) -> dict[str, Any]:
        """What ``prepare`` was told about the store."""
        return dict(self._group.attrs[NAMESPACE])

    def set_display(self, windows: Sequence[tuple[float, float]]) -> None:
        """Keep the intensities that viewers show as black and white, for each channel."""
        ome: Any = dict(self._group.attrs["ome"])
        for channel, (low, high) in zip(ome["omero"]["channels"], windows, strict=True):
            channel["window"] |= {"start": float(low), "end": float(high)}
        self._group.attrs["ome"] = ome
        self._flush_metadata()

    def with_class_tokens(self, width: int, part: Part = WHOLE) -> FrameStore:
        """The store with an array (t, ``width``) float32 beside its voxels; NaN where nothing is written.

        Raises
        ------
        BadInputError
            If it is not there, and is not for this part to make.
        """
        shape = (self.shape[0], width)
        if self._rows and self._rows[0].shape == shape:
            return self
        if not part.prepares:
            raise _unprepared(self.path / CLASS_TOKENS, f"no array of shape {shape}{part}")
        self._group.create_array(
            CLASS_TOKENS, shape=shape, chunks=(1, width), dtype="float32", fill_value=np.nan, overwrite=True
        )
        self._open("r+")
        self._flush_metadata()
        return self

    @property
    def _arrays(self) -> list[Any]:
        """All arrays that a frame is written to."""
        return [*self._levels, *self._rows]

    def _flush_metadata(self) -> None:
        for folder in (self.path, *(self.path / array.basename for array in self._arrays)):
            flush(folder / "zarr.json")
            flush(folder)

    def _shards(self, frame: int) -> list[Path]:
        """Files of the full resolution of a frame: one, or one for each channel."""
        return self._files(self._levels[0], frame)

    def _files(self, level: Any, frame: int) -> list[Path]:
        files = math.ceil(level.shape[1] / level.shards[1])
        return [
            self.path / level.basename / "c" / str(frame) / str(c) / "0" / "0" / "0" for c in range(files)
        ]

    def _row(self, row: Any, frame: int) -> Path:
        return self.path / str(row.basename) / "c" / str(frame) / "0"

    def has(self, frame: int) -> bool:
        """Whether the frame's files exist, for all channels."""
        return all(shard.is_file() for shard in self._shards(frame))

    def identity(self, frame: int) -> str | None:
        """What tells a frame's files from those of any other, without their voxels being read; ``None`` where
        one is not there.

        First of the full resolution, then of coarser ones: sizes, and the checksums (CRC-32C) of their
        indices, where each chunk lies and how long it is. Then the checksum of a class token. Earlier
        versions kept the beginning alone.
        """
        try:
            found = [_end_of(shard) for level in self._levels for shard in self._files(level, frame)] + [
                xxhash.xxh3_64_hexdigest(self._row(row, frame).read_bytes()) for row in self._rows
            ]
        except FileNotFoundError:
            return None
        return " ".join(found)

    def is_intact(self, frame: int) -> bool:
        """Whether every chunk of a frame is what was written; reads all of it."""
        try:
            self.read(frame, slice(None))
            for level in self._levels[1:]:
                self._values(level, frame, ...)
        except BadInputError:
            return False
        return True

    def read(self, frame: int, channel: int | slice = 0, region: Any = ...) -> np.ndarray:
        """One frame, (z, y, x), or (c, z, y, x) for a slice of channels; ``region`` indexes z, y, x.

        Raises
        ------
        BadInputError
            If a file is not there, which Zarr would read as zeros, or a chunk is not what was written: each
            carries a checksum (CRC-32C).
        """
        spatial = region if isinstance(region, tuple) else (slice(None),) * 3
        self._check_there(frame)
        return self._values(self._levels[0], frame, (channel, *spatial))

    def _values(self, level: Any, frame: int, region: Any) -> np.ndarray:
        where = region if isinstance(region, tuple) else (region,)
        try:
            return np.asarray(level[(frame, *where)])
        except (ValueError, RuntimeError) as error:
            raise BadInputError(
                self.path / level.basename / "c" / str(frame),
                found=f"frame {frame} damaged on disk ({_line(error)})",
                expected="the chunks that were written",
                remedy=VERIFY,
            ) from error

    def _check_there(self, frame: int) -> None:
        # Zarr takes an empty file for one that is not there.
        lost = [shard for shard in self._shards(frame) if not shard.is_file() or not shard.stat().st_size]
        if lost:
            raise BadInputError(
                lost[0],
                found=f"no voxels of frame {frame}",
                expected="those that were written",
                remedy=VERIFY,
            )

    def write(self, frame: int, data: np.ndarray) -> str:
        """Write a frame to all levels and bring it to disk.

        Parameters
        ----------
        data
            Array (c, z, y, x) of the store's dtype.

        Returns
        -------
        str
            Checksum of the voxels.
        """
        for level, reduced in zip(self._levels, _pyramid(data, self._factors), strict=True):
            level[frame] = reduced
        for shard in self._shards(frame):
            flush(shard)
        return checksum(data)

    def write_class_token(self, frame: int, token: np.ndarray) -> str:
        """Write the class token (D) of a frame and bring it to disk; returns its checksum."""
        self._rows[0][frame] = token
        flush(self._row(self._rows[0], frame))
        return checksum(token)

    def class_tokens(self) -> np.ndarray:
        """Class tokens (t, D) of all frames.

        Raises
        ------
        BadInputError
            If the store has none.
        """
        for row in self._rows:
            return np.asarray(row[:])
        raise BadInputError(
            self.path / CLASS_TOKENS, found="no such array", expected="what the stage wrote", remedy=AGAIN
        )


def checksum(data: np.ndarray) -> str:
    """XXH3 (32 hexadecimal digits) of an array's shape, dtype and voxels: as fast as they are read."""
    total = xxhash.xxh3_128(f"{data.shape}{data.dtype}".encode())
    total.update(np.ascontiguousarray(data).view(np.uint8).data)
    return total.hexdigest()


def _layout_json(layout: StoreLayout) -> dict[str, Any]:
    return {
        "shape_czyx": list(layout.shape_czyx),
        "dtype": layout.dtype,
        "voxel_um": list(layout.voxel_um),
        "origin_um": list(layout.origin_um),
        "interval_s": layout.interval_s,
        "channels": list(layout.channels),
    }


def _of_voxels(layout: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in layout.items() if name not in LABELS}


def _has_layout(path: Path, layout: StoreLayout) -> bool:
    """Whether a sound store of this layout is there; one that is damaged counts as none."""
    try:
        store = FrameStore(path)
        shapes = [level.shape[1:] for level in store._levels]
        wanted = [array["shape"][1:] for array in _arrays(layout, 1)]
        kept = _of_voxels(store.about["layout"]), store.about.get("kind"), shapes
        return kept == (_of_voxels(_layout_json(layout)), layout.kind, wanted)
    except (BadInputError, *DAMAGE):
        return False


def _unprepared(path: Path, found: str) -> BadInputError:
    return BadInputError(
        path,
        found=found,
        expected="one that the job before all frames (0-0) has made",
        remedy="Delete the record of that job (its name ends in .0-0.json), and run again.",
    )


def _line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


def _end_of(shard: Path) -> str:
    """Size of a file, and its last bytes: the checksum of its index."""
    with shard.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(-min(size, CHECKSUM_BYTES), os.SEEK_END)
        return f"{size:x}-{file.read().hex()}"


def _create(path: Path, layout: StoreLayout, frames: int) -> None:
    group = zarr.create_group(path, zarr_format=3)
    for number, array in enumerate(_arrays(layout, frames)):
        group.create_array(
            str(number),
            **array,
            dtype=layout.dtype,
            compressors=[BloscCodec(cname="zstd", clevel=1, shuffle="shuffle"), Crc32cCodec()],
            dimension_names=AXES,
        )
    group.attrs["ome"] = ome_metadata(layout)
    group.attrs[NAMESPACE] = {"kind": layout.kind, "layout": _layout_json(layout)}


def _arrays(layout: StoreLayout, frames: int) -> Iterator[dict[str, Any]]:
    """Shape, chunks and shards of the array of each level."""
    for factors in layout.level_factors():
        voxels = tuple(math.ceil(n / f) for n, f in zip(layout.shape_czyx[1:], factors, strict=True))
        together = layout.kind == "features"
        channels = layout.shape_czyx[0] if together else 1
        largest = FEATURE_CHUNK_ZYX if together else CHUNK_ZYX
        chunks = tuple(min(n, c) for n, c in zip(voxels, largest, strict=True))
        shards = tuple(c * math.ceil(n / c) for n, c in zip(voxels, chunks, strict=True))
        yield {
            "shape": (frames, layout.shape_czyx[0], *voxels),
            "chunks": (1, channels, *chunks),
            "shards": (1, channels, *shards),
        }


def ome_metadata(layout: StoreLayout) -> dict[str, Any]:
    """The ``ome`` attributes of an image group, after the OME-Zarr 0.5 specification."""
    interval = layout.interval_s or 1.0
    datasets = []
    for number, factors in enumerate(layout.level_factors()):
        scale = [v * f for v, f in zip(layout.voxel_um, factors, strict=True)]
        # The centre of an averaged voxel lies half a fine voxel per doubling further in.
        shift = [
            o + v * (f - 1) / 2 for o, v, f in zip(layout.origin_um, layout.voxel_um, factors, strict=True)
        ]
        datasets.append(
            {
                "path": str(number),
                "coordinateTransformations": [
                    {"type": "scale", "scale": [interval, 1.0, *scale]},
                    {"type": "translation", "translation": [0.0, 0.0, *shift]},
                ],
            }
        )
    time = {"name": "t", "type": "time"} | ({"unit": "second"} if layout.interval_s else {})
    space = [{"name": name, "type": "space", "unit": "micrometer"} for name in "zyx"]
    metadata: dict[str, Any] = {
        "version": "0.5",
        "multiscales": [
            {"name": "0", "axes": [time, {"name": "c", "type": "channel"}, *space], "datasets": datasets}
        ],
    }
    if layout.kind == "labels":
        metadata["image-label"] = {"source": {"image": "../deskewed.ome.zarr"}}
    else:
        top = float(np.iinfo(layout.dtype).max) if np.dtype(layout.dtype).kind in "iu" else 1.0
        window = {"min": 0.0, "max": top, "start": 0.0, "end": top}
        colours = channel_colours(layout.channels)
        metadata["omero"] = {
            "channels": [
                {"label": name, "color": colour, "window": dict(window), "active": True}
                for name, colour in zip(layout.channels, colours, strict=True)
            ]
        }
    return metadata


def channel_colours(channels: Sequence[str]) -> list[str]:
    """Display colours as RRGGBB: grey for a single channel; else by the excitation wavelength in the name, or
    by order where a name has none."""
    if len(channels) == 1:
        return ["FFFFFF"]
    by_order = itertools.cycle(["00FF00", "FF00FF", "00FFFF", "FFFF00"])
    found = [re.search(r"(?<!\d)([3-9]\d\d)(?!\d)", name) for name in channels]
    return [_by_wavelength(int(match[1])) if match else next(by_order) for match in found]


def _by_wavelength(nanometres: int) -> str:
    limits = {430: "0080FF", 475: "00FFFF", 525: "00FF00", 600: "FFA000"}
    return next((colour for limit, colour in limits.items() if nanometres < limit), "FF0000")


def _pyramid(data: np.ndarray, factors: Sequence[Sequence[int]]) -> Iterator[np.ndarray]:
    """Levels of (c, z, y, x): block means, rounded where the dtype is an integer's."""
    yield data
    means: list[np.ndarray] = list(data)
    for finer, coarser in itertools.pairwise(factors):
        from spatialdino_core.kernels.halve import halved  # loads a compiler, which only pyramids need

        steps = [c // f for c, f in zip(coarser, finer, strict=True)]
        means = [halved(channel, steps) for channel in means]
        level = np.stack(means)
        yield (np.rint(level) if data.dtype.kind in "iu" else level).astype(data.dtype)
