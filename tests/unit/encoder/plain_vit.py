"""A vision transformer written plainly, head by head, from its formulas: the truth for ours, in 2D and 3D.

Weights come as a dictionary with the names of DINOv2. Tokens are float64.
"""

import math

import numpy as np
import torch

from spatialdino_core.encoder.parameters import EncoderParameters
from spatialdino_core.encoder.vit import VisionTransformer3D, build_encoder


def shaken(parameters: EncoderParameters, seed: int = 0, by: float = 0.2) -> VisionTransformer3D:
    """Encoder in float64 without the zeros and ones of fresh weights, which would hide wrong terms."""
    built = build_encoder(parameters, torch.Generator().manual_seed(seed)).double()
    generator = torch.Generator().manual_seed(seed + 1)
    with torch.no_grad():
        for weight in built.parameters():
            weight += by * torch.randn(weight.shape, generator=generator, dtype=weight.dtype)
    return built.requires_grad_(False)


def volumes(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def linear(state, name, x):
    return x @ state[f"{name}.weight"].T + state[f"{name}.bias"]


def layer_norm(state, name, x, eps=1e-6):
    centred = x - x.mean(-1, keepdim=True)
    scaled = centred / (centred.square().mean(-1, keepdim=True) + eps).sqrt()
    return scaled * state[f"{name}.weight"] + state[f"{name}.bias"]


def turned(features, angles):
    """Pairs (p, p + d / 2) as complex numbers, times exp(i angle); angles (T, d / 2)."""
    first, second = features.chunk(2, -1)
    product = torch.complex(first, second) * torch.polar(torch.ones_like(angles), angles)
    return torch.cat([product.real, product.imag], -1)


def attention(state, name, x, heads, angles=None, log_weights=0.0):
    """softmax(Q K^T / sqrt(d) + log weights) V for each head; with the probabilities (B, heads, T, T)."""
    side = x.shape[-1] // heads
    qkv = linear(state, f"{name}.qkv", x)
    outs, probabilities = [], []
    for head in range(heads):
        q, k, v = (qkv[..., part * x.shape[-1] + head * side :][..., :side] for part in range(3))
        if angles is not None:
            q, k = turned(q, angles), turned(k, angles)
        probability = torch.softmax(q @ k.transpose(1, 2) / math.sqrt(side) + log_weights, -1)
        probabilities.append(probability)
        outs.append(probability @ v)
    return linear(state, f"{name}.proj", torch.cat(outs, -1)), torch.stack(probabilities, 1)


def feed_forward(state, name, x):
    if f"{name}.w3.weight" in state:
        gate, value = linear(state, f"{name}.w12", x).chunk(2, -1)
        return linear(state, f"{name}.w3", gate / (1 + torch.exp(-gate)) * value)
    hidden = linear(state, f"{name}.fc1", x)
    return linear(state, f"{name}.fc2", 0.5 * hidden * (1 + torch.erf(hidden / math.sqrt(2))))


def blocks(state, x, heads, *, eps=1e-6, angles=None, log_weights=0.0, factors=None):
    """Tokens before the first and after every block."""
    states = [x]
    depth = len({name.split(".")[1] for name in state if name.startswith("blocks.")})
    factors = torch.ones(depth, 2, len(x), dtype=x.dtype) if factors is None else factors
    for i in range(depth):
        block = {n.removeprefix(f"blocks.{i}."): w for n, w in state.items() if n.startswith(f"blocks.{i}.")}
        attended, _ = attention(block, "attn", layer_norm(block, "norm1", x, eps), heads, angles, log_weights)
        x = x + factors[i, 0, :, None, None] * block["ls1.gamma"] * attended
        fed = feed_forward(block, "mlp", layer_norm(block, "norm2", x, eps))
        x = x + factors[i, 1, :, None, None] * block["ls2.gamma"] * fed
        states.append(x)
    return states


def patch_rows(volume, side):
    """(B, C, Z, Y, X) or (B, C, Y, X) to (B, N, C side^n), patches in raster order."""
    axes = volume.ndim - 2
    for axis in range(axes):
        volume = volume.unfold(2 + axis, side, side)
    grid = volume.shape[2 : 2 + axes]
    rows = volume.movedim(1, 1 + axes)
    return rows.reshape(len(volume), math.prod(grid), -1)


def embedded(state, volume, side):
    weight = state["patch_embed.proj.weight"]
    return patch_rows(volume, side) @ weight.reshape(len(weight), -1).T + state["patch_embed.proj.bias"]


def centred(grid):
    """(N, axes) places of patches from the centre of the grid."""
    places = [[i - (n - 1) / 2 for i, n in zip(place, grid, strict=True)] for place in np.ndindex(*grid)]
    return torch.tensor(places, dtype=torch.float64)
