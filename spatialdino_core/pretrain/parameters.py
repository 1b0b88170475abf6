"""Settings of pretraining. Not the architecture of the encoder, and not how crops are chosen."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator
from pydantic.dataclasses import dataclass

from spatialdino_core.crops.parameters import AugmentationParameters
from spatialdino_core.parameters import STRICT


@dataclass(frozen=True, kw_only=True, config=STRICT)
class PretrainParameters:
    """Settings of the self-distillation.

    The defaults are a recipe for minutes on a CPU: few prototypes with centring, because Sinkhorn-Knopp
    on a batch of some dozens of samples stays at the uniform solution.
    """

    steps: Annotated[int, Field(ge=1, description="Optimiser steps")] = 300
    batch_size: Annotated[int, Field(ge=2, description="Stored crops per step")] = 24
    global_crop_voxels: Annotated[int, Field(ge=1, description="Side of a global view (voxels)")] = 32
    local_crop_voxels: Annotated[int, Field(ge=1, description="Side of a local view (voxels)")] = 16
    local_crops: Annotated[int, Field(ge=0, description="Local views per stored crop")] = 2

    prototypes: Annotated[int, Field(ge=2, description="Prototypes of each projection head")] = 128
    head_hidden_dim: Annotated[int, Field(ge=1, description="Hidden width of the heads")] = 256
    head_bottleneck_dim: Annotated[int, Field(ge=1, description="Width before the prototypes")] = 64

    learning_rate: Annotated[float, Field(gt=0, le=1, description="Peak learning rate of AdamW")] = 5e-4
    final_learning_rate: Annotated[float, Field(ge=0, le=1, description="Learning rate at the end")] = 1e-6
    warmup_steps: Annotated[int, Field(ge=0, description="Steps of linear learning rate warm-up")] = 30
    weight_decay: Annotated[float, Field(ge=0, le=1, description="Weight decay at the start")] = 0.04
    final_weight_decay: Annotated[float, Field(ge=0, le=1, description="Weight decay at the end")] = 0.2
    clip_norm: Annotated[float, Field(gt=0, description="Largest gradient norm")] = 3.0

    ema_momentum: Annotated[float, Field(ge=0, le=1, description="Teacher momentum at the start")] = 0.98
    final_ema_momentum: Annotated[float, Field(ge=0, le=1, description="Teacher momentum at the end")] = 1.0
    student_temperature: Annotated[float, Field(gt=0, description="Softmax temperature of the student")] = 0.1
    teacher_temperature: Annotated[float, Field(gt=0, description="Teacher temperature at the start")] = 0.04
    final_teacher_temperature: Annotated[
        float, Field(gt=0, description="Teacher temperature after its warm-up")
    ] = 0.04
    teacher_temperature_warmup_steps: Annotated[
        int, Field(ge=0, description="Steps of linear teacher temperature warm-up")
    ] = 0
    targets: Annotated[
        Literal["centering", "sinkhorn"], Field(description="How teacher outputs are kept from collapse")
    ] = "centering"
    center_momentum: Annotated[float, Field(ge=0, lt=1, description="Momentum of the centre")] = 0.9
    sinkhorn_iterations: Annotated[int, Field(ge=1, description="Sinkhorn-Knopp iterations")] = 3

    dino_weight: Annotated[float, Field(ge=0, description="Weight of the class token loss")] = 1.0
    ibot_weight: Annotated[float, Field(ge=0, description="Weight of the masked patch loss")] = 1.0
    koleo_weight: Annotated[float, Field(ge=0, description="Weight of the KoLeo regulariser")] = 0.1

    masked_share: Annotated[float, Field(gt=0, le=1, description="Share of global views with a mask")] = 0.5
    mask_ratio_min: Annotated[float, Field(gt=0, lt=1, description="Smallest share of masked patches")] = 0.1
    mask_ratio_max: Annotated[float, Field(gt=0, lt=1, description="Largest share of masked patches")] = 0.5

    augmentation: AugmentationParameters = Field(default_factory=AugmentationParameters)
    log_interval_steps: Annotated[int, Field(ge=1, description="Steps between rows of metrics.csv")] = 10
    checkpoint_interval_steps: Annotated[int, Field(ge=1, description="Steps between checkpoints")] = 100
    checkpoints_kept: Annotated[int, Field(ge=1, description="Newest checkpoints that are kept")] = 2
    uniform_alarm_steps: Annotated[
        int, Field(ge=1, description="Steps for which the class loss may stay at ln(prototypes)")
    ] = 500

    @model_validator(mode="after")
    def _ranges_are_ordered(self) -> PretrainParameters:
        if self.mask_ratio_min > self.mask_ratio_max:
            raise ValueError("mask_ratio_min must not exceed mask_ratio_max")
        if self.local_crop_voxels > self.global_crop_voxels:
            raise ValueError("local_crop_voxels must not exceed global_crop_voxels")
        return self
