"""Attention of some queries to some keys, with its log-sum-exp: the reference, the merge, the dispatch point.

Attention to a union of disjoint sets of keys follows from the attention to each of them and its
log-sum-exp [1]_: this is how millions of tokens are attended to in parts, without any approximation. Each
key may carry the logarithm of a weight; a key of weight n counts as n equal keys.

Tensors have no batch axis: (heads, tokens, features). Never a mask: what may not be seen is not given.

References
----------
.. [1] Dao et al., FlashAttention, NeurIPS 2022; the online softmax is of Milakov and Gimelshein, 2018.
"""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from spatialdino_core.errors import BadInputError
from spatialdino_core.kernels import attention_cpu, attention_sdpa, attention_triton

BackendChoice = Literal["auto", "sdpa", "triton", "cpu"]
Attend = Callable[[Tensor, Tensor, Tensor, Tensor | None], tuple[Tensor, Tensor]]
"""Query, key, value and log-weight to output and log-sum-exp; as `attend_reference` defines."""

TOLERANCE = {torch.float64: 1e-10, torch.float32: 1e-5, torch.bfloat16: 1e-2, torch.float16: 2e-3}
"""Relative error of the output that a backend may have, by the type of its input."""

QUERY_TILE, KEY_TILE = 1024, 4096


@dataclass(frozen=True)
class Backend:
    """An implementation that has passed the self-test.

    Attributes
    ----------
    name
        Which one.
    attend
        The function.
    """

    name: str
    attend: Attend


