"""Thresholds of the automatic verdict on a movie. Permissive: a human has the last word."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field
from pydantic.dataclasses import dataclass

from spatialdino_core.parameters import STRICT


@dataclass(frozen=True, kw_only=True, config=STRICT)
class QualityParameters:
    """Limits that a movie's first frame must keep to be accepted without a human."""

    min_snr: Annotated[
        float,
        Field(ge=0, description="lowest signal-to-noise ratio of the brightest 1e-4 of the voxels (1)"),
    ] = 5.0
    max_saturated_fraction: Annotated[
        float,
        Field(ge=0, le=1, description="largest fraction of voxels at the top of the camera's range (1)"),
    ] = 0.001
    max_empty_planes: Annotated[int, Field(ge=0, description="most planes of zeros (planes)")] = 0
    max_repeated_planes: Annotated[
        int, Field(ge=0, description="most planes identical to the one before (planes)")
    ] = 0
    min_focus: Annotated[
        float, Field(ge=0, le=1, description="lowest focus score; 0: sharpness is not judged (1)")
    ] = 0.0
