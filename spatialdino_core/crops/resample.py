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
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Triple = tuple[float, float, float]
Box = tuple[slice, slice, slice]
Volume = NDArray[Any]

SAME_RATIO = 1e-6
CHUNK_BYTES = 16 * 2**20
TRUNCATE = 4.0  # standard deviations at which the smoothing kernel ends


class _Taps(NamedTuple):
    """Weighted sum that makes each output sample: arrays (taps, samples)."""

    indices: NDArray[np.intp]
    weights: NDArray[np.float32]


def resampled_length(length: int, ratio: float) -> int:
    """Voxels of size ``ratio`` (in old voxels) whose centres lie within ``length`` old voxel centres."""
    return math.floor((length - 1) / ratio + SAME_RATIO) + 1


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
        _taps(part.start, part.stop, n, ratio)
        for part, n, ratio in zip(ranges, frame.shape, ratios, strict=True)
    ]
    out = np.empty([len(part) for part in ranges], np.float32)
    planes = chunk_planes or _planes_within(
        CHUNK_BYTES, max(math.prod(frame.shape[1:]), math.prod(out.shape[1:])), ratios[0]
    )
    memory = _Memory(device)
    for start in range(0, len(out), planes):
        part = slice(start, start + planes)
        in_z = _Taps(taps[0].indices[:, part], taps[0].weights[:, part])
        torch.from_numpy(out[part]).copy_(_apply(frame, [in_z, taps[1], taps[2]], memory))
    return out


def resample_axis(
    volume: Volume, axis: int, ratio: float, *, start: float = 0.0, length: int | None = None
) -> NDArray[np.float32]:
    """Resample one axis; output index i is at input position ``start + i * ratio``.

    Shrinking axes are smoothed with a Gaussian of standard deviation √(ratio² − 1)/2 voxels first,
    which widens a voxel's response to about that of the larger voxel; edges are repeated.

    Parameters
    ----------
    volume
        Array of any real dtype.
    axis
        To resample.
    ratio
        New voxel size over the old one.
    start
        Where output index 0 lies (input voxels).
    length
        Number of output samples; by default those that lie within the input, counted from ``start`` 0.
    """
    count = resampled_length(volume.shape[axis], ratio) if length is None else length
    taps = _taps(0, count, volume.shape[axis], ratio, start)
    return _weigh(torch.from_numpy(np.array(volume, np.float32)), axis, taps, _Memory("cpu")).numpy()


def _taps(first: int, stop: int, length: int, ratio: float, origin: float = 0.0) -> _Taps:
    """Smoothing by a Gaussian and linear interpolation of the smoothed samples, as one weighted sum."""
    if abs(ratio - 1) < SAME_RATIO:
        ratio = 1.0
    position = np.clip(origin + np.arange(first, stop) * ratio, 0, length - 1)
    lower = position.astype(np.intp)
    fraction = position - lower
    kernel = _gaussian(math.sqrt(ratio**2 - 1) / 2 if ratio > 1 else 0.0)
    weights = np.outer(np.append(kernel, 0), 1 - fraction) + np.outer(np.insert(kernel, 0, 0), fraction)
    reach = len(kernel) // 2
    indices = np.clip(lower + np.arange(-reach, reach + 2)[:, None], 0, length - 1)
    return _Taps(indices, weights.astype(np.float32))


def _gaussian(sigma: float) -> NDArray[np.float64]:
    if sigma == 0:
        return np.ones(1)
    reach = int(TRUNCATE * sigma + 0.5)
    kernel = np.exp(-0.5 * (np.arange(-reach, reach + 1) / sigma) ** 2)
    return np.asarray(kernel / kernel.sum())


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


def _apply(frame: Volume, taps: list[_Taps], memory: _Memory) -> Tensor:
    """Read the voxels that the sums need, and no others, and sum along z, y and x in turn."""
    lows = [int(tap.indices.min(initial=n)) for tap, n in zip(taps, frame.shape, strict=True)]
    highs = [int(tap.indices.max(initial=0)) + 1 for tap in taps]
    needed = frame[tuple(itertools.starmap(slice, zip(lows, highs, strict=True)))]
    part = memory.take("needed", needed.shape, "cpu")
    np.copyto(part.numpy(), needed, casting="unsafe")
    part = part.to(memory.device)
    for axis, (tap, low) in enumerate(zip(taps, lows, strict=True)):
        part = _weigh(part, axis, _Taps(tap.indices - low, tap.weights), memory)
    return part


def _weigh(volume: Tensor, axis: int, taps: _Taps, memory: _Memory) -> Tensor:
    """The weighted sums; multiplied and added in steps of their own, since a fused step rounds otherwise."""
    if _is_identity(taps, volume.shape[axis]):
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


def _is_identity(taps: _Taps, length: int) -> bool:
    return (
        np.array_equal(taps.indices[0], np.arange(length))
        and bool((taps.weights[0] == 1).all())
        and not taps.weights[1:].any()
    )


def _planes_within(budget_bytes: int, plane_voxels: int, ratio: float) -> int:
    """Output planes for which the planes they are made of take about the budget in float32."""
    return max(1, int(budget_bytes / (4 * plane_voxels * max(ratio, 1.0))))
