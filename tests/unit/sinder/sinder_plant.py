"""A small encoder with a planted singular defect, and crops in which it shows."""

import copy
from dataclasses import replace

import numpy as np
import torch

from spatialdino_core.encoder.parameters import EncoderParameters
from spatialdino_core.encoder.vit import build_encoder

SMALL = EncoderParameters(
    embed_dim=32, depth=3, heads=2, patch_voxels=4, registers=1, layer_scale=1.0, drop_path=0.0
)
GATED = replace(SMALL, feed_forward="swiglu")
TURNED = replace(SMALL, positions="rope")
PLANTED_BLOCK = 1


def spot_crop(seed, side=24):
    """Noise with two small bright spots, about 1 % of the patches."""
    rng = np.random.default_rng(seed)
    z, y, x = np.ogrid[:side, :side, :side]
    volume = rng.normal(0.2, 0.005, (side,) * 3)
    for cz, cy, cx in rng.integers(1, side // 4 - 1, (2, 3)) * 4 + 1.5:
        volume += 0.7 * np.exp(-((z - cz) ** 2 + (y - cy) ** 2 + (x - cx) ** 2))
    return volume.clip(0, 1).astype(np.float32)[None]


def crops(count=16):
    return [spot_crop(seed) for seed in range(count)]


def healthy(parameters=SMALL):
    """Fresh weights, with an embedding strong enough for tokens to differ by what they show."""
    encoder = build_encoder(parameters, torch.Generator().manual_seed(0))
    encoder.patch_embed.proj.weight.data *= 10
    return encoder


@torch.no_grad()
def planted(strength=10.0, parameters=SMALL):
    """The healthy encoder with c u v^T added to one feed-forward layer, and u.

    GELU(a) - GELU(-a) = a, so two hidden units of an MLP make an exactly linear path; of a SwiGLU, one whose
    gate is constant. v is the matched filter of
    the spots, so spots explode along u and other tokens hardly move.
    """
    encoder = copy.deepcopy(healthy(parameters))
    block = encoder.blocks[PLANTED_BLOCK]
    volumes = torch.from_numpy(np.stack(crops(8)))
    x, grid = encoder.embed(volumes)
    rotation = encoder.rotation(grid)
    x = encoder.blocks[0](x, rotation)
    x = x + block.ls1(block.attn(block.norm1(x), rotation))
    first = encoder.first_patch
    inputs, others = block.norm2(x)[:, first:].flatten(0, 1), block.norm2(x)[:, :first].flatten(0, 1)
    bright = torch.nn.functional.max_pool3d(volumes, 4).flatten() > 0.45
    bulk, spots = torch.cat([inputs[~bright], others]), inputs[bright].mean(0)
    v = torch.linalg.solve(bulk.T @ bulk / len(bulk) + 1e-3 * torch.eye(32), spots)
    v = v - v.mean()
    v = v / (v @ spots)
    u = torch.randn(32, generator=torch.Generator().manual_seed(1))
    u = u / u.norm()
    norm = x[:, first:].norm(dim=-1).median()
    share = (strength * norm * v.norm()).sqrt()  # both layers get the same leading singular value
    if parameters.feed_forward == "swiglu":
        hidden = parameters.mlp_dim
        block.mlp.w12.weight[0], block.mlp.w12.bias[0] = 0, 1
        block.mlp.w12.weight[hidden] = share * v / v.norm()
        block.mlp.w3.weight[:, 0] = share * u / torch.sigmoid(torch.tensor(1.0))
        return encoder, u
    block.mlp.fc1.weight[:2] = share * torch.stack([v, -v]) / v.norm()
    block.mlp.fc2.weight[:, :2] = share * torch.stack([u, -u], 1)
    return encoder, u
