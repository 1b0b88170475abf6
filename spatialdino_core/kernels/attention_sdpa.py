"""Attention by the kernels inside torch's scaled_dot_product_attention, with the log-sum-exp that it hides.

The operators are private, and change with torch and GPU: none is used before it has passed the self-test
in ``attention.py``. Their only mask is none: with one, the memory-efficient kernel is silently wrong beyond
65 536 tokens (pytorch#162588). Log-weights enter as further features instead, see `with_log_weight`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

GPU_ORDER = ("sdpa-cudnn", "sdpa-flash", "sdpa-efficient")
"""Fastest first on Hopper at 64 features per head; the last knows float32, the others do not."""

Operator = Callable[..., Any]
_BFLOAT16_COLUMNS = 3
"""bfloat16 has 8 significant bits: three columns hold the 24 of a float32."""


def on_gpu() -> Mapping[str, Callable[[Tensor, Tensor, Tensor, Tensor | None], tuple[Tensor, Tensor]]]:
    """Backends of CUDA in the order in which they are tried."""
    return dict(zip(GPU_ORDER, (attend_cudnn, attend_flash, attend_efficient), strict=True))


def attend_cpu(
    query: Tensor, key: Tensor, value: Tensor, log_weight: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """See ``attention.attend_reference``; torch's flash kernel for the CPU."""
    return _attend(torch.ops.aten._scaled_dot_product_flash_attention_for_cpu, query, key, value, log_weight)


def attend_cudnn(
    query: Tensor, key: Tensor, value: Tensor, log_weight: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """See ``attention.attend_reference``; cuDNN, half precision."""
    operator = torch.ops.aten._scaled_dot_product_cudnn_attention
    return _attend(partial(_without_bias, operator), query, key, value, log_weight)


def attend_flash(
    query: Tensor, key: Tensor, value: Tensor, log_weight: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """See ``attention.attend_reference``; FlashAttention, half precision."""
    return _attend(torch.ops.aten._scaled_dot_product_flash_attention, query, key, value, log_weight)


def attend_efficient(
    query: Tensor, key: Tensor, value: Tensor, log_weight: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """See ``attention.attend_reference``; the memory-efficient kernel."""
    operator = torch.ops.aten._scaled_dot_product_efficient_attention
    return _attend(partial(_without_bias, operator), query, key, value, log_weight)


def _without_bias(operator: Operator, query: Tensor, key: Tensor, value: Tensor, *, scale: float) -> Any:
    return operator(query, key, value, None, True, scale=scale)


def _attend(
    operator: Operator, query: Tensor, key: Tensor, value: Tensor, log_weight: Tensor | None
) -> tuple[Tensor, Tensor]:
    width, scale = query.shape[-1], query.shape[-1] ** -0.5
    if log_weight is not None:
        query, key = with_log_weight(query, key, log_weight, scale)
    # Kernels want equal widths of queries, keys and values, in multiples of 8; zeros add nothing.
    wide = -(-query.shape[-1] // 8) * 8
    query, key, value = (
        functional.pad(x, (0, wide - x.shape[-1])) if x.shape[-1] < wide else x for x in (query, key, value)
    )
    output, log_sum_exp, *_ = operator(query[None], key[None], value[None], scale=scale)
    precision = torch.promote_types(query.dtype, torch.float32)
    # Some kernels pad the rows of the log-sum-exp, some add an axis.
    rows = log_sum_exp.reshape(len(query), -1)[:, : query.shape[1]]
    return output[0, ..., :width].to(precision), rows.to(precision)


def with_log_weight(query: Tensor, key: Tensor, log_weight: Tensor, scale: float) -> tuple[Tensor, Tensor]:
    """Queries with ones appended and keys with what makes ``scale * (q . k)`` greater by the log-weight.

    In half precision the number is spread over columns, each the rest that those before it leave, so that
    nothing of a float32 is lost.

    Parameters
    ----------
    query, key
        (heads, Q, d) and (heads, K, d).
    log_weight
        (heads or 1, K).
    scale
        By which scores are multiplied afterwards.
    """
    columns = _BFLOAT16_COLUMNS if query.itemsize < 4 else 1
    rest = (log_weight.to(torch.promote_types(query.dtype, torch.float32)) / scale).expand(len(key), -1)
    appended = []
    for _ in range(columns):
        appended.append(rest.to(key.dtype))
        rest = rest - appended[-1]
    ones = query.new_ones(*query.shape[:2], columns)
    return torch.cat([query, ones], -1), torch.cat([key, torch.stack(appended, -1)], -1)
