"""Thresholds of the automatic verdict on a movie. Permissive: a human has the last word."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator
from pydantic.dataclasses import dataclass

from spatialdino_core.parameters import STRICT


@dataclass(frozen=True, kw_only=True, config=STRICT)
class QualityParameters:
    """How much of a movie is looked at, and the limits that each of its channels must keep to be accepted
    without a human."""

    frames: Annotated[
        int, Field(ge=1, le=100, description="frames looked at, evenly spread over the movie (frames)")
    ] = 5
    reject_p_value: Annotated[
        float,
        Field(
            gt=0,
            le=1,
            description="p-value of noise alone above which a movie is rejected, e.g. 0.05; 1: never (1)",
        ),
    ] = 1.0
    look_p_value: Annotated[
        float,
        Field(gt=0, le=1, description="p-value of noise alone above which you are asked to look (1)"),
    ] = 0.001
    max_saturated_fraction: Annotated[
        float,
        Field(ge=0, le=1, description="largest fraction of voxels at the top of the camera's range (1)"),
    ] = 0.001
    max_empty_planes: Annotated[
        int, Field(ge=0, le=100_000, description="most planes of a single value in one frame (planes)")
    ] = 0
    max_repeated_planes: Annotated[
        int,
        Field(ge=0, le=100_000, description="most planes identical to the one before in one frame (planes)"),
    ] = 0
    max_repeated_frames: Annotated[
        int,
        Field(
            ge=0,
            le=100_000,
            description="most looked-at frames identical to the one looked at before (frames)",
        ),
    ] = 0
    max_missing_fraction: Annotated[
        float,
        Field(ge=0, le=1, description="largest fraction of frames that may be left out as bad (1)"),
    ] = 0.25
    min_focus: Annotated[
        float,
        Field(ge=0, le=1, description="lowest focus score, first frame; 0: sharpness is not judged (1)"),
    ] = 0.0
    max_signal_loss: Annotated[
        float,
        Field(
            ge=0,
            le=1,
            description="largest fraction of the signal lost from first to last frame; 1: not judged (1)",
        ),
    ] = 0.9
    min_half_life_s: Annotated[
        float,
        Field(ge=0, le=1e9, description="shortest half-life of the signal; 0: bleaching is not judged (s)"),
    ] = 0.0
    max_motion_um: Annotated[
        float | None,
        Field(
            ge=0,
            le=1e4,
            description="largest rigid shift from the first frame to the next; null: not judged (µm)",
        ),
    ] = 1.0
    max_drift_um: Annotated[
        float | None,
        Field(
            ge=0,
            le=1e4,
            description="largest rigid shift from the first frame to the last; null: not judged (µm)",
        ),
    ] = None

    geometry_check: Annotated[
        Literal["refuse", "warn", "off"],
        Field(
            description="a movie whose planes contradict its declared geometry: `refuse` rejects it, `warn` "
            "asks you to look, `off` says nothing"
        ),
    ] = "refuse"

    @model_validator(mode="after")
    def _doubt_comes_before_certainty(self) -> QualityParameters:
        if self.look_p_value > self.reject_p_value:
            raise ValueError("look_p_value must not exceed reject_p_value")
        return self
