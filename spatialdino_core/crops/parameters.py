"""Settings of the intensity scale, of the training crops and of their augmentation."""

from __future__ import annotations

import math
from typing import Annotated, Literal

from pydantic import Field, model_validator
from pydantic.dataclasses import dataclass

from spatialdino_core.parameters import STRICT

VoxelSize = Annotated[float, Field(ge=0.005, le=10)]
"""Side of a voxel (µm) as microscopes have them; what lies outside is in another unit."""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class NormalisationParameters:
    """How camera counts become values in [0, 1], robust against hot pixels."""

    scale: Annotated[
        Literal["movie", "frame", "global"],
        Field(description="one scale per movie, per frame, or low_counts and high_counts for all movies"),
    ] = "movie"
    tail_fraction: Annotated[
        float, Field(gt=0, lt=0.5, description="fraction of voxels clipped at each end of the histogram (1)")
    ] = 1 / 5000
    calibration_frames: Annotated[
        int, Field(ge=1, le=1000, description="first frames of a movie that set its scale (frames)")
    ] = 1
    low_counts: Annotated[
        float | None, Field(ge=0, le=65535, description="with 'scale: global', what becomes 0 (counts)")
    ] = None
    high_counts: Annotated[
        float | None, Field(gt=0, le=65535, description="with 'scale: global', what becomes 1 (counts)")
    ] = None

    @model_validator(mode="after")
    def _counts_belong_to_the_global_scale(self) -> NormalisationParameters:
        given = self.low_counts is not None, self.high_counts is not None
        if given != (self.scale == "global",) * 2:
            raise ValueError("low_counts and high_counts are given exactly when scale is 'global'")
        if (self.low_counts or 0) >= (self.high_counts or math.inf):
            raise ValueError("low_counts must be below high_counts")
        return self


@dataclass(frozen=True, kw_only=True, config=STRICT)
class CropParameters:
    """Where and how many crops are cut out of a training movie, and how they are stored."""

    voxel_um: Annotated[
        VoxelSize | None,
        Field(description="isotropic voxel size of the crops (µm); null: the pixel size of the movie"),
    ] = None
    crop_voxels: Annotated[
        int, Field(ge=8, le=1024, description="smallest side of a crop (isotropic voxels)")
    ] = 144
    min_size_fraction: Annotated[
        float,
        Field(ge=0, le=1, description="smallest side of a crop over that of the frame; 0: crop_voxels (1)"),
    ] = 0.3
    max_size_fraction: Annotated[
        float,
        Field(ge=0, le=1, description="largest side of a crop over that of the frame; 0: crop_voxels (1)"),
    ] = 0.6
    crops_per_frame: Annotated[
        int,
        Field(ge=1, le=1000, description="clusters of bright voxels in a frame, each the centre of a crop"),
    ] = 4
    frames_per_movie: Annotated[
        int, Field(ge=1, le=100_000, description="frames that crops are taken from, evenly spread")
    ] = 12
    attracted_by: Annotated[
        Literal["intensity", "detail"],
        Field(
            description="what the percentiles are of: 'intensity' (the brightest regions) or 'detail' (small "
            "bright structures, wherever they are; slower)"
        ),
    ] = "intensity"
    detail_voxels: Annotated[
        float,
        Field(gt=0, le=20, description="standard deviation of the smallest structures (isotropic voxels)"),
    ] = 1.2
    low_percentile: Annotated[
        float, Field(ge=0, le=100, description="voxels above this percentile may attract a crop (%)")
    ] = 99.75
    high_percentile: Annotated[
        float, Field(ge=0, le=100, description="voxels above this percentile attract none: hot pixels (%)")
    ] = 99.9
    fallback_percentile: Annotated[
        float,
        Field(
            ge=0,
            le=100,
            description="without voxels between the two, all above this one attract; without any, all do (%)",
        ),
    ] = 95.0
    channels: Annotated[
        Literal["single", "average", "random"],
        Field(description="one channel, the average of all, or all, of which each view shows a random one"),
    ] = "single"
    channel: Annotated[
        int,
        Field(
            ge=0, le=63, description="with 'channels: single', which one, from 0 in the order of the sheet"
        ),
    ] = 0
    shard_mb: Annotated[float, Field(gt=0, le=1e6, description="largest size of a shard file (MB)")] = 950.0
    on_corrupt_shard: Annotated[
        Literal["fail", "skip"], Field(description="a damaged shard ends training, or is left out")
    ] = "fail"

    @model_validator(mode="after")
    def _ranges_are_ordered(self) -> CropParameters:
        if self.low_percentile >= self.high_percentile:
            raise ValueError("low_percentile must be below high_percentile")
        if self.fallback_percentile > self.low_percentile:
            raise ValueError("fallback_percentile must not exceed low_percentile")
        if self.min_size_fraction > self.max_size_fraction:
            raise ValueError("min_size_fraction must not exceed max_size_fraction")
        return self


@dataclass(frozen=True, kw_only=True, config=STRICT)
class AugmentationParameters:
    """Random changes of a view of a crop. What is 0 or none is off."""

    axial_axis: Annotated[
        Literal["z", "y", "x", "none"],
        Field(description="axis of poorest resolution, about which views are turned; none: about any axis"),
    ] = "z"
    gamma_min: Annotated[float, Field(gt=0, le=1, description="smallest exponent of intensities")] = 0.5
    gamma_max: Annotated[float, Field(ge=1, le=10, description="largest exponent of intensities")] = 2.0
    contrast_change: Annotated[
        float, Field(ge=0, lt=1, description="contrast about the mean is scaled by a factor in 1 ± this")
    ] = 0.4
    noise_max: Annotated[
        float,
        Field(ge=0, le=1, description="largest standard deviation of added noise (normalised intensity)"),
    ] = 0.1
    noise_views: Annotated[Literal["global", "all"], Field(description="views that noise is added to")] = (
        "global"
    )
    blur_max_voxels: Annotated[
        float, Field(ge=0, le=8, description="largest standard deviation of a Gaussian blur (voxels)")
    ] = 0.5
    bleaching_max: Annotated[
        float, Field(ge=0, lt=1, description="largest fraction of the signal that is lost to bleaching (1)")
    ] = 0.3
    photons_min: Annotated[
        float,
        Field(
            ge=0,
            le=1e6,
            description="photons at intensity 1, counted anew; drawn up to ten times as many",
        ),
    ] = 20.0
    gradient_max: Annotated[
        float,
        Field(ge=0, le=1, description="largest rise of a background across a view (normalised intensity)"),
    ] = 0.2
    local_inside_global: Annotated[
        bool, Field(description="local views are cut out of the global ones, not anywhere out of the crop")
    ] = False
