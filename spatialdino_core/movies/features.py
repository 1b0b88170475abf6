"""The features of a movie as those meet them who did not compute them: names of stores, features of objects.

Chunks of ``features.zarr`` hold all components of 16³ patches: those of an object lie in one, rarely two.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import map_coordinates

from spatialdino_core.movies.store import FrameStore

FEATURES, FOREGROUND = "features.zarr", "foreground.ome.zarr"
MAPS = ("activation", "foreground")


def class_tokens(path: Path | str) -> NDArray[np.float32]:
    """Class tokens (t, D) of a movie from its ``features.zarr``; NaN in frames without features."""
    return FrameStore(path).class_tokens()


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
