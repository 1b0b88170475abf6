"""Weighted sums of raw voxels on a GPU, in Triton: what ``combine_reference`` defines.

One program holds a block of entries of the table and loops along the batch axis. Any strides: whichever
axis is contiguous, one dimension of the block runs along it.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from spatialdino_core.kernels.taps import Taps

try:
    import triton
    import triton.language as tl
except ImportError:  # no Triton for this platform: the reference is used
    triton = None


def combine_triton(raw: Tensor, taps: Taps, fill: int) -> Tensor | None:
    """Resample on the device of ``raw``; ``None`` where Triton is not installed.

    Parameters
    ----------
    raw
        (planes, batch, pixels) of the block that the table reads; uint16 or float32, any strides.
    taps
        The table.
    fill
        Value of voxels without data.

    Returns
    -------
    Tensor
        uint16 (k, batch, i), with the axis contiguous that is contiguous in ``raw``.
    """
    if triton is None:
        return None
    batch_last = raw.stride(1) == 1
    k, i = taps.shape
    shape = (k, i, raw.shape[1]) if batch_last else (k, raw.shape[1], i)
    memory = torch.full(shape, fill, dtype=torch.int32, device=raw.device).to(torch.uint16)
    out = memory.transpose(1, 2) if batch_last else memory
    entries = len(taps.start)
    if entries == 0:
        return out
    row = np.repeat(np.arange(k), np.diff(taps.offsets))
    column = np.arange(entries) - (taps.offsets[:-1] - taps.first)[row]
    target = torch.from_numpy(row * out.stride(0) + column * out.stride(2)).to(raw.device)
    block_entries, block_batch = (8, 128) if batch_last else (128, 8)
    _combine[(triton.cdiv(entries, block_entries),)](
        raw,
        torch.from_numpy(taps.start).to(raw.device),
        torch.from_numpy(taps.weight).to(raw.device),
        target,
        out,
        entries,
        raw.shape[1],
        taps.block_shape[1],
        raw.stride(0),
        raw.stride(1),
        raw.stride(2),
        out.stride(1),
        PLANES=taps.start.shape[1],
        PIXELS=taps.weight.shape[2],
        BLOCK_ENTRIES=block_entries,
        BLOCK_BATCH=block_batch,
    )
    return out


if triton is not None:

    @triton.jit
    def _combine(
        raw: Any,
        start: Any,
        weight: Any,
        target: Any,
        out: Any,
        entries: Any,
        batch: Any,
        pixels: Any,
        plane_stride: Any,
        batch_stride: Any,
        pixel_stride: Any,
        out_batch_stride: Any,
        PLANES: tl.constexpr,
        PIXELS: tl.constexpr,
        BLOCK_ENTRIES: tl.constexpr,
        BLOCK_BATCH: tl.constexpr,
    ) -> None:
        entry = tl.program_id(0) * BLOCK_ENTRIES + tl.arange(0, BLOCK_ENTRIES)
        known = entry < entries
        # Offsets are 64 bits wide: a frame has more than 2^31 voxels.
        place = tl.load(target + entry, mask=known, other=0).to(tl.int64)
        for low in range(0, batch, BLOCK_BATCH):
            line = (low + tl.arange(0, BLOCK_BATCH)).to(tl.int64)
            mask = known[:, None] & (line < batch)[None, :]
            total = tl.zeros((BLOCK_ENTRIES, BLOCK_BATCH), tl.float32)
            for plane in tl.static_range(PLANES):
                first = tl.load(start + entry * PLANES + plane, mask=known, other=0).to(tl.int64)
                origin = (first // pixels) * plane_stride + (first % pixels) * pixel_stride
                for step in tl.static_range(PIXELS):
                    factor = tl.load(weight + (entry * PLANES + plane) * PIXELS + step, mask=known, other=0.0)
                    source = origin[:, None] + step * pixel_stride + line[None, :] * batch_stride
                    total += factor[:, None] * tl.load(raw + source, mask=mask, other=0).to(tl.float32)
            # Adding and subtracting 1.5 · 2^23 rounds half to even.
            clipped = tl.minimum(tl.maximum(total, 0.0), 65535.0)
            value = ((clipped + 12582912.0) - 12582912.0).to(tl.int32).to(tl.uint16)
            tl.store(out + place[:, None] + line[None, :] * out_batch_stride, value, mask=mask)
