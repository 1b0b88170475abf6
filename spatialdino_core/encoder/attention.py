"""Multi-head self-attention, and what the class token attends to. Not where positions come from.

Queries, keys and values of any run of tokens can be had separately (`Attention.split`, `Attention.join`),
so that a volume of more tokens than fit at once may be attended to in parts.

References
----------
.. [1] Vaswani et al., Attention Is All You Need, NeurIPS 2017.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from spatialdino_core.encoder.parameters import EncoderParameters
from spatialdino_core.encoder.positions import rotate


class Attention(nn.Module):
    """Multi-head self-attention."""

    def __init__(self, parameters: EncoderParameters) -> None:
        super().__init__()
        self.heads = parameters.heads
        self.rotates = parameters.positions == "rope"
        self.qkv = nn.Linear(parameters.embed_dim, 3 * parameters.embed_dim)
        self.proj = nn.Linear(parameters.embed_dim, parameters.embed_dim)

    def forward(self, x: Tensor, rotation: Tensor | None = None) -> Tensor:
        """(B, T, D) to (B, T, D); for ``rotation`` see `split`."""
        query, key, value = self.split(x, rotation)
        return self.join(functional.scaled_dot_product_attention(query, key, value))

    def split(self, x: Tensor, rotation: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """Query, key and value, each (B, heads, T, D / heads).

        Parameters
        ----------
        x
            (B, T, D), any run of tokens after the block's norm.
        rotation
            (2, T, D / heads), the run's part of ``VisionTransformer3D.rotation``; None without rope.
        """
        if self.rotates != (rotation is not None):
            raise ValueError("a rotation is needed with rope, and only then")
        batch, tokens, width = x.shape
        qkv = self.qkv(x).reshape(batch, tokens, 3, self.heads, width // self.heads)
        query, key, value = qkv.permute(2, 0, 3, 1, 4)
        if rotation is not None:
            query, key = rotate(query, rotation), rotate(key, rotation)
        return query, key, value

    def join(self, mixed: Tensor) -> Tensor:
        """Mixed values (B, heads, T, D / heads) to (B, T, D): the heads side by side, projected."""
        return self.proj(mixed.transpose(1, 2).flatten(2))


def class_scores(query: Tensor, key: Tensor) -> Tensor:
    """What the class token looks at: its scores for patch tokens, whose softmax is its class attention.

    The one definition of class attention: the softmax, over patch tokens only, of q . k / sqrt(d). It is
    computed from queries and keys in at least float32, apart from the attention that mixes the values, so
    that it does not depend on the kernel which does that.

    Parameters
    ----------
    query
        (B, heads, 1, d), of the class token.
    key
        (B, heads, N, d), of patch tokens; keys of several runs may be scored one after another.

    Returns
    -------
    torch.Tensor
        (B, heads, N), float32, or float64 where ``query`` is.
    """
    precision = torch.promote_types(query.dtype, torch.float32)
    # A product and a sum, because a matrix product may be rounded to bfloat16 (autocast) or TF32.
    return (query.to(precision) * key.to(precision)).sum(-1) * query.shape[-1] ** -0.5
