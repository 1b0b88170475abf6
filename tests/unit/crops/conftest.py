"""Small deskewed movies."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest

from spatialdino_core.geometry.parameters import DeskewParameters
from spatialdino_core.geometry.scan import ScanGeometry
from spatialdino_core.movies.stage_record import StageRecord
from spatialdino_core.movies.store import FrameStore, StoreLayout

STEP_UM, PIXEL_UM = 0.25, 0.104


def write_movie(folder: Path, frames: Sequence[np.ndarray], channels: Sequence[str] = ("488nm",)) -> Path:
    """A finished deskewed movie of an upright scan; its completion record.

    Parameters
    ----------
    frames
        Each uint16 (c, z, y, x).
    """
    shape = frames[0].shape
    geometry = ScanGeometry(scan="none", step_um=STEP_UM, pixel_um=PIXEL_UM)
    layout = StoreLayout(
        shape_czyx=shape,
        dtype="uint16",
        voxel_um=(STEP_UM, PIXEL_UM, PIXEL_UM),
        interval_s=2.0,
        channels=tuple(channels),
    )
    store = FrameStore.prepare(folder / "deskewed.ome.zarr", layout, len(frames), {})
    checksums = {frame: store.write(frame, data) for frame, data in enumerate(frames)}
    about = {
        "geometry": asdict(geometry),
        "acquisition": {"interval_s": 2.0},
        "raw_shape_zyx": list(shape[1:]),
        "parameters": asdict(DeskewParameters()),
        "roi_um": None,
    }
    record = StageRecord(stores=["deskewed.ome.zarr"], checksums=checksums, skipped={}, about=about)
    record.write(folder / "deskewed.json")
    return folder / "deskewed.json"


@pytest.fixture
def movie(tmp_path: Path) -> Callable[..., Path]:
    """Writes a deskewed movie."""

    def make(frames: Sequence[np.ndarray], name: str = "cell-1", **settings: Sequence[str]) -> Path:
        return write_movie(tmp_path / name, frames, **settings)

    return make
