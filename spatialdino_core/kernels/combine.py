"""Weighted sums of raw voxels, as a table of taps says: the PyTorch reference and the dispatch point.

``out[k, y, i] = Σ weight · raw[plane, y, pixel]``, rounded once (half to even) and clipped, and ``fill``
where the table has no entry. The table is the same for every y, so that y may be cut anywhere.

The third axis, which the table leaves alone, is the batch axis: y where the tilted axis is x, else x.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import embedding_bag

from spatialdino_core.kernels import combine_cpu
from spatialdino_core.kernels.combine_triton import combine_triton
from spatialdino_core.kernels.taps import Taps

Stack = NDArray[Any]
"""uint16 or float32."""

Correction = Callable[[Stack, int], NDArray[np.float32]]
SLAB_BYTES = 64 * 2**20
DEVICE_SLAB_BYTES = 2**30


@dataclass(frozen=True)
class Projections:
    """Maximum projections of an output (k, batch, i): no lower than its fill value.

    Attributes
    ----------
    along_k, along_batch, along_i
        uint16 (batch, i), (k, i) and (k, batch).
    """

    along_k: NDArray[np.uint16]
    along_batch: NDArray[np.uint16]
    along_i: NDArray[np.uint16]

    @classmethod
    def start(cls, k: int, batch: int, i: int, fill: int) -> Projections:
        """Projections of nothing but fill."""
        return cls(*(np.full(shape, fill, np.uint16) for shape in ((batch, i), (k, i), (k, batch))))

    def raised(self, other: Projections) -> None:
        """Take the greater of both, in place."""
        for mine, its in zip(self.arrays, other.arrays, strict=True):
            np.maximum(mine, its, out=mine)

    @property
    def arrays(self) -> tuple[NDArray[np.uint16], NDArray[np.uint16], NDArray[np.uint16]]:
        """All three."""
        return self.along_k, self.along_batch, self.along_i


def combine_reference(raw: Tensor, taps: Taps, fill: float) -> Tensor:
    """What every implementation computes, before rounding.

    Parameters
    ----------
    raw
        (planes, batch, pixels) of the block that the table reads; uint16 or float32, any strides and device.
    taps
        The table.
    fill
        Value of voxels that it leaves out.

    Returns
    -------
    Tensor
        float32 (k, batch, i), on the device of ``raw``.
    """
    if tuple(raw.shape)[::2] != taps.block_shape:
        raise ValueError(f"raw is {tuple(raw.shape)}; the table reads {taps.block_shape} planes and pixels")
    rows = raw.to(torch.float32).permute(0, 2, 1).reshape(-1, raw.shape[1])
    start = torch.from_numpy(taps.start).to(raw.device, torch.int64)
    index = start[:, :, None] + torch.arange(taps.weight.shape[2], device=raw.device)
    weight = torch.from_numpy(taps.weight).to(raw.device)
    values = embedding_bag(index.flatten(1), rows, per_sample_weights=weight.flatten(1), mode="sum")
    out = torch.full((*taps.shape, raw.shape[1]), float(fill), device=raw.device)
    out[torch.from_numpy(taps.mask).to(raw.device)] = values
    return out.permute(0, 2, 1)


def stored(values: Tensor) -> Tensor:
    """Rounded half to even and clipped to uint16: cubic interpolation leaves the range of its samples."""
    return values.round().clamp(0, 65535).to(torch.uint16)


def combine(
    raw: Stack,
    taps: Taps,
    fill: int,
    *,
    pixel_last: bool,
    correction: Correction | None = None,
    device: torch.device | str = "cpu",
    threads: int | None = None,
) -> tuple[NDArray[np.uint16], Projections]:
    """Resample one frame.

    Parameters
    ----------
    raw
        The block that the table reads, C-contiguous uint16 or float32: (planes, batch, pixels) if
        ``pixel_last``, else (planes, pixels, batch).
    taps
        The table.
    fill
        Value of voxels without data.
    pixel_last
        Whether the tilted axis is the last one, of the input and of the output.
    correction
        ``correction(part, low)`` is applied to each part of ``raw`` before it is resampled; ``low`` is where
        on the batch axis the part begins.
    device
        Where to compute.
    threads
        At most so many on the CPU; by default one per core that this process may use.

    Returns
    -------
    out
        uint16 (k, batch, i) if ``pixel_last``, else (k, i, batch).
    projections
        Of the output.
    """
    raw = np.ascontiguousarray(raw)
    batch = raw.shape[1 if pixel_last else 2]
    if (raw.shape[0], raw.shape[2 if pixel_last else 1]) != taps.block_shape:
        raise ValueError(f"raw is {raw.shape}; the table reads {taps.block_shape} planes and pixels")
    k, i = taps.shape
    out = np.empty((k, batch, i) if pixel_last else (k, i, batch), np.uint16)
    projections = Projections.start(k, batch, i, fill)
    frame = _Frame(raw, taps, fill, correction, out, projections)
    if torch.device(device).type != "cpu":
        _on_device(frame, pixel_last, torch.device(device))
        return out, projections
    workers = threads or len(os.sched_getaffinity(0))
    with ThreadPoolExecutor(workers) as pool:
        # Only when all are done: what they share must not be written by two at once.
        for private in list((_pixel_last if pixel_last else _batch_last)(frame, pool, workers)):
            projections.raised(private)
    return out, projections


@dataclass(frozen=True)
class _Frame:
    raw: Stack
    taps: Taps
    fill: int
    correction: Correction | None
    out: NDArray[np.uint16]
    projections: Projections

    @property
    def table(self) -> tuple[Any, Any, Any, Any]:
        return self.taps.offsets, self.taps.first, self.taps.start, self.taps.weight


def _pixel_last(frame: _Frame, pool: ThreadPoolExecutor, workers: int) -> Iterator[Projections]:
    """Each worker takes every so-manieth block of batch rows, in memory of its own."""
    taps, shared = frame.taps, frame.projections
    batch, rows = frame.out.shape[1], combine_cpu.BLOCK_ROWS

    def work(number: int) -> Projections:
        private = Projections(shared.along_k, np.full_like(shared.along_batch, frame.fill), shared.along_i)
        peaks = (private.along_k, private.along_i, private.along_batch)
        transposed: Stack | None = None
        for low in range(number * rows, batch, workers * rows):
            count = min(batch - low, rows)
            part, part_low = frame.raw, low
            if frame.correction is not None:
                part, part_low = frame.correction(frame.raw[:, low : low + count], low), 0
            if taps.start.shape[1] == 1:
                combine_cpu.filter_pixel_last(
                    part, part_low, *frame.table, taps.runs, frame.fill, frame.out, low, count, *peaks
                )
                continue
            if transposed is None:
                transposed = np.empty((part.shape[0] * part.shape[2], rows), part.dtype)
            combine_cpu.transposed_rows(part, part_low, count, transposed)
            combine_cpu.combine_pixel_last(
                transposed, *frame.table, frame.fill, frame.out, low, count, *peaks
            )
        return private

    return pool.map(work, range(workers))


def _batch_last(frame: _Frame, pool: ThreadPoolExecutor, workers: int) -> Iterator[Projections]:
    """Workers divide the rows k by the number of voxels that they hold."""
    taps, shared = frame.taps, frame.projections
    batch = frame.out.shape[2]
    ends = np.searchsorted(taps.offsets, np.linspace(0, taps.offsets[-1], workers + 1)[1:-1])
    bounds = [0, *(int(end) for end in ends), taps.shape[0]]
    # Corrected parts are copies: no larger than that.
    columns = batch if frame.correction is None else max(64, SLAB_BYTES // (4 * math.prod(taps.block_shape)))
    for low in range(0, batch, columns):
        part = frame.raw
        if frame.correction is not None:
            part = frame.correction(frame.raw[:, :, low : low + columns], low)
        rows = np.ascontiguousarray(part).reshape(-1, part.shape[2])

        def work(number: int, rows: Stack = rows, low: int = low) -> Projections:
            along_k = np.full((taps.shape[1], batch), frame.fill, np.uint16)
            combine_cpu.combine_batch_last(
                rows, bounds[number], bounds[number + 1], *frame.table, frame.fill, frame.out, low,
                along_k, shared.along_i, shared.along_batch,
            )  # fmt: skip
            return Projections(along_k.T, shared.along_batch, shared.along_i)

        yield from pool.map(work, range(workers))


def _on_device(frame: _Frame, pixel_last: bool, device: torch.device) -> None:
    """In parts along the batch axis, so that a frame of any size fits."""
    taps, projections, fill = frame.taps, frame.projections, frame.fill
    batch = frame.out.shape[1 if pixel_last else 2]
    voxels = math.prod(taps.shape) + math.prod(taps.block_shape)
    step = max(1, DEVICE_SLAB_BYTES // (8 * voxels))
    for low in range(0, batch, step):
        part = slice(low, min(batch, low + step))
        block = frame.raw[:, part] if pixel_last else frame.raw[:, :, part]
        if frame.correction is not None:
            block = frame.correction(block, low)
        there = torch.from_numpy(np.ascontiguousarray(block)).to(device)
        oriented = there if pixel_last else there.transpose(1, 2)
        result = combine_triton(oriented, taps, fill) if device.type == "cuda" else None
        if result is None:
            result = stored(combine_reference(oriented, taps, fill))
        wide = result.to(torch.int32)  # there is no maximum of uint16 on every device
        peaks = [wide.amax(axis).clamp(min=fill).to(torch.uint16).cpu().numpy() for axis in range(3)]
        projections.along_k[part], projections.along_i[:, part] = peaks[0], peaks[2]
        np.maximum(projections.along_batch, peaks[1], out=projections.along_batch)
        values = result.cpu().numpy()
        if pixel_last:
            frame.out[:, part] = values
        else:
            frame.out[:, :, part] = values.swapaxes(1, 2)
