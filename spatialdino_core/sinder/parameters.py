"""Settings of defect diagnosis and repair. Not the maths of either."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field
from pydantic.dataclasses import dataclass

from spatialdino_core.parameters import STRICT


@dataclass(frozen=True, kw_only=True, config=STRICT)
class RepairParameters:
    """Settings of the repair of singular defects."""

    max_crops: Annotated[
        int,
        Field(ge=1, le=10**6, description="Crops used at most; one half diagnoses, the other half repairs"),
    ] = 128
    batch_size: Annotated[int, Field(ge=1, le=4096, description="Crops per step")] = 4

    outlier_mads: Annotated[
        float,
        Field(gt=0, le=1e4, description="A token is an outlier above median + this many MADs of the norm"),
    ] = 6.0
    min_norm_ratio: Annotated[
        float, Field(ge=1, le=1e4, description="... and only above this many times the median norm")
    ] = 2.0
    min_outlier_rate: Annotated[
        float, Field(ge=0, lt=1, description="Repair only where more than this share of tokens are outliers")
    ] = 0.001
    max_angle_deg: Annotated[
        float,
        Field(gt=0, le=90, description="... whose median angle to the defect direction is below this (°)"),
    ] = 30.0
    min_contrast_deg: Annotated[
        float, Field(ge=0, le=90, description="... and below that of normal tokens by at least this (°)")
    ] = 15.0

    steps: Annotated[int, Field(ge=1, le=10**7, description="Optimiser steps at most")] = 1000
    learning_rate: Annotated[float, Field(gt=0, le=100, description="Learning rate of SGD")] = 0.02
    momentum: Annotated[float, Field(ge=0, lt=1, description="Momentum of SGD")] = 0.9
    clip_norm: Annotated[float, Field(gt=0, le=1e6, description="Largest gradient norm")] = 3.0
    repair_norm_ratio: Annotated[
        float, Field(ge=1, le=1e4, description="Repair goes on until norms are below this many medians")
    ] = 1.5
    repair_angle_deg: Annotated[
        float,
        Field(gt=0, le=90, description="Outliers nearer to the direction than this are pulled back (°)"),
    ] = 60.0
    min_anomaly_rate: Annotated[
        float, Field(ge=0, lt=1, description="A batch teaches if at least this share of tokens is anomalous")
    ] = 0.002
    temperature: Annotated[
        float, Field(gt=0, le=100, description="Sharpness with which anomalous neighbours are ignored")
    ] = 0.1
    keep_weight: Annotated[
        float, Field(ge=0, le=1e4, description="Weight of the loss that keeps normal tokens where they were")
    ] = 2.0
    stop_share: Annotated[
        float, Field(gt=0, le=1, description="Stop when this share of recent batches has no anomaly")
    ] = 0.75
    stop_window_steps: Annotated[
        int, Field(ge=1, le=10**6, description="Recent batches that decide to stop")
    ] = 40

    min_reduction: Annotated[
        float,
        Field(ge=1, le=1e6, description="Accept only if the outlier rate falls by at least this factor"),
    ] = 10.0
    min_cosine: Annotated[
        float, Field(ge=-1, le=1, description="... and class and normal tokens keep this median cosine")
    ] = 0.99
