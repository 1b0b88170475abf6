"""Attention in Triton: what ``attention.attend_reference`` defines. Not yet measured on a GPU.

One program holds a tile of queries of one head and loops over all keys in tiles, with running maximum and
sum in float32. Offsets are 64 bits wide: four million tokens of six heads of 64 features pass 2^31.
"""

from __future__ import annotations

import os
from typing import Any

import torch
from torch import Tensor

try:
    import triton
    import triton.language as tl
except ImportError:  # no Triton for this platform: the dispatch point takes another backend
    triton = None

QUERY_TILE, KEY_TILE = 128, 64
LOG2_E = 1.4426950408889634


def attend_triton(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    log_weight: Tensor | None = None,
    *,
    query_tile: int = QUERY_TILE,
    key_tile: int = KEY_TILE,
) -> tuple[Tensor, Tensor]:
    """See ``attention.attend_reference``; products of bfloat16 or float16 on tensor cores, others exact.

    Parameters
    ----------
    query, key, value
        (heads, tokens, d), features contiguous; any other strides.
    log_weight
        (heads or 1, K) or None.
    query_tile, key_tile
        Tokens per tile, powers of two, at least 16.

    Raises
    ------
    RuntimeError
        If Triton is not installed, or there is neither a GPU nor Triton's interpreter.
    """
    interpreted = os.environ.get("TRITON_INTERPRET") == "1"
    if triton is None or not (interpreted or query.is_cuda):
        raise RuntimeError("Triton needs to be installed, and a GPU")
    heads, queries, width = query.shape
    query, key, value = (x if x.stride(-1) == 1 else x.contiguous() for x in (query, key, value))
    output = query.new_empty(query.shape, dtype=torch.float32)
    log_sum_exp = query.new_empty((heads, queries), dtype=torch.float32)
    weighted = log_weight is not None
    weights = log_weight.float().expand(heads, -1) if log_weight is not None else log_sum_exp
    _attend[(triton.cdiv(queries, query_tile), heads)](
        query,
        key,
        value,
        weights,
        output,
        log_sum_exp,
        queries,
        key.shape[1],
        width**-0.5 * LOG2_E,
        *query.stride()[:2],
        *key.stride()[:2],
        *value.stride()[:2],
        *weights.stride(),
        *output.stride()[:2],
        WIDTH=width,
        PADDED_WIDTH=max(16, triton.next_power_of_2(width)),
        QUERY_TILE=query_tile,
        KEY_TILE=key_tile,
        WEIGHTED=weighted,
        # The interpreter multiplies the bits of bfloat16 as if they were integers (triton#11584).
        UPCAST=interpreted or query.dtype == torch.float32,
        num_warps=4 if query_tile <= 64 else 8,
        num_stages=2,
    )
    return output, log_sum_exp


if triton is not None:

    @triton.jit
    def _attend(
        query: Any,
        key: Any,
        value: Any,
        weights: Any,
        output: Any,
        log_sum_exp: Any,
        queries: Any,
        keys: Any,
        scale: Any,
        query_head: Any,
        query_row: Any,
        key_head: Any,
        key_row: Any,
        value_head: Any,
        value_row: Any,
        weight_head: Any,
        weight_row: Any,
        output_head: Any,
        output_row: Any,
        WIDTH: tl.constexpr,
        PADDED_WIDTH: tl.constexpr,
        QUERY_TILE: tl.constexpr,
        KEY_TILE: tl.constexpr,
        WEIGHTED: tl.constexpr,
        UPCAST: tl.constexpr,
    ) -> None:
        head = tl.program_id(1).to(tl.int64)
        rows = tl.program_id(0).to(tl.int64) * QUERY_TILE + tl.arange(0, QUERY_TILE)
        features = tl.arange(0, PADDED_WIDTH)
        known = (rows < queries)[:, None] & (features < WIDTH)[None, :]
        place = head * query_head + rows[:, None] * query_row + features[None, :]
        q = tl.load(query + place, mask=known, other=0.0)
        if UPCAST:
            q = q.to(tl.float32)
        # Powers of two are what the hardware has: scores are in units of log 2.
        highest = tl.full((QUERY_TILE,), float("-inf"), tl.float32)
        total = tl.zeros((QUERY_TILE,), tl.float32)
        mixed = tl.zeros((QUERY_TILE, PADDED_WIDTH), tl.float32)
        for low in range(0, keys, KEY_TILE):
            columns = low + tl.arange(0, KEY_TILE).to(tl.int64)
            inside = columns < keys
            there = inside[:, None] & (features < WIDTH)[None, :]
            k = tl.load(
                key + head * key_head + columns[:, None] * key_row + features[None, :], mask=there, other=0.0
            )
            v = tl.load(
                value + head * value_head + columns[:, None] * value_row + features[None, :],
                mask=there,
                other=0.0,
            )
            if UPCAST:
                k = k.to(tl.float32)
                v = v.to(tl.float32)
            scores = tl.dot(q, tl.trans(k), input_precision="ieee") * scale
            if WEIGHTED:
                place_of_weight = head * weight_head + columns * weight_row
                weight = tl.load(weights + place_of_weight, mask=inside, other=0.0)
                scores += (weight * 1.4426950408889634)[None, :]
            scores = tl.where(inside[None, :], scores, float("-inf"))
            now = tl.maximum(highest, tl.max(scores, 1))
            share = tl.exp2(scores - now[:, None])
            shrink = tl.exp2(highest - now)
            total = total * shrink + tl.sum(share, 1)
            mixed = mixed * shrink[:, None] + tl.dot(share.to(v.dtype), v, input_precision="ieee")
            highest = now
        written = head * output_head + rows[:, None] * output_row + features[None, :]
        tl.store(output + written, mixed / total[:, None], mask=known)
        natural = (highest + tl.log2(total)) * 0.6931471805599453
        tl.store(log_sum_exp + head * queries + rows, natural, mask=rows < queries)
