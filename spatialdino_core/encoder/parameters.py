"""Architecture of the encoder. Not how it is trained, and not what its input must look like."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, model_validator
from pydantic.dataclasses import dataclass

from spatialdino_core.parameters import STRICT


@dataclass(frozen=True, kw_only=True, config=STRICT)
class EncoderParameters:
    """Architecture of the 3D vision transformer.

    The defaults are the small encoder that learns within minutes on a CPU. LayerScale starts at 1
    because a run of a few hundred steps never opens residual branches that start at 1e-5.
    """

    channels: Annotated[int, Field(ge=1, description="Image channels that enter together")] = 1
    embed_dim: Annotated[int, Field(ge=2, description="Features per token")] = 96
    depth: Annotated[int, Field(ge=1, description="Number of transformer blocks")] = 4
    heads: Annotated[int, Field(ge=1, description="Attention heads per block; must divide embed_dim")] = 3
    patch_voxels: Annotated[int, Field(ge=1, description="Side of the cubic patch of one token (voxels)")] = 8
    mlp_ratio: Annotated[float, Field(gt=0, description="Hidden width of the MLP over embed_dim")] = 4.0
    layer_scale: Annotated[float, Field(gt=0, description="Initial LayerScale of each residual branch")] = 1.0
    drop_path: Annotated[
        float, Field(ge=0, lt=1, description="Probability that stochastic depth skips a residual branch")
    ] = 0.0
    registers: Annotated[int, Field(ge=0, description="Trained register tokens")] = 0
    test_time_registers: Annotated[
        int, Field(ge=0, description="Zero register tokens, never trained, that may absorb high norms")
    ] = 0

    @model_validator(mode="after")
    def _heads_divide_width(self) -> EncoderParameters:
        if self.embed_dim % self.heads:
            raise ValueError(f"heads ({self.heads}) must divide embed_dim ({self.embed_dim})")
        return self

    @property
    def mlp_dim(self) -> int:
        """Hidden width of the MLP."""
        return round(self.embed_dim * self.mlp_ratio)
