"""OME-Zarr stores, versions 0.1 to 0.5, read at full resolution: single images, bioformats2raw's collections,
plates, and bare arrays whose axes are named.

Axes and channels are found by name; an array may hold them in any order and any byte order. A chunk that is
not there is no chunk of zeros: see `zarr_lost`.
Source: Open Microscopy Environment, OME-NGFF specification 0.1 to 0.5.
"""

from __future__ import annotations

import itertools
import math
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import zarr

from spatialdino_core.errors import BadInputError
from spatialdino_core.movies.axes import parsed
from spatialdino_core.movies.formats.image import (
    MARKS,
    S_PER_UNIT,
    UM_PER_UNIT,
    WHOLE,
    FileMetadata,
    Image,
    Piece,
    Place,
    Readable,
    Region,
    check_announced,
    in_time,
    quantity,
)
from spatialdino_core.movies.formats.ome_xml import OmeImage, ome_images
from spatialdino_core.movies.formats.zarr_chunks import (
    chunks_there,
    files_there,
    folder_of,
    grid_of,
    holds_bytes,
)
from spatialdino_core.movies.formats.zarr_lost import lost_stacks
from spatialdino_core.movies.names import natural

MissingChunks = Literal["zeros"] | None
BIOFORMATS_XML = Path("OME") / "METADATA.ome.xml"
DEEPEST = 3
"""Folders of a well, an image and its array below a store."""
AXIS_NAMES = {"t": "T", "time": "T", "c": "C", "channel": "C", "z": "Z", "y": "Y", "x": "X"}
USUAL_AXES = {3: "zyx", 4: "tzyx"}
MOST_CHUNKS = 10_000_000
"""Chunks that an array may announce: more are damaged metadata."""
FEW_BYTES = 2**24
"""Stacks of fewer bytes are believed in; of larger ones the files are looked at."""
LEAST_SHARE = 0.01
"""Of the chunks of a store that must be there, unless it is said to leave out empty ones."""
MOST_COMPRESSION_OF_A_STACK = 1000
"""Bytes of one stack for one byte of all files of its array: ten times what noise-free movies come to."""
AXES_OF_OLD_VERSIONS = "TCZYX"  # 0.1 and 0.2 have no other


def is_store(path: Path) -> bool:
    """Whether a folder is a Zarr group or array."""
    return any((path / mark).is_file() for mark in MARKS)


@dataclass(frozen=True, kw_only=True)
class _Level:
    """Full resolution of one image of a store.

    Attributes
    ----------
    name
        What the image is called: its path in the store, and its own name where several share one; empty for
        the store itself.
    group
        Path of its group in the store.
    array
        Its voxels.
    axes
        Letters of the array's axes.
    channels
        Channel names.
    multiscale, dataset
        What ``multiscales`` says of it and of its full resolution; empty for a bare array.
    declared_sparse
        Whether the store says that it leaves out chunks without content.
    """

    name: str
    group: str
    array: Any
    axes: str
    channels: tuple[str, ...] = ()
    multiscale: Mapping[str, Any] = field(default_factory=dict)
    dataset: Mapping[str, Any] = field(default_factory=dict)
    declared_sparse: bool

    def length(self, axis: str) -> int:
        return int(self.array.shape[self.axes.index(axis)]) if axis in self.axes else 1


def images_of(path: Path, axes: str | None, missing_chunks: MissingChunks) -> list[Image]:
    """All images of a store.

    Parameters
    ----------
    path
        The store.
    axes
        What the axes of its arrays are, by the sample sheet.
    missing_chunks
        ``zeros``: the store leaves out chunks that hold nothing.
    """
    with Readable(path):
        try:
            with in_time(path):
                levels = list(_levels_of(path, zarr.open(path, mode="r"), "", axes))
                described = _described(path)
            # Which chunks are there is asked without a limit: there may be millions.
            return [_image(path, level, missing_chunks, described.get(level.group)) for level in levels]
        except BadInputError:
            raise
        except (AttributeError, LookupError, TypeError, ValueError) as error:
            raise _broken(path, f"{type(error).__name__}: {error}") from error


def _broken(path: Path, found: str) -> BadInputError:
    return BadInputError(
        path,
        found=f"OME-Zarr metadata that are not whole: {found}",
        expected="multiscales with axes and datasets that are there (OME-NGFF 0.1 to 0.5)",
        remedy="Copy the store again; or give the path of the array itself, e.g. store.zarr/0, and its axes, "
        "sizes and interval in the sample sheet.",
    )


