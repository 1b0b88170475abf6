"""A deskewed movie as the later stages see it: frames, voxel size and where there are data."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spatialdino_core.errors import BadInputError
from spatialdino_core.geometry.grid import OutputGrid, output_grid
from spatialdino_core.geometry.scan import ScanGeometry
from spatialdino_core.movies.stage_record import StageRecord
from spatialdino_core.movies.store import AGAIN, FrameStore, checksum

VALID = "valid.ome.zarr"
PROJECTIONS = {axis: f"projections/along_{axis}.ome.zarr" for axis in "zyx"}


def recorded_grid(about: dict[str, Any]) -> OutputGrid:
    """The output grid that a completion record or a store's attributes describe."""
    parameters = about["parameters"]
    return output_grid(
        ScanGeometry(**about["geometry"]),
        about["raw_shape_zyx"],
        frame=parameters["frame"],
        isotropic=parameters["isotropic"],
        crop=parameters["crop"],
        roi_um=about["roi_um"],
        grid_offset_um=parameters["grid_offset_um"],
    )


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
    grid
        Where they lie, in the output frame and in the raw stack.
    mask
        Bool, broadcasts to (z, y, x): True where the raw stack was sampled and had data, False in the fill of
        the box. Of length 1 along an axis on which it does not depend.
    valid
        The same, (z, y, x).
    """

    def __init__(self, record: Path | str) -> None:
        self.folder = Path(record).parent
        self.record = StageRecord.read(record)
        self.store = FrameStore.recorded(self.folder, self.record, 0)
        self.grid = recorded_grid(self.record.about)
        self.mask = self.grid.valid
        if "no_data" in self.record.about:
            self.mask = self.mask & self._with_data(self.record.about["no_data"]["checksum"])
        self.valid = np.broadcast_to(self.mask, self.store.shape[2:])

    def _with_data(self, written: str) -> NDArray[np.bool_]:
        """Where all frames have data, (z, y, x), as the stage found it."""
        found = FrameStore(self.folder / VALID).read(0, slice(None))
        if checksum(found) != written:
            raise BadInputError(
                self.folder / VALID, found="another mask", expected="what the stage wrote", remedy=AGAIN
            )
        return found[0].astype(bool)

    def raw_voxels(self, position_um: NDArray[np.float64]) -> NDArray[np.float64]:
        """Where positions of tracks (z_um, y_um, x_um) lie in the raw stack: (plane, y, x), voxels from 0."""
        return self.grid.raw_voxels(position_um)

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
