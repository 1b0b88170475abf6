"""Whether clusters may stand for the background of a layer: measured on sampled tokens, whose attention is
computed exactly too. Not the clustering.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from spatialdino_core.encoder.blockwise import TokenBlocks
from spatialdino_core.encoder.clustered import Clusters, cluster_keys
from spatialdino_core.encoder.vit import Block
from spatialdino_core.kernels.attention import attend_in_parts


@dataclass(frozen=True)
class Verdict:
    """What is used in a layer.

    Attributes
    ----------
    clusters
        None: all keys.
    error
        Mean relative error of sampled attention outputs, 0 with all keys.
    refused
        Errors of fewer clusters, which were refused.
    pairs
        Pairs of query and key that the decision cost.
    """

    clusters: Clusters | None
    error: float
    refused: tuple[float, ...]
    pairs: int


def accepted_clusters(tokens: TokenBlocks, block: Block, depth: int, exact: int) -> Verdict:
    """The fewest clusters, doubled from the number to start with, whose error is tolerated.

    Never more than half as many as there are tokens to cluster: then all keys are used.

    Parameters
    ----------
    tokens
        With the keys of this layer stored.
    block, depth
        The layer.
    exact
        Tokens from this row on are clustered.
    """
    parameters, background = tokens.parameters, tokens.tokens - exact
    clusters, refused, pairs = parameters.clusters, list[float](), 0
    if clusters > background // 2:
        return Verdict(None, 0.0, (), 0)
    rows = _sampled(exact, tokens.tokens, parameters.sampled_queries, (parameters.seed, depth))
    query, count = tokens.queries(block, rows), tokens.count[exact:]
    truth, _ = attend_in_parts(tokens.attend, query, tokens.parts())
    pairs += len(rows) * tokens.tokens
    while clusters <= background // 2:
        found = cluster_keys(tokens.keys, exact, count, clusters, query, parameters.query_block_tokens)
        approximate, _ = attend_in_parts(tokens.attend, query, tokens.parts(found, exact))
        pairs += background * clusters + len(rows) * (exact + clusters)
        error = worse_error(approximate, truth, rows < exact)
        if error <= parameters.tolerance:
            return Verdict(found, error, tuple(refused), pairs)
        refused.append(error)
        clusters *= 2
    return Verdict(None, 0.0, tuple(refused), pairs)


def _sampled(exact: int, tokens: int, wanted: int, seed: tuple[int, int]) -> Tensor:
    """Ascending rows of tokens, half of them before ``exact`` and half from it on, if there are as many."""
    generator = np.random.default_rng(seed)
    kinds = (np.arange(exact), np.arange(exact, tokens))
    drawn = [generator.choice(rows, min(wanted // 2, len(rows)), replace=False) for rows in kinds]
    return torch.from_numpy(np.sort(np.concatenate(drawn)))


def worse_error(approximate: Tensor, truth: Tensor, foreground: Tensor) -> float:
    """Mean over tokens of the relative error of their outputs, the worse of foreground and background.

    Parameters
    ----------
    approximate, truth
        (heads, S, d), a token's heads taken together.
    foreground
        (S,) bool.
    """
    difference = (approximate - truth).square().sum((0, 2)).sqrt()
    relative = (difference / truth.square().sum((0, 2)).sqrt()).cpu()
    kinds = [relative[kind] for kind in (foreground, ~foreground) if kind.any()]
    return max(float(kind.mean()) for kind in kinds)
