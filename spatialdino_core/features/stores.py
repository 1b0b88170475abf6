"""The two stores of a movie's features, and the features of objects out of them.

Chunks of ``features.zarr`` hold all components of 16³ patches: those of an object lie in one, rarely two.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray
from scipy.ndimage import map_coordinates

from spatialdino_core.features.encoding import MovieEncoder
from spatialdino_core.movies.part import WHOLE, Part
from spatialdino_core.movies.store import FrameStore, StoreLayout, checksum
from spatialdino_core.parameters import digest

FEATURES, FOREGROUND = "features.zarr", "foreground.ome.zarr"
CLASS_TOKENS = "class_tokens"
MAPS = ("activation", "foreground")


@dataclass(frozen=True)
class FeatureStores:
    """Where the results of a movie are written, frame by frame.

    Attributes
    ----------
    features
        Components, or all features, (t, K, gz, gy, gx) float16; beside them, as array ``class_tokens`` of the
        same group, the class token of each frame (t, D) float32.
    foreground
        Activation and foreground probability, (t, 2, gz, gy, gx) float16.
    """

    features: FrameStore
    foreground: FrameStore

    @classmethod
    def prepare(
        cls, folder: Path, encoder: MovieEncoder, about: dict[str, Any], part: Part = WHOLE
    ) -> FeatureStores:
        """Open both for writing what belongs to a part; ``about`` is kept in their attributes."""
        movie, model = encoder.movie, encoder.model
        everything = model.parameters.keep == "all"
        width = model.header.architecture.embed_dim
        stored = width if everything else model.components
        prefix = "token" if everything else "component"
        names = tuple(f"{prefix}_{number}" for number in range(stored))
        z, y, x = (a + b for a, b in zip(movie.store.origin_um, model.origin_um, strict=True))

        def layout(channels: tuple[str, ...], kind: str) -> StoreLayout:
            return StoreLayout(
                shape_czyx=(len(channels), *encoder.valid.shape),
                dtype="float16",
                voxel_um=model.spacing_um,
                origin_um=(z, y, x),
                interval_s=movie.interval_s,
                channels=channels,
                kind=kind,
            )

        stores = cls(
            FrameStore.prepare(folder / FEATURES, layout(names, "features"), movie.frames, about, part),
            FrameStore.prepare(folder / FOREGROUND, layout(MAPS, "map"), movie.frames, about, part),
        )
        if part.prepares:
            _prepare_class_tokens(folder / FEATURES, movie.frames, width)
        return stores

    @classmethod
    def open(cls, folder: Path) -> FeatureStores:
        """Open both for writing by another process than the one that prepared them."""
        return cls(FrameStore(folder / FEATURES, "r+"), FrameStore(folder / FOREGROUND, "r+"))

    def has(self, frame: int) -> bool:
        """Whether the frame was written."""
        return self.features.has(frame) and self.foreground.has(frame)

    def write(
        self,
        frame: int,
        features: NDArray[np.float16],
        maps: NDArray[np.float16],
        class_token: NDArray[np.float32],
    ) -> str:
        """Write a frame; the digest of all that was written."""
        array: Any = zarr.open_group(self.features.path, mode="r+")[CLASS_TOKENS]
        array[frame] = class_token
        sums = [self.features.write(frame, features), self.foreground.write(frame, maps)]
        return digest(sums, checksum(class_token))


def _prepare_class_tokens(path: Path, frames: int, width: int) -> None:
    group = zarr.open_group(path, mode="r+")
    if CLASS_TOKENS not in group:
        array: Any = group.create_array(
            CLASS_TOKENS, shape=(frames, width), chunks=(1, width), dtype="float32", fill_value=np.nan
        )
    else:
        array = group[CLASS_TOKENS]
        array.resize((frames, width))


def class_tokens(path: Path | str) -> NDArray[np.float32]:
    """Class tokens (t, D) of a movie from its ``features.zarr``; NaN in frames without features."""
    return np.asarray(zarr.open_group(path, mode="r")[CLASS_TOKENS], dtype=np.float32)


def object_features(store: FrameStore, frame: int, position_um: NDArray[Any]) -> NDArray[np.float32]:
    """Features of objects: linear interpolation between the patches around their positions.

    Parameters
    ----------
    store
        An opened ``features.zarr``.
    frame
        Number of the frame.
    position_um
        (n, 3) z, y, x in the deskewed frame, µm, as in ``objects.parquet``. Beyond the outer patch centres
        the outer patches count.

    Returns
    -------
    numpy.ndarray
        (n, K) float32, of patches that have data; 0 where none is near. Only the part of the frame between
        the objects is read.
    """
    if not len(position_um):
        return np.empty((0, store.shape[1]), np.float32)
    last = np.array(store.shape[2:]) - 1
    place = np.clip((np.asarray(position_um) - store.origin_um) / store.voxel_um, 0, last)
    low = np.floor(place.min(axis=0)).astype(int)
    high = np.ceil(place.max(axis=0)).astype(int) + 1
    region = tuple(slice(a, b) for a, b in zip(low.tolist(), high.tolist(), strict=True))
    nearby = store.read(frame, slice(None), region).astype(np.float32)
    within = (place - low).T
    has_data = (nearby != 0).any(axis=0).astype(np.float32)
    weight = map_coordinates(has_data, within, order=1, mode="nearest")
    found = np.stack([map_coordinates(each, within, order=1, mode="nearest") for each in nearby], axis=1)
    return np.asarray(found / np.maximum(weight, 1e-6)[:, None], dtype=np.float32)
