"""The 3D vision transformer: from a normalised volume to one class token and one token per patch.

Blocks follow ViT [1]_ with LayerScale [2]_, stochastic depth [3]_ and registers [4]_, and there is no
positional encoding: permuting the patches permutes the tokens. Not the projection heads, which
belong to pretraining, and not the tiling of large volumes.

References
----------
.. [1] Dosovitskiy et al., An Image is Worth 16x16 Words, ICLR 2021.
.. [2] Touvron et al., Going Deeper with Image Transformers, ICCV 2021.
.. [3] Huang et al., Deep Networks with Stochastic Depth, ECCV 2016.
.. [4] Darcet et al., Vision Transformers Need Registers, ICLR 2024; zero test-time registers:
   Jiang et al., Vision Transformers Don't Need Trained Registers, arXiv:2506.08010.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from spatialdino_core.encoder.parameters import EncoderParameters
from spatialdino_core.errors import BadInputError

NORM_EPS = 1e-6


@dataclass(frozen=True)
class EncoderOutput:
    """What the encoder says about a batch of B volumes.

    Attributes
    ----------
    class_token
        (B, D), one descriptor per volume.
    patch_tokens
        (B, N, D), one descriptor per patch in raster order, N = gz * gy * gx.
    grid
        (gz, gy, gx), the number of patches along z, y and x.
    class_attention
        (B, heads, N) or None. Softmax, over the patch tokens, of the scaled scores of the class
        token in the last block: the probability with which its attention, if it goes to a patch,
        goes to this one. Sums to 1 over N.
    """

    class_token: Tensor
    patch_tokens: Tensor
    grid: tuple[int, int, int]
    class_attention: Tensor | None = None


class PatchEmbedding(nn.Module):
    """Linear embedding of cubic, non-overlapping patches."""

    def __init__(self, parameters: EncoderParameters) -> None:
        super().__init__()
        side = parameters.patch_voxels
        self.proj = nn.Conv3d(parameters.channels, parameters.embed_dim, kernel_size=side, stride=side)

    def forward(self, volume: Tensor) -> Tensor:
        """(B, C, Z, Y, X) to (B, D, gz, gy, gx)."""
        return self.proj(volume)


class Attention(nn.Module):
    """Multi-head self-attention."""

    def __init__(self, parameters: EncoderParameters) -> None:
        super().__init__()
        self.heads = parameters.heads
        self.qkv = nn.Linear(parameters.embed_dim, 3 * parameters.embed_dim)
        self.proj = nn.Linear(parameters.embed_dim, parameters.embed_dim)

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, D) to (B, T, D)."""
        query, key, value = self.split(x)
        mixed = functional.scaled_dot_product_attention(query, key, value)
        return self.proj(mixed.transpose(1, 2).reshape(x.shape))

    def split(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Query, key and value, each (B, heads, T, D / heads)."""
        batch, tokens, width = x.shape
        qkv = self.qkv(x).reshape(batch, tokens, 3, self.heads, width // self.heads)
        query, key, value = qkv.permute(2, 0, 3, 1, 4)
        return query, key, value

    def class_attention(self, x: Tensor, first_patch: int) -> Tensor:
        """Softmax of the class token's scores over the patch tokens, (B, heads, N)."""
        query, key, _ = self.split(x)
        scores = query[:, :, :1] @ key[:, :, first_patch:].transpose(-2, -1) * query.shape[-1] ** -0.5
        return scores.squeeze(2).softmax(-1)


class Mlp(nn.Module):
    """Two linear layers around a GELU."""

    def __init__(self, parameters: EncoderParameters) -> None:
        super().__init__()
        self.fc1 = nn.Linear(parameters.embed_dim, parameters.mlp_dim)
        self.fc2 = nn.Linear(parameters.mlp_dim, parameters.embed_dim)

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, D) to (B, T, D)."""
        return self.fc2(functional.gelu(self.fc1(x)))


class LayerScale(nn.Module):
    """One trained factor per feature of a residual branch."""

    def __init__(self, parameters: EncoderParameters) -> None:
        super().__init__()
        self.initial = parameters.layer_scale
        self.gamma = nn.Parameter(torch.empty(parameters.embed_dim))

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, D) to (B, T, D)."""
        return x * self.gamma


