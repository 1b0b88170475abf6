"""Settings of the intensity scale and of the training crops."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, model_validator
from pydantic.dataclasses import dataclass

from spatialdino_core.parameters import STRICT


@dataclass(frozen=True, kw_only=True, config=STRICT)
class NormalisationParameters:
    """How camera counts become values in [0, 1]: one scale per movie, robust against hot pixels."""

    tail_fraction: Annotated[
        float, Field(gt=0, lt=0.5, description="fraction of voxels clipped at each end of the histogram (1)")
    ] = 1 / 5000
    calibration_frames: Annotated[
        int, Field(ge=1, description="first frames of a movie that set its scale (frames)")
    ] = 1


@dataclass(frozen=True, kw_only=True, config=STRICT)
class CropParameters:
    """Where and how many crops are cut out of a training movie."""

    voxel_um: Annotated[
        float | None,
        Field(gt=0, description="isotropic voxel size of the crops (µm); null: the pixel size of the movie"),
    ] = None
    crop_voxels: Annotated[int, Field(ge=8, description="side of a stored crop (isotropic voxels)")] = 48
    crops_per_frame: Annotated[int, Field(ge=1, description="crops cut out of a frame")] = 16
    frames_per_movie: Annotated[
        int, Field(ge=1, description="frames that crops are taken from, evenly spread")
    ] = 12
    low_percentile: Annotated[
        float, Field(ge=0, le=100, description="voxels above this percentile may attract a crop (%)")
    ] = 99.0
    high_percentile: Annotated[
        float, Field(ge=0, le=100, description="voxels above this percentile attract none: hot pixels (%)")
    ] = 99.99
    shard_crops: Annotated[int, Field(ge=1, description="crops per shard file")] = 500

    @model_validator(mode="after")
    def _percentiles_are_ordered(self) -> CropParameters:
        if self.low_percentile >= self.high_percentile:
            raise ValueError("low_percentile must be below high_percentile")
        return self
