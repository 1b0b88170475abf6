"""Settings of the deskew. The geometry itself is no setting: it belongs to the movie."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from spatialdino_core.parameters import STRICT


@dataclass(frozen=True, kw_only=True, config=STRICT)
class DeskewParameters:
    """How raw stacks are sampled in the deskewed frame."""

    interpolation: Annotated[
        Literal["linear"], Field(description="interpolation along the shear: linear, within each plane")
    ] = "linear"
    fill: Annotated[
        Literal["background"] | Annotated[float, Field(ge=0, le=65535)],
        Field(description="value outside the scan: a count, or the estimated camera background (counts)"),
    ] = "background"
    grid_offset_um: Annotated[
        float,
        Field(
            ge=-1000,
            le=1000,
            description="where the first output voxel lies on the tilted axis of the first plane (µm)",
        ),
    ] = 0.0
