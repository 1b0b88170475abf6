"""Projection head of DINO and iBOT: from a token to its similarity with each prototype.

References
----------
Caron et al., Emerging Properties in Self-Supervised Vision Transformers, ICCV 2021, section 3 and
appendix C.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from spatialdino_core.encoder.vit import initialise
from spatialdino_core.pretrain.parameters import PretrainParameters


class ProjectionHead(nn.Module):
    """Three-layer MLP, L2 normalisation, and weight-normalised prototypes.

    Parameters
    ----------
    embed_dim
        Width of the tokens.
    parameters
        Widths of the head and number of prototypes.
    generator
        CPU generator from which the weights are drawn.
    """

    def __init__(self, embed_dim: int, parameters: PretrainParameters, generator: torch.Generator) -> None:
        super().__init__()
        hidden, bottleneck = parameters.head_hidden_dim, parameters.head_bottleneck_dim
        layers = [(embed_dim, hidden), (hidden, hidden), (hidden, bottleneck)]
        linears = [nn.utils.skip_init(nn.Linear, *widths) for widths in layers]
        for linear in linears:
            initialise(linear, generator)
        self.mlp = nn.Sequential(linears[0], nn.GELU(), linears[1], nn.GELU(), linears[2])
        # Entries of unit scale: a step of Adam then turns a prototype by little. With entries of 0.02
        # prototypes spin, and the class loss stays at the uniform solution.
        self.prototypes = nn.Parameter(torch.randn(parameters.prototypes, bottleneck, generator=generator))

    def forward(self, tokens: Tensor) -> Tensor:
        """(n, D) tokens to (n, K) logits, the cosine with each prototype."""
        # In the precision of its weights: 32,768 cosines need more than the 8 bits of bfloat16.
        directions = functional.normalize(self.mlp(tokens.to(self.prototypes)), dim=-1)
        return functional.linear(directions, functional.normalize(self.prototypes, dim=-1))
