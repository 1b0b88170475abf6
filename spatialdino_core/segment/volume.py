"""A frame and what is known of it: its intensities, which of them are valid, the size of a voxel, its name.

Not how frames are read and averaged: that is :mod:`.detect.window`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from spatialdino_core.errors import BadInputError
from spatialdino_core.features.grid import VoxelMap

Voxel = tuple[float, float, float]
Triple = tuple[int, int, int]
Box = tuple[slice, slice, slice]
Foreground = np.ndarray | VoxelMap
"""Foreground probability (z, y, x) on the frame's grid, within 0..1."""


@dataclass(frozen=True, eq=False)
class Volume:
    """A frame, or a weighted sum of several frames.

    Attributes
    ----------
    image
        Intensities (z, y, x), any real dtype.
    voxel_um
        Voxel size (z, y, x) in µm.
    valid
        Boolean mask broadcastable to ``image``, e.g. (z, 1, x) of a deskewed frame, or None when all is
        valid. Invalid voxels may hold anything.
    name
        For error messages.

    Raises
    ------
    BadInputError
        If the image is not 3D, the voxel size bad, or the mask of another shape. NaN is looked for later,
        when the voxels are read anyway.
    """

    image: np.ndarray
    voxel_um: Voxel
    valid: np.ndarray | None = None
    name: str = "frame"

    def __post_init__(self) -> None:
        if self.image.ndim != 3 or 0 in self.image.shape:
            raise BadInputError(
                self.name,
                found=f"an array of shape {self.image.shape}",
                expected="a frame with the axes (z, y, x)",
                remedy="Pass one frame and one channel at a time.",
            )
        if len(self.voxel_um) != 3 or not all(np.isfinite(size) and size > 0 for size in self.voxel_um):
            raise BadInputError(
                self.name,
                found=f"voxel size {self.voxel_um}",
                expected="three positive lengths (z, y, x) in µm",
                remedy="Correct the movie's metadata or its row in the sample sheet.",
            )
        if self.valid is not None:
            lengths = zip(self.valid.shape, self.shape, strict=False)
            fits = tuple(1 if have == 1 else want for have, want in lengths)
            self._check_shape(self.valid, fits, "validity mask", ", or 1 along some axes")

    @property
    def shape(self) -> Triple:
        """Voxels along z, y and x."""
        z, y, x = self.image.shape
        return z, y, x

    @cached_property
    def level(self) -> float:
        """A constant near the valid intensities, from a sparse sample: less it, float32 has more digits."""
        sparse = (slice(None, None, 4), slice(None, None, 8), slice(None, None, 8))
        sample = self.image[sparse]
        if self.valid is not None:
            sample = sample[np.broadcast_to(self.valid, self.shape)[sparse]]
        finite = sample[np.isfinite(sample)]
        return float(np.median(finite)) if finite.size else 0.0

    def known(self, box: Box) -> np.ndarray:
        """Which voxels of ``box`` are valid: a boolean array of its shape."""
        return np.broadcast_to(True if self.valid is None else self.valid, self.shape)[box]

    def known_at(self, position: np.ndarray) -> np.ndarray:
        """Whether the voxels nearest to positions (n, 3), z, y, x, are valid: bool (n,)."""
        if self.valid is None:
            return np.ones(len(position), bool)
        return values_at(np.broadcast_to(self.valid, self.shape), position)

    def contains(self, position: np.ndarray) -> np.ndarray:
        """Whether positions (n, 3) lie in the frame, and are valid there: bool (n,)."""
        inside = ((position >= -0.5) & (position <= np.array(self.shape) - 0.5)).all(axis=1)
        return np.asarray(inside & self.known_at(position))

    def with_image(self, image: np.ndarray) -> Volume:
        """The same with other intensities."""
        return replace(self, image=image)

    def check_foreground(self, foreground: Foreground) -> None:
        """Refuse a foreground probability of another grid."""
        self._check_shape(foreground, self.shape, "foreground probability")

    def _check_shape(self, map_: Foreground, wanted: tuple[int, ...], kind: str, or_: str = "") -> None:
        if tuple(map_.shape) != wanted or len(wanted) != 3:
            raise BadInputError(
                self.name,
                found=f"a {kind} of shape {map_.shape}",
                expected=f"the shape of the frame, {self.shape}{or_}",
                remedy="Resample it to the frame's grid.",
            )


def values_at(volume: Foreground | None, position: np.ndarray) -> np.ndarray:
    """Values of ``volume`` (z, y, x) at the voxels nearest to ``position`` (n, 3); empty without a volume."""
    if volume is None:
        return np.empty(0)
    nearest = np.clip(np.round(position).astype(np.intp), 0, np.array(volume.shape) - 1)
    return volume[tuple(nearest.T)]
