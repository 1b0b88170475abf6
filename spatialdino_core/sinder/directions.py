"""Where a block would send its largest outputs: the defect directions predicted from weights alone.

A block is linearised: attention by its value path, without mixing tokens; the feed-forward layer by the
linear map that fits it best under standard normal input, without sampling. The first left singular vector
of the product of all blocks so far is the direction in which tokens of excessive norm are expected.

References
----------
.. [1] Wang, Zhang, Salzmann, SINDER: Repairing the Singular Defects of DINOv2, ECCV 2024.
.. [2] Stein, Estimation of the Mean of a Multivariate Normal Distribution, Ann. Statist. 1981, lemma 1:
   E[f(z) z^T] = E[f'(z)] for standard normal z.
.. [3] Trefethen, Weideman, The Exponentially Convergent Trapezoidal Rule, SIAM Review 2014.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from spatialdino_core.encoder.feed_forward import SwiGlu
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
        product = linearised_feed_forward(block) @ linearised_attention(block) @ product
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


def linearised_feed_forward(block: Block) -> Tensor:
    """I + diag(gamma2) W_out E[d hidden / dz] (I - 1 1^T / D), (D, D) float64 on the CPU."""
    if isinstance(block.mlp, SwiGlu):
        hidden, outward = linearised_swiglu(block.mlp.w12, block.norm2), block.mlp.w3
    else:
        hidden, outward = linearised_gelu(block.mlp.fc1, block.norm2), block.mlp.fc2
    return _residual(_double(outward.weight) @ hidden, block.ls2.gamma)


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
    weight, mean = _after_norm(linear, norm)
    spread = 1 + weight.square().sum(1)
    score = mean / spread.sqrt()
    density = torch.exp(-score.square() / 2) / math.sqrt(2 * math.pi)
    slope = torch.special.ndtr(score) + mean / spread * density / spread.sqrt()
    return slope[:, None] * weight


def linearised_swiglu(linear: nn.Linear, norm: nn.LayerNorm) -> Tensor:
    """Linear part of SiLU(a) b under z ~ N(0, I), with a = A z + mu_a and b = B z + mu_b.

    By Stein's lemma the row of one hidden unit is E[SiLU'(a) b] A + E[SiLU(a)] B; as b given a has the mean
    mu_b + cov(a, b) (a - mu_a) / var(a), the lemma once more gives

        E[SiLU'(a) b] = mu_b E[SiLU'(a)] + cov(a, b) E[SiLU''(a)].

    The expectations over the single normal variable a are sums of the trapezoidal rule, which for them
    converge exponentially (Gauss-Hermite does not where var(a) is large, by the poles of the SiLU).

    Parameters
    ----------
    linear
        Gate and value layers of the SwiGLU on top of each other, (2 hidden, D).
    norm
        w and b of the layer norm before them.

    Returns
    -------
    torch.Tensor
        (hidden, D) float64 on the CPU.
    """
    weight, mean = _after_norm(linear, norm)
    (gate, value), (gate_mean, value_mean) = weight.chunk(2), mean.chunk(2)
    nodes = torch.linspace(-9, 9, 1801, dtype=torch.float64)
    masses = torch.exp(-nodes.square() / 2)
    masses = masses / masses.sum()
    inputs = gate_mean[:, None] + gate.norm(dim=1)[:, None] * nodes
    sigmoid = torch.sigmoid(inputs)
    curved = sigmoid * (1 - sigmoid)
    silu = (inputs * sigmoid) @ masses
    first = (sigmoid + inputs * curved) @ masses
    second = (curved * (2 + inputs * (1 - 2 * sigmoid))) @ masses
    along_gate = value_mean * first + (gate * value).sum(1) * second
    return along_gate[:, None] * gate + silu[:, None] * value


def _after_norm(linear: nn.Linear, norm: nn.LayerNorm) -> tuple[Tensor, Tensor]:
    """Weight and mean of W (w * z + b) + c for z ~ N(0, I)."""
    weight = _double(linear.weight) * _double(norm.weight)
    return weight, _double(linear.weight) @ _double(norm.bias) + _double(linear.bias)


def _residual(path: Tensor, gamma: Tensor) -> Tensor:
    centred = path - path.mean(dim=1, keepdim=True)  # path (I - 1 1^T / D)
    return torch.eye(len(path), dtype=torch.float64) + _double(gamma)[:, None] * centred


def _double(tensor: Tensor) -> Tensor:
    return tensor.detach().cpu().double()
