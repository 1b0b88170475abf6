"""Resampling to isotropic voxels: separable linear interpolation in physical coordinates.

Voxel 0 is centred at 0 µm before and after, so positions in µm do not move: index i of the isotropic
grid lies at ``i * target / voxel`` of the other one. Axes that shrink are smoothed first (anti-aliasing).
Each output voxel is a short weighted sum along each axis, with weights that depend on its position
alone, and a part is computed from all the voxels that its sums need: it has the same bits as within the
whole, on any device.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from spatialdino_core.geometry.resampling import Taps, axis_taps, is_identity, resampled_length

Triple = tuple[float, float, float]
Box = tuple[slice, slice, slice]
Volume = NDArray[Any]

CHUNK_BYTES = 16 * 2**20


def isotropic_shape(shape: tuple[int, ...], voxel_um: Triple, target_um: float) -> tuple[int, int, int]:
    """Shape (z, y, x) of a volume of cubic voxels of ``target_um`` that replaces one of ``shape``.

    Examples
    --------
    Nothing is extrapolated: ten planes span nine spacings.

    >>> isotropic_shape((10, 100, 100), (0.3, 0.1, 0.1), 0.1)
    (28, 100, 100)
    """
    z, y, x = (resampled_length(n, target_um / size) for n, size in zip(shape, voxel_um, strict=True))
    return z, y, x


def resample_isotropic(
    frame: Volume,
    voxel_um: Triple,
    target_um: float,
    *,
    box: Box | None = None,
    chunk_planes: int | None = None,
    device: torch.device | str = "cpu",
) -> NDArray[np.float32]:
    """Resample a volume to cubic voxels; frame and result stay in main memory.

    Parameters
    ----------
    frame
        (z, y, x), of any real dtype.
    voxel_um
        Its voxel size (z, y, x), µm.
    target_um
        Wanted voxel size, µm.
    box
        Part of the isotropic grid that is wanted, as three slices; by default all of it.
    chunk_planes
        Isotropic planes computed at a time; by default as many as 16 MiB hold. No bit depends on it.
    device
        Where chunks are computed.

    Returns
    -------
    ndarray
        float32 (z, y, x); index i along an axis is at i · ``target_um``, where ``box`` begins at 0.
    """
    full = isotropic_shape(frame.shape, voxel_um, target_um)
    box = box or (slice(None), slice(None), slice(None))
    ranges = [range(n)[part] for n, part in zip(full, box, strict=True)]
    ratios = [target_um / size for size in voxel_um]
    taps = [
        axis_taps(part.start, part.stop, n, ratio)
        for part, n, ratio in zip(ranges, frame.shape, ratios, strict=True)
    ]
    out = np.empty([len(part) for part in ranges], np.float32)
    planes = chunk_planes or _planes_within(
        CHUNK_BYTES, max(math.prod(frame.shape[1:]), math.prod(out.shape[1:])), ratios[0]
    )
    memory = _Memory(device)
    for start in range(0, len(out), planes):
        part = slice(start, start + planes)
        in_z = Taps(taps[0].indices[:, part], taps[0].weights[:, part])
        torch.from_numpy(out[part]).copy_(_apply(frame, [in_z, taps[1], taps[2]], memory))
    return out


class _Memory:
    """Buffers that every chunk uses again: on a CPU, new pages would cost more than the sums."""

    def __init__(self, device: torch.device | str) -> None:
        self.device = torch.device(device)
        self._buffers: dict[object, Tensor] = {}

    def take(self, purpose: object, shape: Sequence[int], device: torch.device | str | None = None) -> Tensor:
        """Float32 of this shape, of any content; valid until the next call of the same purpose."""
        voxels = math.prod(shape)
        buffer = self._buffers.get(purpose)
        if buffer is None or len(buffer) < voxels:
            buffer = self._buffers[purpose] = torch.empty(voxels, device=device or self.device)
        return buffer[:voxels].view(*shape)


def _apply(frame: Volume, taps: list[Taps], memory: _Memory) -> Tensor:
    """Read the voxels that the sums need, and no others, and sum along z, y and x in turn."""
    lows = [int(tap.indices.min(initial=n)) for tap, n in zip(taps, frame.shape, strict=True)]
    highs = [int(tap.indices.max(initial=0)) + 1 for tap in taps]
    needed = frame[tuple(itertools.starmap(slice, zip(lows, highs, strict=True)))]
    part = memory.take("needed", needed.shape, "cpu")
    np.copyto(part.numpy(), needed, casting="unsafe")
    part = part.to(memory.device)
    for axis, (tap, low) in enumerate(zip(taps, lows, strict=True)):
        part = _weigh(part, axis, Taps(tap.indices - low, tap.weights), memory)
    return part


def _weigh(volume: Tensor, axis: int, taps: Taps, memory: _Memory) -> Tensor:
    """The weighted sums; multiplied and added in steps of their own, since a fused step rounds otherwise."""
    if is_identity(taps, volume.shape[axis]):
        return volume
    along = [1] * volume.ndim
    along[axis] = -1
    indices = torch.from_numpy(taps.indices).to(volume.device)
    weights = torch.from_numpy(taps.weights).to(volume.device)
    shape = list(volume.shape)
    shape[axis] = indices.shape[1]
    total = torch.index_select(volume, axis, indices[0], out=memory.take(axis, shape))
    total.mul_(weights[0].view(along))
    for number in range(1, len(indices)):
        if taps.weights[number].any():
            term = torch.index_select(volume, axis, indices[number], out=memory.take("term", shape))
            total.add_(term.mul_(weights[number].view(along)))
    return total


def _planes_within(budget_bytes: int, plane_voxels: int, ratio: float) -> int:
    """Output planes for which the planes they are made of take about the budget in float32."""
    return max(1, int(budget_bytes / (4 * plane_voxels * max(ratio, 1.0))))
