"""Settings of feature extraction."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from spatialdino_core.parameters import STRICT


@dataclass(frozen=True, kw_only=True, config=STRICT)
class FeatureParameters:
    """How a movie's frames are turned into features.

    The voxel size and the intensity scale are not settings: they are the weights' own.
    """

    components: Annotated[
        int, Field(ge=1, description="principal components kept per patch (0 < components <= embedding size)")
    ] = 16
    keep: Annotated[
        Literal["components", "all"], Field(description="store principal components, or every channel")
    ] = "components"
    overlap: Annotated[
        float, Field(ge=0, lt=1, description="overlap of neighbouring windows (fraction of a window)")
    ] = 0.5
    window_batch: Annotated[int, Field(ge=1, description="windows encoded at once")] = 8
    calibration_frames: Annotated[
        int, Field(ge=1, description="first frames of a movie that set its foreground model (frames)")
    ] = 1  # a rewritten calibration frame costs the whole movie, any other frame only itself