def _image(path: Path, level: _Level, missing: MissingChunks, described: OmeImage | None) -> Image:
    times, channels = level.length("T"), level.length("C")
    depth = level.length("Z")
    check_announced(path, times, channels, depth)
    _check_chunks(path, level)
    sparse = missing == "zeros" or level.declared_sparse
    files = files_there(level.array)
    there = chunks_there(level.array, files)
    if not sparse:
        _check_share(level, there)
    faults, absent = lost_stacks(level.array, level.axes, files, there, sparse)
    said = _metadata(level, f"OME-Zarr metadata of {path.name}")
    places = list(itertools.product(range(times), range(channels)))
    label = level.name or path.name
    return Image(
        name=level.name,
        times=times,
        channels=channels,
        channel_names=level.channels,
        shape_zyx=(depth, level.length("Y"), level.length("X")),
        dtype=level.array.dtype.newbyteorder("="),
        stacks={p: (Piece(path, _where(level, p), depth),) for p in places if p not in faults},
        faults={place: f"{label}: {fault}" for place, fault in faults.items()},
        absent=absent,
        clock_s=described.clock_s if described else {},
        metadata=said,
    )


def _check_chunks(path: Path, level: _Level) -> None:
    """Refuse more chunks than a store can have, and stacks or chunks of more bytes than can be in
    the files of the array."""
    array, item = level.array, level.array.dtype.itemsize
    chunks = math.prod(grid_of(array.shape, array.chunks))
    if chunks > MOST_CHUNKS:
        raise _broken(path, f"{chunks} chunks of {array.chunks} in {array.shape}, more than {MOST_CHUNKS}")
    stack = math.prod(level.length(axis) for axis in "ZYX") * item
    chunk = math.prod(array.shards or array.chunks) * item
    claimed = max(stack, chunk)
    if claimed > FEW_BYTES and not holds_bytes(folder_of(array), claimed // MOST_COMPRESSION_OF_A_STACK):
        raise _broken(
            path,
            f"{array.shape} voxels of {array.dtype} in chunks of {array.shards or array.chunks}, "
            "and hardly a byte in all of its files",
        )


def _where(level: _Level, place: Place) -> str:
    return f"{level.array.path or '.'} {level.axes.lower()} t={place[0]} c={place[1]}"


def _levels_of(path: Path, group: Any, name: str, axes: str | None) -> Iterator[_Level]:
    """Images of an array, or of a group and all below it."""
    if isinstance(group, zarr.Array):
        named: Any = getattr(group.metadata, "dimension_names", None) or group.attrs.get("_ARRAY_DIMENSIONS")
        letters = _axes(path / name, group, axes, named)
        yield _Level(name=name, group=name, array=group, axes=letters, declared_sparse=_sparse(group.attrs))
        return
    ome = _ome_attributes(group)
    if "multiscales" not in ome:
        for child in _children(path / name, group, ome):
            if child not in group:
                raise _broken(path / name, f"image '{child}' is not there")
            yield from _levels_of(path, group[child], f"{name}/{child}".lstrip("/"), axes)
        return
    yield from _multiscales(path / name, group, name, ome, axes)


def _multiscales(
    path: Path, group: Any, name: str, ome: Mapping[str, Any], axes: str | None
) -> Iterator[_Level]:
    """Images of one group: nearly always one; several only if their full resolutions are other arrays."""
    described = ome["multiscales"]
    if not isinstance(described, list) or not described:
        raise _broken(path, "multiscales without an entry")
    seen: set[str] = set()
    for number, image in enumerate(described):
        dataset, array = _full_resolution(path, group, image)
        if array.path in seen:
            continue
        seen.add(array.path)
        named = [a.get("name") if isinstance(a, dict) else a for a in image.get("axes", AXES_OF_OLD_VERSIONS)]
        letters = _axes(path, array, axes, named)
        own = str(image.get("name") or number) if len(described) > 1 else ""
        yield _Level(
            name="/".join(filter(None, (name, own))),
            group=name,
            array=array,
            axes=letters,
            channels=_labels(ome, array.shape[letters.index("C")] if "C" in letters else 1),
            multiscale=image,
            dataset=dataset,
            declared_sparse=_sparse(group.attrs) or _sparse(array.attrs),
        )


def _full_resolution(path: Path, group: Any, image: Mapping[str, Any]) -> tuple[Mapping[str, Any], Any]:
    """The largest array of an image, wherever it stands in the list, and what the list says of it."""
    datasets = image.get("datasets") or []
    if not datasets:
        raise _broken(path, "multiscales without datasets")
    found = []
    for dataset in datasets:
        own = dataset.get("path") if isinstance(dataset, dict) else None
        if own is None or str(own) not in group or not isinstance(group[str(own)], zarr.Array):
            raise _broken(path, f"dataset '{own}' is no array that is there")
        found.append((dataset, group[str(own)]))
    return max(found, key=lambda one: math.prod(one[1].shape))


def _labels(ome: Mapping[str, Any], channels: int) -> tuple[str, ...]:
    """Channel names; none if they are not as many as the channels, since nothing tells which is whose."""
    listed = (ome.get("omero") or {}).get("channels") or []
    labels = tuple(str(about.get("label") or "") for about in listed)
    return labels if len(labels) == channels else ()


def _children(folder: Path, group: Any, ome: Mapping[str, Any]) -> list[str]:
    """Images of a collection: series of bioformats2raw, wells of a plate and their fields."""
    if "plate" in ome:
        wells = [str(well["path"]) for well in ome["plate"]["wells"]]
        return [f"{well}/{field}" for well in wells for field in _fields(folder / well)]
    children = _series(group) or _images_in(folder, group)
    if not children:
        raise BadInputError(
            folder,
            found="a Zarr group without an image",
            expected="an OME-Zarr image, a collection of them, a plate, or an array with named axes",
            remedy="Give the path of the image within the store, e.g. store.zarr/0.",
        )
    return children


def _fields(well: Path) -> list[str]:
    """Images of a well, by its metadata, else the groups in its folder."""
    if is_store(well):
        images = _ome_attributes(zarr.open_group(well, mode="r")).get("well", {}).get("images", [])
        if images:
            return [str(image["path"]) for image in images]
    return _stores_in(well)


def _stores_in(folder: Path) -> list[str]:
    """Groups and arrays in a folder, in natural order."""
    return sorted((c.name for c in folder.iterdir() if c.name != "OME" and is_store(c)), key=natural)


def _images_in(folder: Path, group: Any) -> list[str]:
    """Groups and arrays in a folder; no arrays of the values along an axis, as xarray keeps beside images."""
    return [
        name
        for name in _stores_in(folder)
        if name not in group or not isinstance(group[name], zarr.Array) or group[name].ndim > 1
    ]


def _ome_attributes(group: Any) -> Mapping[str, Any]:
    attributes = dict(group.attrs)
    inner: Mapping[str, Any] = attributes.get("ome", attributes)
    return inner


def _axes(path: Path, array: Any, by_hand: str | None, named: Sequence[str | None] | None) -> str:
    """Letters of an array's axes: those of the sheet, else by their names."""
    sizes: list[int | None] = [None] * array.ndim
    if by_hand is not None:
        letters = "".join(letter for letter, _ in parsed(by_hand))
        sizes = [size for _, size in parsed(by_hand)]
    else:
        letters = "".join(AXIS_NAMES.get(str(name).casefold(), "?") for name in named or [])
    fits = len(sizes) == array.ndim and all(s in (None, n) for s, n in zip(sizes, array.shape, strict=True))
    if (
        len(letters) != array.ndim
        or not fits
        or not set("YX") <= set(letters) <= set("TCZYX")
        or len(set(letters)) < len(letters)
    ):
        raise BadInputError(
            path,
            found=f"an array of shape {array.shape} with axes {by_hand or list(named or []) or 'unnamed'}",
            expected=f"{array.ndim} axes, each of t, c, z, y, x at most once",
            remedy="Say in the sample sheet's column 'axes' what they are, in the order of the array, e.g. "
            f"{USUAL_AXES.get(array.ndim, 'tczyx')}.",
        )
    return letters


def _sparse(attributes: Mapping[str, Any]) -> bool:
    return attributes.get("write_empty_chunks") is False


def _check_share(level: _Level, there: np.ndarray) -> None:
    """Refuse a store of which hardly a chunk is there."""
    if 0 < there.sum() < LEAST_SHARE * there.size:
        raise _broken(
            folder_of(level.array),
            f"{there.size} chunks, of which {int(there.sum())} are there (if the store leaves out empty "
            "ones, say 'zeros' in the column missing_chunks)",
        )


def _described(path: Path) -> dict[str, OmeImage]:
    """Images of the OME-XML that bioformats2raw keeps, by the path of each image below ``path``, which may be
    that of one image or its array.
    """
    store = next((p for p in (path, *path.parents[:DEEPEST]) if (p / BIOFORMATS_XML).is_file()), None)
    if store is None:
        return {}
    images = ome_images((store / BIOFORMATS_XML).read_text(encoding="utf-8"), f"OME-XML of {store.name}")
    listed = _series(zarr.open_group(store, mode="r"))
    names = listed or [str(number) for number in range(len(images))]
    inside = f"{path.relative_to(store).as_posix()}/"
    return {
        "" if inside.startswith(f"{name}/") else name: image
        for name, image in zip(names, images, strict=False)
        if inside == "./" or inside.startswith(f"{name}/")
    }


def _series(group: Any) -> list[str]:
    """Paths of the images of a bioformats2raw collection, in the order of its OME-XML, if it lists them."""
    listed = _ome_attributes(group["OME"]).get("series") if "OME" in group else None
    return [str(name) for name in listed or []]


def _metadata(level: _Level, origin: str) -> FileMetadata:
    """What ``multiscales`` says: the scale of the first level times the one that all levels share."""
    axes = level.axes
    scale = dict.fromkeys(axes, 1.0)
    stated = False
    for holder in (level.dataset, level.multiscale):
        for transform in holder.get("coordinateTransformations") or []:
            if transform.get("type") == "scale":
                stated = True
                factors = transform.get("scale") or []
                if len(factors) != len(axes):
                    raise _broken(folder_of(level.array), f"a scale of {len(factors)} numbers")
                scale = {axis: scale[axis] * s for axis, s in zip(axes, factors, strict=True)}
    named = level.multiscale.get("axes", [])
    units = {
        axis: about.get("unit") if isinstance(about, dict) else None
        for axis, about in zip(axes, named, strict=False)
    }

    def along(axis: str, per_unit: Mapping[str, float]) -> float | None:
        return quantity(scale.get(axis), units.get(axis), per_unit) if stated else None

    return FileMetadata(
        pixel_um=along("X", UM_PER_UNIT),
        pixel_y_um=along("Y", UM_PER_UNIT),
        plane_spacing_um=along("Z", UM_PER_UNIT),
        interval_s=along("T", S_PER_UNIT),
        origin=origin,
    )


class ZarrReader:
    """Reads stacks of one store by the words of `_where`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._arrays: dict[str, Any] = {}

    def read(self, where: str, region: Region = WHOLE) -> np.ndarray:
        name, axes, place = self._parsed(where)
        chosen: dict[str, int | slice] = place | dict(zip("ZYX", region, strict=True))
        with Readable(self.path):
            array = self._array(name)
            try:
                part = np.asarray(array[tuple(chosen[axis] for axis in axes)])
            except Exception as error:
                raise self._damaged(where, error) from error
        kept = [axis for axis in axes if axis in "ZYX"]
        part = part.transpose([kept.index(axis) for axis in "ZYX" if axis in kept])
        part = part[None][region[0]] if "Z" not in axes else part
        return np.ascontiguousarray(part, part.dtype.newbyteorder("="))

    def stamp(self, where: str) -> str:
        """Number and latest change of the chunk files of one stack."""
        name, _, _ = self._parsed(where)
        array = self._array(name)
        root = folder_of(array)
        files = [root / array.metadata.encode_chunk_key(key) for key in self._chunks(where)]
        changes = [status.st_mtime_ns for file in files if (status := _status(file))]
        return f"{len(changes)}:{max(changes, default=0)}"

    def _chunks(self, where: str) -> Iterator[tuple[int, ...]]:
        """Places of the chunk files of one stack."""
        name, axes, place = self._parsed(where)
        array = self._array(name)
        shape = array.shards or array.chunks
        spans = [
            [place[axis] // chunk] if axis in place else range(-(-length // chunk))
            for axis, length, chunk in zip(axes, array.shape, shape, strict=True)
        ]
        yield from itertools.product(*spans)

    def _damaged(self, where: str, error: Exception) -> BadInputError:
        """Which chunk of a stack cannot be read, by trying each."""
        name, _, place = self._parsed(where)
        array = self._array(name)
        shape = array.shards or array.chunks
        bad = where
        for key in self._chunks(where):
            try:
                array[tuple(slice(n * size, (n + 1) * size) for n, size in zip(key, shape, strict=True))]
            except Exception:
                bad = array.metadata.encode_chunk_key(key)
                break
        return BadInputError(
            folder_of(array) / bad,
            found=f"a chunk of time {place['T']}, channel {place['C']} that cannot be read "
            f"({type(error).__name__}: {error})",
            expected="a whole chunk",
            remedy="Copy it again from the microscope, or set on_bad_frame: skip.",
        )

    def _array(self, name: str) -> Any:
        if name not in self._arrays:
            node: Any = zarr.open(self.path, mode="r")
            self._arrays[name] = node if name == "." else node[name]
        return self._arrays[name]

    @staticmethod
    def _parsed(where: str) -> tuple[str, str, dict[str, int]]:
        match = re.fullmatch(r"(.+) ([tczyx]+) t=(\d+) c=(\d+)", where)
        if match is None:
            raise ValueError(f"not a place in a Zarr store: {where}")
        return match[1], match[2].upper(), {"T": int(match[3]), "C": int(match[4])}


def _status(file: Path) -> os.stat_result | None:
    try:
        return file.stat()
    except FileNotFoundError:
        return None
