"""Parameters of the deskew stage. Not the geometry of a scan, which belongs to each movie."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from spatialdino_core.parameters import STRICT


@dataclass(frozen=True, kw_only=True, config=STRICT)
class DeskewParameters:
    """How a skewed stack is resampled onto upright voxels."""

    interpolation: Annotated[
        Literal["linear"], Field(description="interpolation along the skew axis, within each raw plane")
    ] = "linear"
    fill: Annotated[
        Literal["background"] | Annotated[float, Field(ge=0, le=65535)],
        Field(
            description="value of voxels without data: 'background' (the camera background of the frame), "
            "or a number (counts)"
        ),
    ] = "background"
    grid_offset_um: Annotated[
        float,
        Field(
            allow_inf_nan=False,
            description="where along the skew axis the output grid begins, relative to the first raw voxel; "
            "to sample on another program's grid (µm)",
        ),
    ] = 0.0
