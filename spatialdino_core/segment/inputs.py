"""What every function of this room accepts: checks of a frame and its companions, sampling them at points."""

from __future__ import annotations

import numpy as np

from spatialdino_core.errors import BadInputError
from spatialdino_core.features.grid import VoxelMap

Voxel = tuple[float, float, float]
Foreground = np.ndarray | VoxelMap
"""Foreground probability (z, y, x) on the frame's grid, within 0..1."""


def check_frame(
    frame: np.ndarray,
    voxel_um: Voxel,
    valid: np.ndarray | None,
    foreground: Foreground | None,
    where: str,
) -> None:
    """Refuse a frame that is not 3D, a bad voxel size, and companions that do not fit the frame.

    Raises
    ------
    BadInputError
        Naming ``where``. NaN is looked for later, when the voxels are read anyway.
    """
    if frame.ndim != 3 or 0 in frame.shape:
        raise BadInputError(
            where,
            found=f"an array of shape {frame.shape}",
            expected="a frame with the axes (z, y, x)",
            remedy="Pass one frame and one channel at a time.",
        )
    if len(voxel_um) != 3 or not all(np.isfinite(size) and size > 0 for size in voxel_um):
        raise BadInputError(
            where,
            found=f"voxel size {voxel_um}",
            expected="three positive lengths (z, y, x) in µm",
            remedy="Correct the movie's metadata or its row in the sample sheet.",
        )
    _check_shape(frame, foreground, "foreground probability", where, broadcast=False)
    _check_shape(frame, valid, "validity mask", where, broadcast=True)


def values_at(volume: Foreground | None, position: np.ndarray) -> np.ndarray:
    """Values of ``volume`` (z, y, x) at the voxels nearest to ``position`` (n, 3); empty without a volume."""
    if volume is None:
        return np.empty(0)
    nearest = np.clip(np.round(position).astype(np.intp), 0, np.array(volume.shape) - 1)
    return volume[tuple(nearest.T)]


def _check_shape(
    frame: np.ndarray, companion: Foreground | None, name: str, where: str, *, broadcast: bool
) -> None:
    if companion is None:
        return
    fits = len(companion.shape) == 3 and all(
        have == want or (broadcast and have == 1)
        for have, want in zip(companion.shape, frame.shape, strict=True)
    )
    if not fits:
        raise BadInputError(
            where,
            found=f"a {name} of shape {companion.shape}",
            expected=f"the shape of the frame, {frame.shape}"
            + (", or 1 along some axes" if broadcast else ""),
            remedy="Resample it to the frame's grid.",
        )
