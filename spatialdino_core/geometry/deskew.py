"""Resample raw stacks of one channel onto the movie's output grid.

What a frame needs is worked out once per channel; then of every frame only that block is read, and its camera
is undone, it is resampled and projected in one pass over slabs.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from spatialdino_core.errors import BadInputError
from spatialdino_core.geometry.background import estimate_background
from spatialdino_core.geometry.bad_pixels import Repair
from spatialdino_core.geometry.camera import Camera
from spatialdino_core.geometry.grid import OutputGrid
from spatialdino_core.geometry.registration import registered_map
from spatialdino_core.kernels.combine import Projections, Stack, combine
from spatialdino_core.kernels.combine_affine import combine_affine
from spatialdino_core.kernels.fourier_shear import shear_fourier
from spatialdino_core.kernels.taps import Taps, make_taps
from spatialdino_core.movies.formats.image import Region

ORDERS = {"linear": 1, "cubic": 3}


@dataclass(frozen=True)
class DeskewedFrame:
    """One resampled frame of one channel.

    Attributes
    ----------
    voxels
        uint16 (z, y, x) of the grid's shape.
    along_z, along_y, along_x
        Maximum projections, uint16 (y, x), (z, x) and (z, y); no lower than the fill value.
    fill
        Value of voxels without data, counts.
    """

    voxels: NDArray[np.uint16]
    along_z: NDArray[np.uint16]
    along_y: NDArray[np.uint16]
    along_x: NDArray[np.uint16]
    fill: int


@dataclass(frozen=True, kw_only=True, eq=False)
class Deskew:
    """Resampling of one channel of a movie.

    Attributes
    ----------
    grid
        The voxels to make.
    interpolation
        ``linear``, ``cubic`` or ``fft``.
    fill
        ``background`` or counts.
    camera
        What the camera did.
    no_data
        Value of voxels of the raw stack that hold no data, and get the fill; ``None``: all hold data.
    registration
        4 × 4, from the first channel to this one; ``None`` for the first channel itself.
    device
        Where to compute; registered channels are computed on the CPU.
    threads
        At most so many on the CPU; ``None``: all cores of the process.
    """

    grid: OutputGrid
    interpolation: str = "cubic"
    fill: str | float = "background"
    camera: Camera = field(default_factory=Camera)
    no_data: int | None = None
    registration: NDArray[np.float64] | None = None
    device: torch.device | str = "cpu"
    threads: int | None = None

    @cached_property
    def _taps(self) -> Taps:
        return make_taps(self.grid.plane_map, ORDERS[self.interpolation])

    @cached_property
    def _repair(self) -> Repair:
        """Of the bad pixels of the block, from its good ones."""
        bad = self.camera.bad
        return Repair(()) if bad is None else Repair.of(bad[self.region[1:]])

    @property
    def _planewise(self) -> bool:
        """Whether all that is needed is a block of the raw stack that the grid knows beforehand."""
        return self.registration is None and self.interpolation != "fft"

    @property
    def region(self) -> Region:
        """Block (z, y, x) of the raw stack, as recorded, that frames are to be read from."""
        return self.camera.region(self.oriented_region, self.grid.raw_shape)

    @property
    def oriented_region(self) -> Region:
        """The same block as the camera saw it, its mirroring undone."""
        grid = self.grid
        whole = (slice(0, grid.raw_shape[0]), slice(0, grid.raw_shape[1]), slice(0, grid.raw_shape[2]))
        if self.registration is not None:
            return whole
        batch = slice(grid.batch.start, grid.batch.stop)
        planes, pixels = (
            self._taps.block if self._planewise else (whole[0], whole[grid.geometry.skew_dimension])
        )
        return (planes, batch, pixels) if grid.pixel_last else (planes, pixels, batch)

    def __call__(self, raw: NDArray[np.uint16]) -> DeskewedFrame:
        """Resample one frame.

        Parameters
        ----------
        raw
            uint16 (plane, y, x): the ``region`` of the raw stack.

        Raises
        ------
        BadInputError
            If ``raw`` is not such a block.
        """
        self._check(raw)
        fill = self._fill(raw)
        if self.no_data is not None:
            raw = np.where(raw == self.no_data, np.uint16(fill), raw)
        stack = self.camera.oriented(self._repair(raw))
        if self.registration is not None:
            return self._registered(stack, fill)
        options: dict[str, Any] = {
            "pixel_last": self.grid.pixel_last,
            "correction": self._correction if self.camera.dark is not None else None,
            "device": self.device,
        }
        if self.interpolation == "fft":
            return self._frame(*shear_fourier(stack, self.grid.plane_map, fill, **options), fill)
        return self._frame(*combine(stack, self._taps, fill, threads=self.threads, **options), fill)

    def _check(self, raw: NDArray[Any]) -> None:
        expected = tuple(s.stop - s.start for s in self.region)
        if raw.shape != expected or raw.dtype != np.uint16:
            raise BadInputError(
                "raw stack",
                found=f"{raw.dtype} array of shape {raw.shape}",
                expected=f"uint16 (plane, y, x) of shape {expected}",
                remedy="Convert the movie to one uint16 stack per frame and channel.",
            )

    def _fill(self, raw: NDArray[np.uint16]) -> int:
        value = estimate_background(raw, self.no_data) if self.fill == "background" else float(self.fill)
        return round(value)

    def _correction(self, part: Stack, low: int) -> NDArray[np.float32]:
        """Counts of a part that begins at ``low`` of the batch axis of the block."""
        _, y, x = self.oriented_region
        if self.grid.pixel_last:
            y = slice(y.start + low, y.start + low + part.shape[1])
        else:
            x = slice(x.start + low, x.start + low + part.shape[2])
        return self.camera.corrected(part, y, x)

    def _registered(self, stack: Stack, fill: int) -> DeskewedFrame:
        assert self.registration is not None
        grid = self.grid
        if self.camera.dark is not None:
            stack = self.camera.corrected(stack, slice(None), slice(None))
        rows, columns = grid.plane_map.shape
        out = combine_affine(
            stack if grid.pixel_last else stack.swapaxes(1, 2),
            registered_map(grid, self.registration),
            grid.plane_map.shear,
            ORDERS[self.interpolation],
            grid.plane_map.reversed_planes,
            fill,
            (rows, len(grid.batch), columns),
            threads=self.threads,
        )
        projections = Projections(*(np.maximum(out.max(axis), fill).astype(np.uint16) for axis in range(3)))
        return self._frame(out if grid.pixel_last else out.swapaxes(1, 2), projections, fill)

    def _frame(self, voxels: NDArray[np.uint16], projections: Projections, fill: int) -> DeskewedFrame:
        along_k, along_batch, along_i = projections.arrays
        if self.grid.pixel_last:
            return DeskewedFrame(voxels, along_k, along_batch, along_i, fill)
        return DeskewedFrame(voxels, along_k.T, along_i, along_batch, fill)
