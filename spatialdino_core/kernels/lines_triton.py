"""Weighted sums along one axis on a GPU, in Triton: what ``filter_lines_reference`` defines.

One program holds a block of lines and of places along them; whichever of the two is contiguous in memory, the
longer side of the block runs along it. Each voxel is fetched from memory about once, and from the cache as
often as there are weights.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor

try:
    import triton
    import triton.language as tl
except ImportError:  # no Triton for this platform: the reference is used
    triton = None


def filter_lines_triton(volume: Tensor, weights: np.ndarray, axis: int) -> Tensor | None:
    """Filter on the device of ``volume``; ``None`` where Triton is not installed.

    Parameters are those of :func:`.lines.filter_lines_reference`.
    """
    if triton is None:
        return None
    out = torch.empty_like(volume)
    length, inner = volume.shape[axis], math.prod(volume.shape[axis + 1 :])
    lines = volume.numel() // length
    block_lines, block_along = (8, 128) if inner == 1 else (128, 8)
    _filter[(triton.cdiv(lines, block_lines), triton.cdiv(length, block_along))](
        volume,
        torch.from_numpy(weights).to(volume.device),
        out,
        lines,
        length,
        inner,
        len(weights),
        BLOCK_LINES=block_lines,
        BLOCK_ALONG=block_along,
    )
    return out


if triton is not None:

    @triton.jit
    def _filter(
        volume: Any,
        weights: Any,
        out: Any,
        lines: Any,
        length: Any,
        inner: Any,
        taps: Any,
        BLOCK_LINES: tl.constexpr,
        BLOCK_ALONG: tl.constexpr,
    ) -> None:
        # Offsets are 64 bits wide: a frame has more than 2^31 bytes.
        line = (tl.program_id(0) * BLOCK_LINES + tl.arange(0, BLOCK_LINES)).to(tl.int64)[:, None]
        along = (tl.program_id(1) * BLOCK_ALONG + tl.arange(0, BLOCK_ALONG))[None, :]
        origin = (line // inner) * length * inner + line % inner
        known = line < lines
        total = tl.zeros((BLOCK_LINES, BLOCK_ALONG), tl.float32)
        for k in range(taps):
            place = along + k - taps // 2
            mask = known & (place >= 0) & (place < length)
            total += tl.load(weights + k) * tl.load(volume + origin + place * inner, mask=mask, other=0.0)
        tl.store(out + origin + along * inner, total, mask=known & (along < length))