class Block(nn.Module):
    """A pre-norm transformer block."""

    def __init__(self, parameters: EncoderParameters) -> None:
        super().__init__()
        self.drop_path = parameters.drop_path
        self.norm1 = nn.LayerNorm(parameters.embed_dim, eps=NORM_EPS)
        self.attn = Attention(parameters)
        self.ls1 = LayerScale(parameters)
        self.norm2 = nn.LayerNorm(parameters.embed_dim, eps=NORM_EPS)
        self.mlp = Mlp(parameters)
        self.ls2 = LayerScale(parameters)

    def forward(self, x: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """(B, T, D) to (B, T, D); with a generator, residual branches are dropped at random."""
        x = x + self._drop(self.ls1(self.attn(self.norm1(x))), generator)
        return x + self._drop(self.ls2(self.mlp(self.norm2(x))), generator)

    def _drop(self, branch: Tensor, generator: torch.Generator | None) -> Tensor:
        if generator is None or self.drop_path == 0:
            return branch
        keep = 1 - self.drop_path
        # Drawn on the CPU so that a seed means the same on every device.
        kept = torch.rand(branch.shape[0], 1, 1, generator=generator) < keep
        return branch * (kept / keep).to(branch)


class VisionTransformer3D(nn.Module):
    """The encoder.

    Parameters
    ----------
    parameters
        Its architecture. The weights are uninitialised: use `build_encoder` for a fresh encoder and
        ``weights.load_encoder`` for a trained one.
    """

    def __init__(self, parameters: EncoderParameters) -> None:
        super().__init__()
        self.architecture = parameters
        width = parameters.embed_dim
        self.patch_embed = PatchEmbedding(parameters)
        self.cls_token = nn.Parameter(torch.empty(1, 1, width))
        self.mask_token = nn.Parameter(torch.empty(1, width))
        if parameters.registers:
            self.register_tokens = nn.Parameter(torch.empty(1, parameters.registers, width))
        self.blocks = nn.ModuleList(Block(parameters) for _ in range(parameters.depth))
        self.norm = nn.LayerNorm(width, eps=NORM_EPS)

    @property
    def first_patch(self) -> int:
        """Index of the first patch token: after the class token and all registers."""
        return 1 + self.architecture.registers + self.architecture.test_time_registers

    def forward(
        self,
        volume: Tensor,
        masks: Tensor | None = None,
        *,
        class_attention: bool = False,
        generator: torch.Generator | None = None,
    ) -> EncoderOutput:
        """Encode a batch of volumes.

        Parameters
        ----------
        volume
            (B, C, Z, Y, X), floating, normalised as the weights expect; Z, Y and X are any
            multiples of the patch side.
        masks
            (B, N) bool, or None; True where a patch is replaced by the mask token.
        class_attention
            Whether to return the class token's attention over the patches.
        generator
            CPU generator of stochastic depth; None, as in inference, drops nothing.

        Raises
        ------
        BadInputError
            If the volume does not fit the architecture.
        """
        x, grid = self.embed(volume, masks)
        *blocks, last = self.blocks
        for block in blocks:
            x = block(x, generator)
        assert isinstance(last, Block)
        attention = last.attn.class_attention(last.norm1(x), self.first_patch) if class_attention else None
        x = self.norm(last(x, generator))
        return EncoderOutput(x[:, 0], x[:, self.first_patch :], grid, attention)

    def embed(self, volume: Tensor, masks: Tensor | None = None) -> tuple[Tensor, tuple[int, int, int]]:
        """Tokens before the first block, (B, T, D): class, registers, patches; with the patch grid."""
        self._check(volume)
        patches = self.patch_embed(volume)
        gz, gy, gx = patches.shape[2:]
        x = patches.flatten(2).transpose(1, 2)
        if masks is not None:
            x = torch.where(masks[..., None], self.mask_token.to(x.dtype), x)
        batch = x.shape[0]
        leading = [self.cls_token.expand(batch, -1, -1)]
        if self.architecture.registers:
            leading.append(self.register_tokens.expand(batch, -1, -1))
        if self.architecture.test_time_registers:
            leading.append(x.new_zeros(batch, self.architecture.test_time_registers, x.shape[-1]))
        return torch.cat([*leading, x], dim=1), (gz, gy, gx)

    def _check(self, volume: Tensor) -> None:
        side, channels = self.architecture.patch_voxels, self.architecture.channels
        fits = volume.ndim == 5 and volume.shape[1] == channels
        if not fits or any(length % side or length == 0 for length in volume.shape[2:]):
            raise BadInputError(
                "encoder input",
                found=f"shape {tuple(volume.shape)}",
                expected=f"(B, {channels}, Z, Y, X) with Z, Y and X multiples of {side} voxels",
                remedy="Pad or crop the volume to whole patches, with the channels of these weights.",
            )


def build_encoder(parameters: EncoderParameters, generator: torch.Generator) -> VisionTransformer3D:
    """Build an encoder on the CPU with fresh weights that depend on the generator alone.

    Linear weights and the patch embedding are drawn after Glorot and Bengio (AISTATS 2010), as in the
    original ViT: a fixed standard deviation of 0.02, fit for widths near a thousand, leaves the blocks
    of a narrow encoder closed, and its class token blind. Tokens are drawn with 0.02.
    """
    encoder = empty_encoder(parameters).to_empty(device="cpu")
    for module in encoder.modules():
        initialise(module, generator)
    for name, token in encoder.named_parameters(recurse=False):
        assert name.endswith(("_token", "_tokens"))
        nn.init.trunc_normal_(token, std=0.02, a=-0.04, b=0.04, generator=generator)
    return encoder


def empty_encoder(parameters: EncoderParameters) -> VisionTransformer3D:
    """Build an encoder without memory: its state dictionary tells names and shapes."""
    with torch.device("meta"):
        return VisionTransformer3D(parameters)


def initialise(module: nn.Module, generator: torch.Generator) -> None:
    """Draw the weights of one module, not of its children, from ``generator``."""
    if isinstance(module, nn.Linear | nn.Conv3d):
        nn.init.xavier_uniform_(module.weight.flatten(1), generator=generator)
        assert module.bias is not None
        nn.init.zeros_(module.bias)
    elif isinstance(module, nn.LayerNorm):
        nn.init.ones_(module.weight)
        nn.init.zeros_(module.bias)
    elif isinstance(module, LayerScale):
        nn.init.constant_(module.gamma, module.initial)
