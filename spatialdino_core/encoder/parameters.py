"""Architecture of the encoder, and settings of importing foreign weights. Not how it is trained."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator
from pydantic.dataclasses import dataclass
from pydantic_core import ArgsKwargs

from spatialdino_core.crops.parameters import NormalisationParameters, VoxelSize
from spatialdino_core.parameters import STRICT

PRESETS: Mapping[str, Mapping[str, int]] = MappingProxyType(
    {
        "tiny": MappingProxyType({"embed_dim": 192, "depth": 12, "heads": 3}),
        "small": MappingProxyType({"embed_dim": 384, "depth": 12, "heads": 6}),
        "base": MappingProxyType({"embed_dim": 768, "depth": 12, "heads": 12}),
    }
)
"""Widths of the named sizes, as in DeiT (Touvron et al., ICML 2021): heads of 64 features."""

_Patches = Annotated[int, Field(ge=1, le=512)]


@dataclass(frozen=True, kw_only=True, config=STRICT)
class EncoderParameters:
    """Architecture of the 3D vision transformer.

    The defaults are those of the method: ViT-S/8 without positional encoding. A run of a few hundred steps
    needs a LayerScale of 1: it never opens residual branches that start at 1e-5.
    """

    size: Annotated[
        Literal["tiny", "small", "base", "custom"],
        Field(
            description="Named sizes set embed_dim, depth and heads (192/12/3, 384/12/6, 768/12/12); where "
            "one of the three is given without a size, it is custom"
        ),
    ] = "small"
    channels: Annotated[int, Field(ge=1, le=64, description="Image channels that enter together")] = 1
    embed_dim: Annotated[int, Field(ge=2, le=8192, description="Features per token")] = 384
    depth: Annotated[int, Field(ge=1, le=128, description="Number of transformer blocks")] = 12
    heads: Annotated[
        int, Field(ge=1, le=512, description="Attention heads per block; must divide embed_dim")
    ] = 6
    patch_voxels: Annotated[
        int, Field(ge=1, le=64, description="Side of the cubic patch of one token (voxels)")
    ] = 8
    feed_forward: Annotated[
        Literal["mlp", "swiglu"],
        Field(description="Feed-forward layer: two layers around a GELU, or a gated SwiGLU of equal cost"),
    ] = "mlp"
    mlp_ratio: Annotated[
        float,
        Field(gt=0, le=32, description="Hidden width of the MLP over embed_dim; SwiGLU takes 2/3 of it"),
    ] = 4.0
    positions: Annotated[
        Literal["none", "sincos", "learned", "rope"],
        Field(
            description="How a token knows where it is: not at all, fixed sines, a learned grid, or rotated "
            "queries and keys"
        ),
    ] = "none"
    position_grid: Annotated[
        tuple[_Patches, _Patches, _Patches],
        Field(description="Grid (z, y, x) of learned positions (patches); interpolated to other grids"),
    ] = (4, 4, 4)
    position_base: Annotated[
        float,
        Field(
            gt=1,
            le=1e6,
            description="Wavelengths of sincos and rope, from 2π patches to this many times that",
        ),
    ] = 100.0
    layer_scale: Annotated[
        float, Field(gt=0, le=100, description="Initial LayerScale of each residual branch")
    ] = 1e-5
    drop_path: Annotated[
        float, Field(ge=0, lt=1, description="Probability that stochastic depth skips a residual branch")
    ] = 0.1
    registers: Annotated[int, Field(ge=0, le=1024, description="Trained register tokens")] = 0
    test_time_registers: Annotated[
        int,
        Field(ge=0, le=1024, description="Zero register tokens, never trained, that may absorb high norms"),
    ] = 0
    norm_eps: Annotated[float, Field(gt=0, lt=1, description="Added to the variance by each layer norm")] = (
        1e-6
    )

    @model_validator(mode="before")
    @classmethod
    def _named_size_sets_widths(cls, data: Any) -> Any:
        given = data.kwargs if isinstance(data, ArgsKwargs) else data
        if not isinstance(given, dict):
            return data
        widths = {"embed_dim", "depth", "heads"}
        size = given.get("size", "custom" if widths & set(given) else "small")
        preset = PRESETS.get(size, {}) if isinstance(size, str) else {}
        for name in sorted(widths & set(given) & set(preset)):
            if given[name] != preset[name]:
                raise ValueError(
                    f"size: {size} has {name} {preset[name]}, and {given[name]} is given beside it: leave "
                    "one out, or say size: custom"
                )
        filled = dict(given) | {"size": size} | dict(preset)
        return ArgsKwargs(data.args, filled) if isinstance(data, ArgsKwargs) else filled

    @model_validator(mode="after")
    def _agrees_with_itself(self) -> EncoderParameters:
        if self.embed_dim % self.heads:
            raise ValueError(f"heads ({self.heads}) must divide embed_dim ({self.embed_dim})")
        if self.positions == "rope" and (self.head_dim % 2 or self.head_dim < 6):
            raise ValueError(
                f"rope needs an even number of features per head, 6 or more, not {self.head_dim}"
            )
        if self.positions == "sincos" and self.embed_dim < 6:
            raise ValueError(f"sincos needs an embed_dim of at least 6, not {self.embed_dim}")
        return self

    @property
    def head_dim(self) -> int:
        """Features per attention head."""
        return self.embed_dim // self.heads

    @property
    def mlp_dim(self) -> int:
        """Hidden width of the feed-forward layer.

        A SwiGLU has three matrices where the MLP has two, so two thirds of the width cost the same;
        rounded up to a multiple of 8, as in DINOv2.
        """
        full = round(self.embed_dim * self.mlp_ratio)
        return -(-(2 * full // 3) // 8) * 8 if self.feed_forward == "swiglu" else full


@dataclass(frozen=True, kw_only=True, config=STRICT)
class ImportParameters:
    """What the tensors of a foreign encoder do not tell."""

    voxel_um: Annotated[
        VoxelSize, Field(description="Isotropic voxel size at which the encoder will see movies (µm)")
    ]
    field_of_view_voxels: Annotated[
        int | None,
        Field(
            ge=1,
            le=2048,
            description="Side of the volume seen at once (voxels); null: of its positions, or 112",
        ),
    ] = None
    patch_voxels: Annotated[
        int | None,
        Field(
            ge=1,
            le=64,
            description="Side of the patch that a 2D encoder gets (voxels); null: 8. 3D ones keep theirs",
        ),
    ] = None
    heads: Annotated[
        int | None,
        Field(ge=1, le=512, description="Attention heads; null: 64 features each, as in published encoders"),
    ] = None
    positions: Annotated[
        Literal["none", "learned", "rope"] | None,
        Field(
            description="How its tokens know where they are: not at all (what the file holds of it is left "
            "out), by learned positions, by rotation; null: as the file tells, where it does"
        ),
    ] = None
    rope_base: Annotated[
        float | None,
        Field(gt=1, le=1e6, description="Base of the periods of rotations that the file does not store"),
    ] = None
    test_time_registers: Annotated[
        int,
        Field(ge=0, le=1024, description="Zero registers to add to those that the encoder carries"),
    ] = 0
    tail_fraction: Annotated[
        float, Field(gt=0, lt=0.5, description="Voxels of a movie clipped at each end of its intensities (1)")
    ] = NormalisationParameters().tail_fraction
    image_mean: Annotated[
        tuple[Annotated[float, Field(ge=-1000, le=1000)], ...] | None,
        Field(description="What a 2D encoder wants subtracted from images in [0, 1]; null: that of ImageNet"),
    ] = None
    image_std: Annotated[
        tuple[Annotated[float, Field(ge=1e-6, le=1000)], ...] | None,
        Field(description="What it wants them divided by then; null: that of ImageNet"),
    ] = None
