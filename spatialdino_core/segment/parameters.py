"""What a user may set about segmentation. Not what is measured from the movie: that is the calibration."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field
from pydantic.dataclasses import dataclass

from spatialdino_core.optics import OpticsParameters
from spatialdino_core.parameters import STRICT, shared

PositiveFactor = Annotated[float, Field(gt=0, le=20)]


@dataclass(frozen=True, kw_only=True, config=STRICT)
class SegmentParameters:
    """Sizes and the accepted number of false positives. Detection thresholds follow from the data."""

    optics: OpticsParameters = shared(OpticsParameters)
    size_factors: Annotated[
        tuple[PositiveFactor, ...],
        Field(
            min_length=1,
            max_length=8,
            description="sizes of particles searched for, as multiples of the point spread function (1)",
        ),
    ] = (1.0, 1.4)
    false_positives_per_frame: Annotated[
        float | None,
        Field(
            gt=0,
            le=1000,
            description="accepted false detections per frame; null: so many that the expected F1 is greatest",
        ),
    ] = None
    temporal_reach_frames: Annotated[
        int,
        Field(
            ge=0,
            le=50,
            description="frames before and after that may help where single frames do not do (frames)",
        ),
    ] = 8
    temporal_below_f1: Annotated[
        float,
        Field(
            ge=0,
            le=1,
            description="neighbouring frames help if single frames let expect an F1 score below this (1)",
        ),
    ] = 0.97
    candidate_confidence: Annotated[
        float,
        Field(
            ge=0,
            le=1,
            description="less confident maxima are no candidates; tracking decides about those below the "
            "detection threshold (1)",
        ),
    ] = 0.1
    foreground_weight: Annotated[
        float,
        Field(
            ge=0, le=10, description="weight of the foreground probability's likelihood ratio; 0: ignored (1)"
        ),
    ] = 1.0
    calibration_frames: Annotated[
        int,
        Field(
            ge=1,
            le=1000,
            description="frames, among the first of the movie, in which the detector is calibrated (frames)",
        ),
    ] = 5
    split_false_rate: Annotated[
        float,
        Field(
            ge=0,
            lt=0.5,
            description="share of single particles that may be taken for two very close ones; 0: nothing is "
            "split (1)",
        ),
    ] = 0.001
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
