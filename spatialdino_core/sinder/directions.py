"""Where a block would send its largest outputs: the defect directions predicted from weights alone.

A block is linearised: attention by its value path, without mixing tokens; the GELU MLP by the linear
map that fits it best under standard normal input, in closed form. The first left singular vector of
the product of all blocks so far is the direction in which tokens of excessive norm are expected.

References
----------
.. [1] Wang, Zhang, Salzmann, SINDER: Repairing the Singular Defects of DINOv2, ECCV 2024.
.. [2] Stein, Estimation of the Mean of a Multivariate Normal Distribution, Ann. Statist. 1981, lemma 1:
   E[f(z) z^T] = E[f'(z)] for standard normal z.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from spatialdino_core.encoder.vit import Block, VisionTransformer3D


@torch.no_grad()
def defect_directions(encoder: VisionTransformer3D) -> Tensor:
    """Predict the defect direction after each block.

    Parameters
    ----------
    encoder
        The encoder; only its weights are used.

    Returns
    -------
    torch.Tensor
        (depth, D) float32 unit vectors on the encoder's device; the largest entry of each is positive.
    """
    product = torch.eye(encoder.architecture.embed_dim, dtype=torch.float64)
    directions = []
    for block in encoder.blocks:
        assert isinstance(block, Block)
        product = linearised_mlp(block) @ linearised_attention(block) @ product
        product = product / torch.linalg.matrix_norm(product, 2)  # scale is irrelevant and would overflow
        direction = torch.linalg.svd(product)[0][:, 0]
        directions.append(direction * direction[direction.abs().argmax()].sign())
    return torch.stack(directions).to(encoder.cls_token)


def linearised_attention(block: Block) -> Tensor:
    """I + diag(gamma1) W_proj W_v diag(w1) (I - 1 1^T / D), (D, D) float64 on the CPU."""
    width = block.attn.proj.in_features
    value = _double(block.attn.qkv.weight)[2 * width :]
    path = _double(block.attn.proj.weight) @ value * _double(block.norm1.weight)
    return _residual(path, block.ls1.gamma)


def linearised_mlp(block: Block) -> Tensor:
    """I + diag(gamma2) W_2 E[dGELU] W_1 diag(w2) (I - 1 1^T / D), (D, D) float64 on the CPU."""
    hidden = linearised_gelu(block.mlp.fc1, block.norm2)
    return _residual(_double(block.mlp.fc2.weight) @ hidden, block.ls2.gamma)


def linearised_gelu(linear: nn.Linear, norm: nn.LayerNorm) -> Tensor:
    """Linear part of GELU(W (w * z + b) + c) under z ~ N(0, I), by Stein's lemma.

    With pre-activations of mean mu and variance s2 and r = sqrt(1 + s2),

        E[GELU'] = Phi(mu / r) + mu / (1 + s2) * phi(mu / r) / r.

    Parameters
    ----------
    linear
        W and c, (hidden, D).
    norm
        w and b of the layer norm before it.

    Returns
    -------
    torch.Tensor
        (hidden, D) float64 on the CPU: the least-squares fit in the limit of many samples.
    """
    weight = _double(linear.weight) * _double(norm.weight)
    mean = _double(linear.weight) @ _double(norm.bias) + _double(linear.bias)
    spread = 1 + weight.square().sum(1)
    score = mean / spread.sqrt()
    density = torch.exp(-score.square() / 2) / math.sqrt(2 * math.pi)
    slope = torch.special.ndtr(score) + mean / spread * density / spread.sqrt()
    return slope[:, None] * weight


def _residual(path: Tensor, gamma: Tensor) -> Tensor:
    centred = path - path.mean(dim=1, keepdim=True)  # path (I - 1 1^T / D)
    return torch.eye(len(path), dtype=torch.float64) + _double(gamma)[:, None] * centred


def _double(tensor: Tensor) -> Tensor:
    return tensor.detach().cpu().double()
