"""The feed-forward layer of a block: each token by itself. Not the norm before it, nor its residual.

References
----------
.. [1] Dosovitskiy et al., An Image is Worth 16x16 Words, ICLR 2021: two layers around a GELU.
.. [2] Shazeer, GLU Variants Improve Transformer, arXiv:2002.05202, 2020: SwiGLU.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional

from spatialdino_core.encoder.parameters import EncoderParameters


class Mlp(nn.Module):
    """Two linear layers around a GELU."""

    def __init__(self, parameters: EncoderParameters) -> None:
        super().__init__()
        self.fc1 = nn.Linear(parameters.embed_dim, parameters.mlp_dim)
        self.fc2 = nn.Linear(parameters.mlp_dim, parameters.embed_dim)

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, D) to (B, T, D)."""
        return self.fc2(functional.gelu(self.fc1(x)))


class SwiGlu(nn.Module):
    """W3 (SiLU(W1 x + b1) * (W2 x + b2)) + b3, with W1 and W2 stored as one layer ``w12``."""

    def __init__(self, parameters: EncoderParameters) -> None:
        super().__init__()
        self.w12 = nn.Linear(parameters.embed_dim, 2 * parameters.mlp_dim)
        self.w3 = nn.Linear(parameters.mlp_dim, parameters.embed_dim)

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, D) to (B, T, D)."""
        gate, value = self.w12(x).chunk(2, dim=-1)
        return self.w3(functional.silu(gate) * value)


def feed_forward(parameters: EncoderParameters) -> Mlp | SwiGlu:
    """The layer that the architecture asks for."""
    return SwiGlu(parameters) if parameters.feed_forward == "swiglu" else Mlp(parameters)