def attend_reference(
    query: Tensor, key: Tensor, value: Tensor, log_weight: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """What every implementation computes: softmax(q . k / sqrt(d) + log weight) over the keys, times values.

    Parameters
    ----------
    query
        (heads, Q, d).
    key, value
        (heads, K, d), K at least 1.
    log_weight
        (heads, K) or (1, K), finite; None for zeros.

    Returns
    -------
    output : torch.Tensor
        (heads, Q, d), float32, or float64 where ``query`` is.
    log_sum_exp : torch.Tensor
        (heads, Q), natural logarithm, of the same type.
    """
    precision = torch.promote_types(query.dtype, torch.float32)
    scores = query.to(precision) @ key.to(precision).transpose(1, 2) * query.shape[-1] ** -0.5
    if log_weight is not None:
        scores += log_weight.to(precision)[:, None, :]
    log_sum_exp = scores.logsumexp(-1)
    return scores.sub_(log_sum_exp[..., None]).exp_() @ value.to(precision), log_sum_exp


def merge(output: Tensor, log_sum_exp: Tensor, other: Tensor, other_log_sum_exp: Tensor) -> None:
    """Make attention to some keys, in place, attention to these and to others, none of them in both."""
    together = torch.logaddexp(log_sum_exp, other_log_sum_exp)
    output *= (log_sum_exp - together).exp_()[..., None]
    output += other.to(output.dtype) * (other_log_sum_exp - together).exp_()[..., None]
    log_sum_exp.copy_(together)


def attend_in_parts(
    attend: Attend, query: Tensor, parts: Iterable[tuple[Tensor, Tensor, Tensor | None]]
) -> tuple[Tensor, Tensor]:
    """Attention to all keys of ``parts`` (key, value, log-weight), none of them in two.

    Returns
    -------
    tuple of torch.Tensor
        Output (heads, Q, d) and log-sum-exp (heads, Q), as of `attend_reference`.
    """
    output = log_sum_exp = None
    for key, value, log_weight in parts:
        found, its_log_sum_exp = attend(query, key, value, log_weight)
        if output is None or log_sum_exp is None:
            output, log_sum_exp = found, its_log_sum_exp
        else:
            merge(output, log_sum_exp, found, its_log_sum_exp)
    if output is None or log_sum_exp is None:
        raise ValueError("attention to no key is not defined")
    return output, log_sum_exp


def attend_in_tiles(
    query: Tensor, key: Tensor, value: Tensor, log_weight: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """`attend_reference` in tiles, so that its scores do not fill the memory."""
    outputs, sums = [], []
    starts = range(0, key.shape[1], KEY_TILE)
    for part in query.split(QUERY_TILE, dim=1):
        tiles = (slice(low, low + KEY_TILE) for low in starts)
        keys = ((key[:, t], value[:, t], None if log_weight is None else log_weight[:, t]) for t in tiles)
        output, log_sum_exp = attend_in_parts(attend_reference, part, keys)
        outputs.append(output)
        sums.append(log_sum_exp)
    return torch.cat(outputs, 1), torch.cat(sums, 1)


def choose_backend(
    wanted: BackendChoice, device: torch.device | str, dtype: torch.dtype, head_dim: int
) -> Backend:
    """The first backend that computes rightly here; those before it that do not are named in a warning.

    Parameters
    ----------
    wanted
        ``auto`` is ``sdpa`` on CUDA and ``cpu`` on the CPU; others are tried only where it fails.
    device, dtype, head_dim
        Where and on what it is to compute.

    Raises
    ------
    BadInputError
        If the backend cannot be had on this device.
    """
    return _chosen(wanted, torch.device(device).type, dtype, head_dim)


@functools.cache
def _chosen(wanted: BackendChoice, device: str, dtype: torch.dtype, head_dim: int) -> Backend:
    candidates = _candidates(wanted, device, dtype)
    for name, attend in candidates:
        if (failure := self_test(attend, device, dtype, head_dim)) is None:
            return Backend(name, attend)
        if name in attention_sdpa.GPU_ORDER and dtype == torch.float32:
            continue  # known beforehand: most fused kernels have no float32
        warnings.warn(
            f"attention backend {name!r} fails its self-test on {device} with {dtype}: {failure}; "
            "the next one is tried",
            RuntimeWarning,
            stacklevel=3,
        )
    raise BadInputError(
        "attention backend",
        found=f"{wanted!r}, of which none of {[name for name, _ in candidates]} computes rightly on {device}",
        expected="a backend that passes its self-test",
        remedy="Set backend: auto; triton needs a GPU.",
    )


def _candidates(wanted: BackendChoice, device: str, dtype: torch.dtype) -> list[tuple[str, Attend]]:
    """Names and functions in the order in which they are tried; the reference is the last resort."""
    triton: list[tuple[str, Attend]] = [("triton", attention_triton.attend_triton)]
    reference: list[tuple[str, Attend]] = [("reference", attend_in_tiles)]
    if wanted == "triton":
        return triton
    if device == "cuda":
        if wanted == "cpu":
            return []
        return [*attention_sdpa.on_gpu().items(), *triton, *reference]
    library: list[tuple[str, Attend]] = [("sdpa-cpu", attention_sdpa.attend_cpu)]
    if wanted == "sdpa":
        return [*library, *reference]
    ours: list[tuple[str, Attend]] = [("cpu", attention_cpu.attend_bfloat16)]
    return [*(ours if dtype == torch.bfloat16 else []), *library, *reference]


def self_test(attend: Attend, device: str, dtype: torch.dtype, head_dim: int) -> str | None:
    """Compare a backend with float64 on a few hundred tokens in two parts, with and without log-weights.

    Returns
    -------
    str or None
        What went wrong.
    """
    generator = torch.Generator().manual_seed(0)
    query, key, value = (
        torch.randn(2, tokens, head_dim, generator=generator).to(dtype) for tokens in (128, 300, 300)
    )
    log_weight = torch.rand(2, 300, generator=generator) * 12
    for weights in (None, log_weight):
        truth, true_sum = attend_reference(query.double(), key.double(), value.double(), weights)
        parts = [
            (key[:, part], value[:, part], None if weights is None else weights[:, part])
            for part in (slice(0, 171), slice(171, 300))
        ]
        try:
            moved = [(k.to(device), v.to(device), None if w is None else w.to(device)) for k, v, w in parts]
            found, its_sum = attend_in_parts(attend, query.to(device), moved)
        except Exception as failure:  # a private operator may fail in any way
            return f"{type(failure).__name__}: {str(failure).partition(chr(10))[0]}"
        tolerance = TOLERANCE[dtype]
        error = float((found.double().cpu() - truth).norm() / truth.norm())
        shift = float((its_sum.double().cpu() - true_sum).abs().max())
        if not (error <= tolerance and shift <= 10 * tolerance):
            return f"relative error {error:.1e} of the output, {shift:.1e} in the log-sum-exp"
    return None
