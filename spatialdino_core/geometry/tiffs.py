"""Deskewed frames as calibrated OME-TIFF files, for programs that do not read OME-Zarr. On request only."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tifffile
from numpy.typing import NDArray

from spatialdino_core.files import published


@dataclass(frozen=True)
class TiffFolder:
    """One OME-TIFF per frame, axes C, Z, Y, X.

    Attributes
    ----------
    folder
        Where the files go.
    movie
        Identifier, the beginning of each name.
    channels
        Channel names.
    voxel_um
        Voxel size (z, y, x), µm.
    """

    folder: Path
    movie: str
    channels: Sequence[str]
    voxel_um: tuple[float, float, float]

    def path(self, frame: int) -> Path:
        """File of a frame."""
        return self.folder / f"{self.movie}_t{frame:04d}.ome.tif"

    def write(self, frame: int, channels: Sequence[NDArray[np.uint16]]) -> None:
        """Publish the file of a frame; each channel is (z, y, x)."""
        z, y, x = self.voxel_um
        units = {f"PhysicalSize{axis}Unit": "µm" for axis in "XYZ"}
        sizes = {"PhysicalSizeX": x, "PhysicalSizeY": y, "PhysicalSizeZ": z}
        with published(self.path(frame)) as temporary:
            tifffile.imwrite(
                temporary,
                np.stack(channels),
                photometric="minisblack",
                ome=True,
                metadata={"axes": "CZYX", "Channel": {"Name": list(self.channels)}, **sizes, **units},
            )
