"""Keys of the background as weighted clusters: cheaper attention with an error that is measured.

If every key of a cluster were equal, its mean value with the logarithm of the number of keys would be exact.
So keys are clustered, per head, by k-means; values only follow. Distances are measured as queries see them: a
deviation e of a key changes scores by q . e, of mean square e' S e with S the second moment of queries.
Whether it is good enough is not decided here.

References
----------
.. [1] Arthur and Vassilvitskii, k-means++, SODA 2007; in rounds: Bahmani et al., VLDB 2012.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from spatialdino_core.encoder.token_store import TokenStore
from spatialdino_core.kernels.attention import EMPTY

ITERATIONS = 6
SAMPLE_PER_CLUSTER = 16
SCORE_BYTES = 64 * 2**20


@dataclass(frozen=True)
class Clusters:
    """Stand-ins for many keys.

    Attributes
    ----------
    key, value
        (heads, K, d), means, of the type of the store.
    log_weight
        (heads, K) float32, logarithm of the number of tokens that each stands for.
    """

    key: Tensor
    value: Tensor
    log_weight: Tensor


def cluster_keys(
    store: TokenStore, start: int, count: Tensor, clusters: int, query: Tensor, block_tokens: int
) -> Clusters:
    """Cluster the keys from ``start`` to the end of a store, for each head by itself.

    Deterministic: nothing is drawn at random, and sums are taken in a fixed order.

    Parameters
    ----------
    store
        (2 heads, tokens, d): keys of all heads, then their values.
    start
        First token that is clustered.
    count
        (tokens - start,) float32 on the device, how many tokens each of them is.
    clusters
        K, at most as many as there are tokens to cluster.
    query
        (heads, S, d), some queries: they tell which differences of keys matter.
    block_tokens
        Tokens read at once.
    """
    heads, tokens = store.shape[0] // 2, store.shape[1] - start
    metric = _metric(query)
    sample = _sample(store, start, -(-tokens // (SAMPLE_PER_CLUSTER * clusters)), block_tokens) @ metric
    centres = _fitted(sample, clusters)
    sums = torch.zeros(heads, clusters, 2 * store.shape[2] + 1, device=store.device)
    for rows, both in store.blocks(block_tokens, start):
        weight = count[rows.start - start : rows.stop - start, None]
        nearest = _nearest(both[:heads].float() @ metric, centres)
        for head in range(heads):
            key, value = both[head].float(), both[heads + head].float()
            sums[head] += _sums(
                torch.cat([key * weight, value * weight, weight], -1), nearest[head], clusters
            )
    numbers = sums[..., -1]
    mean_key, mean_value = (sums[..., :-1] / numbers.clamp(min=1)[..., None]).to(store.dtype).chunk(2, dim=-1)
    log_weight = torch.where(numbers > 0, numbers.clamp(min=1).log(), EMPTY)
    return Clusters(mean_key.contiguous(), mean_value.contiguous(), log_weight)


def _metric(query: Tensor) -> Tensor:
    """(heads, d, d) factor L of the second moment S = L L' of queries; a little of the identity is added."""
    query = query.float()
    moment = query.transpose(1, 2) @ query / query.shape[1]
    scale = moment.diagonal(dim1=1, dim2=2).mean(-1)[:, None, None].clamp(min=1e-12)
    identity = torch.eye(query.shape[2], device=query.device)
    return torch.linalg.cholesky(moment + 1e-2 * scale * identity)


def _sample(store: TokenStore, start: int, step: int, block_tokens: int) -> Tensor:
    """(heads, S, d) float32 keys of every so many tokens."""
    heads = store.shape[0] // 2
    parts = []
    for rows, both in store.blocks(block_tokens, start):
        parts.append(both[:heads, (start - rows.start) % step :: step].float())
    return torch.cat(parts, dim=1)


def _fitted(sample: Tensor, clusters: int) -> Tensor:
    """(heads, K, d) centres by Lloyd's iterations; a centre that attracts nothing stays where it is."""
    centres = _started(sample, clusters)
    ones = torch.ones_like(sample[..., :1])
    for _ in range(ITERATIONS):
        nearest = _nearest(sample, centres)
        sums = torch.stack(
            [
                _sums(torch.cat([points, one], -1), to, clusters)
                for points, one, to in zip(sample, ones, nearest, strict=True)
            ]
        )
        numbers = sums[..., -1:]
        centres = torch.where(numbers > 0, sums[..., :-1] / numbers.clamp(min=1), centres)
    return centres


def _started(sample: Tensor, clusters: int) -> Tensor:
    """(heads, K, d) points to start from: a quarter at equal steps, the others where those are far.

    Squared distance is the probability of k-means++ [1]_; here points are taken at equal steps of its sum
    instead of drawn, in two rounds, each of as many points as there are.
    """
    points, width = sample.shape[1:]
    centres = sample[:, _equal_steps(points, max(1, clusters // 4), sample.device)]
    while centres.shape[1] < clusters:
        wanted = min(centres.shape[1], clusters - centres.shape[1])
        nearest = torch.gather(centres, 1, _nearest(sample, centres)[..., None].expand(-1, -1, width))
        reached = (sample - nearest).square().sum(-1).double().cumsum(-1)
        steps = (torch.arange(wanted, device=sample.device) + 0.5) / wanted * reached[:, -1:]
        at = torch.searchsorted(reached, steps).clamp(max=points - 1)
        centres = torch.cat([centres, torch.gather(sample, 1, at[..., None].expand(-1, -1, width))], 1)
    return centres


def _equal_steps(points: int, wanted: int, device: torch.device) -> Tensor:
    return torch.linspace(0, points - 1, wanted, device=device).round().long()


def _nearest(points: Tensor, centres: Tensor) -> Tensor:
    """(heads, T) index of the nearest of (heads, K, d) centres for (heads, T, d) points."""
    half = centres.square().sum(-1)[:, None] / 2
    step = max(1, SCORE_BYTES // (4 * centres.shape[0] * centres.shape[1]))
    return torch.cat(
        [
            torch.baddbmm(half, part, centres.transpose(1, 2), alpha=-1).argmin(-1)
            for part in points.split(step, dim=1)
        ],
        dim=1,
    )


def _sums(rows: Tensor, group: Tensor, groups: int) -> Tensor:
    """(groups, d) sums of (T, d) rows, in the order of the rows: the same bits every time, also on a GPU."""
    order = group.argsort(stable=True)
    lengths = torch.bincount(group, minlength=groups)
    return torch.segment_reduce(rows[order], "sum", lengths=lengths, axis=0, initial=0)
