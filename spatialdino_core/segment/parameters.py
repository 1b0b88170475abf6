"""What a user may set about segmentation. Not what is measured from the movie: that is the calibration."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field
from pydantic.dataclasses import dataclass

from spatialdino_core.parameters import STRICT

PositiveFactor = Annotated[float, Field(gt=0, le=20)]


@dataclass(frozen=True, kw_only=True, config=STRICT)
class SegmentParameters:
    """Optics, sizes and the accepted number of false positives. Detection thresholds follow from the data."""

    sigma_lateral_um: Annotated[
        float,
        Field(gt=0, le=5, description="standard deviation of the point spread function along y and x (µm)"),
    ] = 0.13
    sigma_axial_um: Annotated[
        float, Field(gt=0, le=5, description="standard deviation of the point spread function along z (µm)")
    ] = 0.33
    scale_factors: Annotated[
        tuple[PositiveFactor, ...],
        Field(
            min_length=1,
            max_length=8,
            description="blob sizes searched for, as multiples of the point spread function (1)",
        ),
    ] = (0.8, 1.25, 2.0)
    false_positives_per_frame: Annotated[
        float,
        Field(
            gt=0,
            le=1000,
            description="accepted false detections per frame inside the feature foreground, or in the whole "
            "frame when there is no usable foreground; kept within a factor of two in pure noise, while "
            "sharp-edged or textured cells give more",
        ),
    ] = 1.0
    false_positives_outside: Annotated[
        float,
        Field(
            gt=0, le=1000, description="accepted false detections per frame outside the feature foreground"
        ),
    ] = 0.1
    calibration_frames: Annotated[
        int,
        Field(ge=1, le=1000, description="first frames of the movie that calibrate its thresholds (frames)"),
    ] = 5
    noise_window_um: Annotated[
        float, Field(gt=0, le=50, description="edge of the cells in which noise is estimated (µm)")
    ] = 1.0
    max_radius_um: Annotated[
        float, Field(gt=0, le=20, description="largest distance of an object's voxel from its seed (µm)")
    ] = 0.75
    mask_level: Annotated[
        float,
        Field(
            gt=0,
            lt=1,
            description="an object's voxels are brighter than this fraction of its peak above background (1)",
        ),
    ] = 0.5
    min_volume_um3: Annotated[
        float, Field(ge=0, le=1000, description="smaller objects are dropped (µm³)")
    ] = 0.0
