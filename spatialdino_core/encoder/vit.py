"""The 3D vision transformer: from a normalised volume to one class token and one token per patch.

Blocks follow ViT [1]_ with LayerScale [2]_, stochastic depth [3]_ and registers [4]_. By default there is
no positional encoding: permuting the patches permutes the tokens. Not the projection heads, which
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

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from spatialdino_core.encoder.attention import Attention, class_scores
from spatialdino_core.encoder.feed_forward import feed_forward
from spatialdino_core.encoder.parameters import EncoderParameters
from spatialdino_core.encoder.positions import Grid, LearnedPositions, RotaryPositions, SinePositions
from spatialdino_core.errors import BadInputError


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
        (B, heads, N) float32 (float64 for an encoder in float64) or None. Softmax, over the patch tokens,
        of the scaled scores of the class token in the last block (``attention.class_scores``): the
        probability with which its attention, if it goes to a patch, goes to this one. Sums to 1 over N.
    intermediate
        (B, T, D) for each block asked for, in their order: all tokens (class, registers, patches) as
        they leave the block, before the final norm.
    """

    class_token: Tensor
    patch_tokens: Tensor
    grid: Grid
    class_attention: Tensor | None = None
    intermediate: tuple[Tensor, ...] = ()


class PatchEmbedding(nn.Module):
    """Linear embedding of cubic, non-overlapping patches."""

    def __init__(self, parameters: EncoderParameters) -> None:
        super().__init__()
        side = parameters.patch_voxels
        self.proj = nn.Conv3d(parameters.channels, parameters.embed_dim, kernel_size=side, stride=side)

    def forward(self, volume: Tensor) -> Tensor:
        """(B, C, Z, Y, X) to (B, D, gz, gy, gx)."""
        return self.proj(volume)


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
        self.norm1 = nn.LayerNorm(parameters.embed_dim, eps=parameters.norm_eps)
        self.attn = Attention(parameters)
        self.ls1 = LayerScale(parameters)
        self.norm2 = nn.LayerNorm(parameters.embed_dim, eps=parameters.norm_eps)
        self.mlp = feed_forward(parameters)
        self.ls2 = LayerScale(parameters)

    def forward(self, x: Tensor, rotation: Tensor | None = None, factors: Tensor | None = None) -> Tensor:
        """One block.

        Parameters
        ----------
        x
            (B, T, D) tokens.
        rotation
            What ``VisionTransformer3D.rotation`` gives: (2, T, D / heads) with rope, else None.
        factors
            (2, B), or None for ones: by what to multiply the attention and the feed-forward branch of
            each sample.

        Returns
        -------
        torch.Tensor
            (B, T, D).
        """
        attended = self.ls1(self.attn(self.norm1(x), rotation))
        x = x + (attended if factors is None else attended * factors[0, :, None, None])
        fed = self.ls2(self.mlp(self.norm2(x)))
        return x + (fed if factors is None else fed * factors[1, :, None, None])


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
        if parameters.positions == "learned":
            self.positions: nn.Module = LearnedPositions(parameters)
        elif parameters.positions == "sincos":
            self.positions = SinePositions(parameters)
        elif parameters.positions == "rope":
            self.positions = RotaryPositions(parameters)
        self.blocks = nn.ModuleList(Block(parameters) for _ in range(parameters.depth))
        self.norm = nn.LayerNorm(width, eps=parameters.norm_eps)

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
        depths: Sequence[int] = (),
        branch_factors: Tensor | None = None,
        checkpointing: bool = False,
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
        depths
            Indices of blocks whose output tokens to return, ascending; 0 is the first block.
        branch_factors
            (depth, 2, B) factors of stochastic depth from `draw_branch_factors`; None, as in inference,
            drops nothing.
        checkpointing
            Whether the backward pass computes each block again instead of keeping its activations.

        Raises
        ------
        BadInputError
            If the volume does not fit the architecture.
        ValueError
            If ``depths`` do not ascend, or there is no such block.
        """
        limits = (-1, *depths, len(self.blocks))
        if not all(lower < upper for lower, upper in pairwise(limits)):
            raise ValueError(f"depths {tuple(depths)} do not ascend within the {len(self.blocks)} blocks")
        x, grid = self.embed(volume, masks)
        rotation = self.rotation(grid)
        factors = None if branch_factors is None else branch_factors.to(x)
        intermediate = []
        for index, block in enumerate(self.blocks):
            before = x
            arguments = (x, rotation, None if factors is None else factors[index])
            x = checkpoint(block, *arguments, use_reentrant=False) if checkpointing else block(*arguments)
            # Not "index in depths": torch.compile overlooks members that it takes for symbols.
            if any(index == depth for depth in depths):
                intermediate.append(x)
        attention = self._class_attention(before, rotation) if class_attention else None
        x = self.norm(x)
        return EncoderOutput(x[:, 0], x[:, self.first_patch :], grid, attention, tuple(intermediate))

    def embed(self, volume: Tensor, masks: Tensor | None = None) -> tuple[Tensor, Grid]:
        """Tokens before the first block, (B, T, D): class, registers, patches; with the patch grid."""
        self._check(volume)
        patches = self.patch_embed(volume)
        gz, gy, gx = patches.shape[2:]
        x = patches.flatten(2).transpose(1, 2)
        if masks is not None:
            x = torch.where(masks[..., None], self.mask_token.to(x.dtype), x)
        if self.architecture.positions == "learned":
            x = x + self.positions((gz, gy, gx))
        elif self.architecture.positions == "sincos":
            x = x + self.positions((gz, gy, gx), x.device).to(x.dtype)
        return torch.cat([self.leading_tokens().expand(len(x), -1, -1).to(x.dtype), x], dim=1), (gz, gy, gx)

    def leading_tokens(self) -> Tensor:
        """(1, L, D): class token, registers, test-time registers, as they enter the first block."""
        leading: list[Tensor] = [self.cls_token]
        if self.architecture.registers:
            leading.append(self.register_tokens)
        if self.architecture.test_time_registers:
            shape = (1, self.architecture.test_time_registers, self.architecture.embed_dim)
            leading.append(self.cls_token.new_zeros(shape))
        return torch.cat(leading, dim=1)

    def rotation(self, grid: Grid) -> Tensor | None:
        """What each block turns queries and keys by: (2, T, D / heads) cosines and sines, None without rope.

        Rows are tokens, so that a run of tokens takes the same run of rows.
        """
        return self.positions(grid, self.first_patch) if self.architecture.positions == "rope" else None

    def _class_attention(self, before_last: Tensor, rotation: Tensor | None) -> Tensor:
        last = self.blocks[-1]
        assert isinstance(last, Block)
        query, key, _ = last.attn.split(last.norm1(before_last), rotation)
        return class_scores(query[:, :, :1], key[:, :, self.first_patch :]).softmax(-1)

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


def draw_branch_factors(parameters: EncoderParameters, samples: int, generator: torch.Generator) -> Tensor:
    """Draw which residual branches stochastic depth skips.

    Outside the forward pass, so that activation checkpointing computes the same thing twice, and on the CPU,
    so that a seed means the same on every device. A batch that is encoded in parts takes parts of the last
    axis.

    Parameters
    ----------
    parameters
        Architecture, with ``drop_path``.
    samples
        B, volumes in the batch.
    generator
        CPU generator.

    Returns
    -------
    torch.Tensor
        (depth, 2, B) float32: 0 where a branch (attention, feed-forward) is skipped, else
        1 / (1 - drop_path), so that the mean is 1.
    """
    keep = 1 - parameters.drop_path
    return (torch.rand(parameters.depth, 2, samples, generator=generator) < keep) / keep


def build_encoder(parameters: EncoderParameters, generator: torch.Generator) -> VisionTransformer3D:
    """Build an encoder on the CPU with fresh weights that depend on the generator alone.

    Linear weights and the patch embedding are drawn after Glorot and Bengio (AISTATS 2010), as in the
    original ViT: a fixed standard deviation of 0.02, fit for widths near a thousand, leaves the blocks
    of a narrow encoder closed, and its class token blind. Tokens and learned positions are drawn with 0.02.
    """
    encoder = empty_encoder(parameters).to_empty(device="cpu")
    with torch.no_grad():
        for tensor in encoder.state_dict().values():
            tensor.fill_(torch.nan)  # whatever is not initialised below shows
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
    elif isinstance(module, LearnedPositions):
        nn.init.trunc_normal_(module.table, std=0.02, a=-0.04, b=0.04, generator=generator)
    elif isinstance(module, RotaryPositions):
        module.reset()
