"""Attention in bfloat16 on the CPU: what ``attention.attend_reference`` defines, faster than torch's kernel.

Products are those of torch; between them, one pass in Numba over a tile of scores takes the exponential,
sums it and rounds it. Scores are rounded to bfloat16 on their way, as queries and keys are before: errors
of the same order. For float32 torch's own kernel is as fast as its matrix products: ``attention_sdpa.py``.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from spatialdino_core.compiled import njit

QUERY_TILE, KEY_TILE = 1024, 1024
LOG2_E = 1.4426950408889634
_MATHS = {"contract", "reassoc", "nsz", "arcp"}
# Least-squares fit of 2^f on [0, 1), relative error 2e-7; then the exponent is put into the bits.
_C0, _C1, _C2 = np.float32(9.9999994e-1), np.float32(6.9315308e-1), np.float32(2.4015361e-1)
_C3, _C4, _C5 = np.float32(5.5826318e-2), np.float32(8.9893397e-3), np.float32(1.8775767e-3)
_LOWEST, _ZERO = np.float32(-126), np.float32(0)


@njit(nogil=True, inline="always")
def _single(bits: Any) -> Any:
    """float32 of the 16 bits of a bfloat16."""
    return np.int32(np.int32(bits) << np.int32(16)).view(np.float32)


@njit(nogil=True, inline="always")
def _greatest(room: Any, count: int) -> Any:
    """Greatest of the first ``count`` numbers, which are lost; by halves, which vectorise."""
    while count > 1:
        half = (count + 1) // 2
        for j in range(count - half):
            room[j] = max(room[j], room[j + half])
        count = half
    return room[0]


@njit(nogil=True, cache=True, fastmath=_MATHS, error_model="numpy")
def _softmax_tile(
    scores: Any, scale: Any, weights: Any, room: Any, shares: Any, highest: Any, total: Any, shrink: Any
) -> None:
    """Running softmax of one tile, in powers of two.

    ``scores`` and ``shares`` (rows, keys) are the bits of bfloat16, in and out; ``weights`` (keys,) float32;
    ``room`` (2, keys) float32 is for one row; ``highest``, ``total`` and ``shrink`` (rows,) float32: maximum,
    sum so far, and by what the sums before this tile shrank.
    """
    for row in range(scores.shape[0]):
        wide = room[0]
        for j in range(scores.shape[1]):
            wide[j] = _single(scores[row, j]) * scale + weights[j]
            room[1, j] = wide[j]
        top = max(highest[row], _greatest(room[1], scores.shape[1]))
        shrink[row] = np.exp2(highest[row] - top)
        highest[row] = top
        added = _ZERO
        for j in range(scores.shape[1]):
            x = max(wide[j] - top, _LOWEST)
            whole = np.floor(x)
            f = x - whole
            power = ((((_C5 * f + _C4) * f + _C3) * f + _C2) * f + _C1) * f + _C0
            exponent = np.int32((np.int32(whole) + np.int32(127)) << np.int32(23))
            value = np.float32(power * exponent.view(np.float32))
            added += value
            bits = np.float32(value).view(np.int32)
            # Half to even: the lowest bit that is kept decides on ties.
            bits = np.int32(bits + np.int32(0x7FFF) + ((bits >> np.int32(16)) & np.int32(1)))
            shares[row, j] = np.uint16(bits >> np.int32(16))
        total[row] = total[row] * shrink[row] + added


@njit(nogil=True, cache=True, error_model="numpy")
def _accumulate(mixed: Any, shrink: Any, added: Any) -> None:
    """``mixed`` (rows, d) float32 shrinks, and the bfloat16 bits of ``added`` go on top."""
    for row in range(mixed.shape[0]):
        for j in range(mixed.shape[1]):
            mixed[row, j] = mixed[row, j] * shrink[row] + _single(added[row, j])


def attend_bfloat16(
    query: Tensor, key: Tensor, value: Tensor, log_weight: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """See ``attention.attend_reference``; bfloat16 on the CPU."""
    if query.dtype != torch.bfloat16 or query.is_cuda:
        raise ValueError("this is for bfloat16 on the CPU")
    heads, queries, width = query.shape
    output = torch.zeros(heads, queries, width)
    log_sum_exp = torch.empty(heads, queries)
    weights = torch.zeros(1, key.shape[1]) if log_weight is None else log_weight.float() * LOG2_E
    weights = weights.expand(heads, -1).contiguous()
    for head in range(heads):
        for low in range(0, queries, QUERY_TILE):
            rows = slice(low, low + QUERY_TILE)
            log_sum_exp[head, rows] = _attend_tile(
                query[head, rows], key[head], value[head], weights[head].numpy(), output[head, rows]
            )
    return output, log_sum_exp


def _attend_tile(query: Tensor, key: Tensor, value: Tensor, weights: Any, mixed: Tensor) -> Tensor:
    """Attention of a tile of queries of one head, into ``mixed``; returns the log-sum-exp."""
    rows, width = query.shape
    scale = np.float32(width**-0.5 * LOG2_E)
    highest, total, shrink = (np.full(rows, x, np.float32) for x in (-1e30, 0.0, 0.0))
    room = np.empty((2, KEY_TILE), np.float32)
    # Fresh memory of this size costs as much as the product.
    scores, shares = query.new_empty(rows * KEY_TILE), query.new_empty(rows * KEY_TILE)
    for low in range(0, len(key), KEY_TILE):
        keys = slice(low, min(low + KEY_TILE, len(key)))
        tile = (rows, keys.stop - low)
        score, share = (x[: tile[0] * tile[1]].view(tile) for x in (scores, shares))
        torch.mm(query, key[keys].T, out=score)
        _softmax_tile(_bits(score), scale, weights[keys], room, _bits(share), highest, total, shrink)
        _accumulate(mixed.numpy(), shrink, _bits(share @ value[keys]))
    mixed /= torch.from_numpy(total)[:, None]
    return torch.from_numpy((highest + np.log2(total)) / np.float32(LOG2_E))


def _bits(x: Tensor) -> Any:
    return x.view(torch.uint16).numpy()
