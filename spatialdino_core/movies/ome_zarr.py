"""Raw movies in OME-Zarr stores, versions 0.4 and 0.5, read at full resolution."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import zarr

from spatialdino_core.movies.source import (
    S_PER_UNIT,
    UM_PER_UNIT,
    WHOLE,
    FileMetadata,
    Readable,
    Region,
    pick_channel,
    quantity,
)


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
            names = tuple(c.get("label", "") for c in ome.get("omero", {}).get("channels", []))
            said = _metadata(image, self._axes, names, f"OME-Zarr metadata of {path.name}")
        self.metadata = (said,)
        self._channel = pick_channel(path, self._axis("C"), names, channel, channel_index)

    def _axis(self, name: str) -> int:
        return self._array.shape[self._axes.index(name)] if name in self._axes else 1

    def __len__(self) -> int:
        return self._axis("T")

    def read(self, frame: int, region: Region = WHOLE) -> np.ndarray:
        chosen: dict[str, int | slice] = {"T": frame, "C": self._channel}
        chosen |= dict(zip("ZYX", region, strict=True))
        with Readable(self.path):
            return np.asarray(self._array[tuple(chosen[axis] for axis in self._axes)])

    def describe(self, frame: int) -> tuple[tuple[int, ...], np.dtype[Any]]:
        return tuple(self._axis(axis) for axis in "ZYX"), self._array.dtype

    def stamp(self, frame: int) -> str | None:
        members = [p for p in sorted(self.path.rglob("*")) if p.is_file()]
        return f"{len(members)}:{max(p.stat().st_mtime_ns for p in members)}"


def _metadata(image: Any, axes: str, channels: tuple[str, ...], origin: str) -> FileMetadata:
    """What ``multiscales`` says: the scale of the first level times the one that all levels share."""
    scale = dict.fromkeys(axes, 1.0)
    stated = False
    for holder in (image["datasets"][0], image):
        for transform in holder.get("coordinateTransformations", []):
            if transform["type"] == "scale":
                stated = True
                scale = {axis: scale[axis] * s for axis, s in zip(axes, transform["scale"], strict=True)}
    units = {name: axis.get("unit") for name, axis in zip(axes, image["axes"], strict=True)}

    def along(axis: str, per_unit: dict[str, float]) -> float | None:
        return quantity(scale.get(axis), units.get(axis), per_unit) if stated else None

    return FileMetadata(
        pixel_um=along("X", UM_PER_UNIT),
        pixel_y_um=along("Y", UM_PER_UNIT),
        plane_spacing_um=along("Z", UM_PER_UNIT),
        interval_s=along("T", S_PER_UNIT),
        channels=channels,
        origin=origin,
    )
