"""A deskewed movie as the later stages see it: frames, voxel size and where there are data."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from spatialdino_core.geometry.deskew import valid_range
from spatialdino_core.geometry.scan import ScanGeometry
from spatialdino_core.movies.ledger import StageRecord
from spatialdino_core.movies.store import FrameStore


class DeskewedMovie:
    """A finished deskewed movie.

    Parameters
    ----------
    record
        Path of the completion record of the deskew stage.

    Attributes
    ----------
    record
        Frames, checksums and what they depend on.
    store
        Voxels, uint16 (t, c, z, y, x). The first channel is the one that is segmented and tracked.
    valid
        Bool (z, y, x): True where the raw stack was sampled, False in the fill of the sheared box.
    """

    def __init__(self, record: Path | str) -> None:
        self.folder = Path(record).parent
        self.record = StageRecord.read(record)
        self.store = FrameStore(self.folder / self.record.stores[0])
        about = self.record.about
        z, y, x = about["raw_shape_zyx"]
        geometry = ScanGeometry(**about["geometry"])
        mask = valid_range(geometry, (z, y, x), about["parameters"]["grid_offset_um"])
        self.valid = np.broadcast_to(mask, self.store.shape[2:])

    @property
    def frames(self) -> int:
        """Number of time points, skipped ones included."""
        return self.store.shape[0]

    @property
    def voxel_um(self) -> tuple[float, float, float]:
        """Voxel size (z, y, x), µm."""
        return self.store.voxel_um

    @property
    def interval_s(self) -> float | None:
        """Time between frames, s; ``None`` for a movie of one frame."""
        interval: float | None = self.record.about["acquisition"]["interval_s"]
        return interval

    def first_frames(self, number: int) -> list[int]:
        """The first frames that were not skipped: what a movie's calibration rests on, so that it
        stays the same when the movie grows."""
        return sorted(self.record.checksums)[:number]
