"""Features of objects, read from a store by those who did not compute them."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from spatialdino_core.movies.features import object_features
from spatialdino_core.movies.store import FrameStore, StoreLayout


def test_patches_without_data_are_no_part_of_an_object(tmp_path: Path) -> None:
    layout = StoreLayout(
        shape_czyx=(2, 2, 2, 3),
        dtype="float16",
        voxel_um=(1.0, 1.0, 1.0),
        interval_s=None,
        channels=("component_0", "component_1"),
        kind="features",
    )
    store = FrameStore.prepare(tmp_path / "features.zarr", layout, 1, {})
    data = np.zeros((2, 2, 2, 3), np.float16)
    data[0, ..., 1:], data[1, ..., 1:] = 4, -2
    store.write(0, data)
    assert store.has(0)
    found = object_features(store, 0, np.array([[0.5, 0.5, 0.3], [0, 0, 1.7], [1, 1, 0]]))
    np.testing.assert_allclose(found, [[4, -2], [4, -2], [0, 0]], atol=1e-3)
