"""Raw movies in OME-Zarr stores, versions 0.4 and 0.5, read at full resolution."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import zarr

from spatialdino_core.movies.source import S_PER_UNIT, UM_PER_UNIT, FileMetadata, Readable, pick_channel


class OmeZarr:
    """An OME-Zarr image (0.4 or 0.5), full resolution."""

    def __init__(self, path: Path, channel: str, channel_index: int) -> None:
        self.path = path
        with Readable(path):
            group = zarr.open_group(path, mode="r")
            attributes = dict(group.attrs)
            ome: Any = attributes.get("ome", attributes)
            image = ome["multiscales"][0]
            self._array: Any = group[image["datasets"][0]["path"]]
        self._axes = "".join(axis["name"].upper() for axis in image["axes"])
        scale = _zarr_scale(image)
        units = [axis.get("unit") for axis in image["axes"]]
        names = tuple(c.get("label", "") for c in ome.get("omero", {}).get("channels", []))
        self.metadata = FileMetadata(
            pixel_um=_length(scale, units, self._axes, "X"),
            plane_spacing_um=_length(scale, units, self._axes, "Z"),
            interval_s=_duration(scale, units, self._axes),
            channels=names,
            origin=f"OME-Zarr metadata of {path.name}",
        )
        self._channel = pick_channel(path, self._axis("C"), names, channel, channel_index)

    def _axis(self, name: str) -> int:
        return self._array.shape[self._axes.index(name)] if name in self._axes else 1

    def __len__(self) -> int:
        return self._axis("T")

    def read(self, frame: int) -> np.ndarray:
        index = tuple({"T": frame, "C": self._channel}.get(axis, slice(None)) for axis in self._axes)
        with Readable(self.path):
            return np.asarray(self._array[index])

    def describe(self, frame: int) -> tuple[tuple[int, ...], np.dtype[Any]]:
        return tuple(self._axis(axis) for axis in "ZYX"), self._array.dtype

    def stamp(self, frame: int) -> str | None:
        members = [p for p in sorted(self.path.rglob("*")) if p.is_file()]
        return f"{len(members)}:{max(p.stat().st_mtime_ns for p in members)}"


def _zarr_scale(image: Any) -> list[float]:
    transforms = image["datasets"][0].get("coordinateTransformations", [])
    return next((t["scale"] for t in transforms if t["type"] == "scale"), [])


def _length(scale: Sequence[float], units: Sequence[str | None], axes: str, axis: str) -> float | None:
    position = axes.find(axis)
    unit = units[position] if 0 <= position < len(scale) else None
    return scale[position] * UM_PER_UNIT[unit] if unit in UM_PER_UNIT else None


def _duration(scale: Sequence[float], units: Sequence[str | None], axes: str) -> float | None:
    position = axes.find("T")
    unit = units[position] if 0 <= position < len(scale) else None
    return scale[position] * S_PER_UNIT[unit] if unit in S_PER_UNIT else None
