"""Settings of pretraining. Not the architecture of the encoder, and not how crops are chosen."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, model_validator
from pydantic.dataclasses import dataclass

from spatialdino_core.crops.parameters import AugmentationParameters
from spatialdino_core.parameters import STRICT, Precision, without_braces


@dataclass(frozen=True, kw_only=True, config=STRICT)
class PretrainParameters:
    """Settings of the self-distillation. A step is an optimiser step, whatever the accumulation.

    The defaults are a recipe for days on GPUs, after DINOv2 (Oquab et al., TMLR 2024). One class token for 32
    prototypes is the least that Sinkhorn-Knopp needs: with fewer crops in a step (counted over all processes,
    not over micro-batches) take fewer prototypes, and on a batch of some dozens centring, because
    Sinkhorn-Knopp stays at the uniform solution there (``recipes/demo.yaml``).
    """

    start_from: Annotated[
        str,
        Field(description="weights (safetensors) to go on from, with heads made anew; empty: none"),
        AfterValidator(without_braces),
    ] = ""
    steps: Annotated[int, Field(ge=1, le=10**8, description="Optimiser steps")] = 100_000
    batch_size: Annotated[
        int,
        Field(
            ge=2,
            le=2**16,
            description="Stored crops per optimiser step, over all processes and micro-batches",
        ),
    ] = 512
    accumulation: Annotated[
        int,
        Field(ge=1, le=2**15, description="Micro-batches per step that a process has one after the other"),
    ] = 1
    global_crop_voxels: Annotated[int, Field(ge=1, le=1024, description="Side of a global view (voxels)")] = (
        112
    )
    local_crop_voxels: Annotated[int, Field(ge=1, le=1024, description="Side of a local view (voxels)")] = 48
    local_crops: Annotated[int, Field(ge=0, le=64, description="Local views per stored crop")] = 8

    heads: Annotated[
        Literal["shared", "separate"], Field(description="One head for class and patch tokens, or two")
    ] = "shared"
    prototypes: Annotated[int, Field(ge=2, le=2**20, description="Prototypes of each projection head")] = (
        32768
    )
    head_hidden_dim: Annotated[int, Field(ge=1, le=2**16, description="Hidden width of the heads")] = 2048
    head_bottleneck_dim: Annotated[int, Field(ge=1, le=2**16, description="Width before the prototypes")] = (
        256
    )

    learning_rate: Annotated[float, Field(gt=0, le=1, description="Peak learning rate of AdamW")] = 1e-3
    learning_rate_scale: Annotated[
        float, Field(gt=0, le=1, description="Factor of all learning rates; 0.1 to 0.5 with start_from")
    ] = 1.0
    final_learning_rate: Annotated[float, Field(ge=0, le=1, description="Learning rate at the end")] = 1e-6
    warmup_steps: Annotated[
        int, Field(ge=0, le=10**8, description="Steps of linear learning rate warm-up")
    ] = 10_000
    patch_smoothing_voxels: Annotated[
        float,
        Field(
            ge=0,
            le=4,
            description="Standard deviation of the Gaussian that smooths fresh patch-embedding filters",
        ),
    ] = 1.5
    frozen_encoder_steps: Annotated[
        int, Field(ge=0, le=10**8, description="First steps in which only the heads learn; for start_from")
    ] = 0
    frozen_prototypes_steps: Annotated[
        int, Field(ge=0, le=10**8, description="First steps in which the prototypes stay as they are")
    ] = 1250
    layer_decay: Annotated[
        float, Field(gt=0, le=1, description="Learning rate of a block over that of the block after it")
    ] = 0.9
    patch_embedding_rate: Annotated[
        float, Field(gt=0, le=1, description="Learning rate of the patch embedding over that of the blocks")
    ] = 0.2
    weight_decay: Annotated[float, Field(ge=0, le=1, description="Weight decay at the start")] = 0.04
    final_weight_decay: Annotated[float, Field(ge=0, le=1, description="Weight decay at the end")] = 0.4
    clip_norm: Annotated[float, Field(gt=0, le=1e6, description="Largest gradient norm")] = 3.0

    ema_momentum: Annotated[float, Field(ge=0, le=1, description="Teacher momentum at the start")] = 0.994
    final_ema_momentum: Annotated[float, Field(ge=0, le=1, description="Teacher momentum at the end")] = 1.0
    student_temperature: Annotated[
        float, Field(gt=0, le=10, description="Softmax temperature of the student")
    ] = 0.1
    teacher_temperature: Annotated[
        float, Field(gt=0, le=10, description="Teacher temperature at the start")
    ] = 0.04
    final_teacher_temperature: Annotated[
        float, Field(gt=0, le=10, description="Teacher temperature after its warm-up")
    ] = 0.07
    teacher_temperature_warmup_steps: Annotated[
        int, Field(ge=0, le=10**8, description="Steps of linear teacher temperature warm-up")
    ] = 30_000
    targets: Annotated[
        Literal["centering", "sinkhorn"], Field(description="How teacher outputs are kept from collapse")
    ] = "sinkhorn"
    center_momentum: Annotated[
        float, Field(ge=0, le=1, description="Momentum of the centre; 1: never centred")
    ] = 0.9
    sinkhorn_iterations: Annotated[int, Field(ge=1, le=100, description="Sinkhorn-Knopp iterations")] = 3

    dino_weight: Annotated[float, Field(ge=0, le=1000, description="Weight of the class token loss")] = 1.0
    ibot_weight: Annotated[float, Field(ge=0, le=1000, description="Weight of the masked patch loss")] = 1.0
    koleo_weight: Annotated[float, Field(ge=0, le=1000, description="Weight of the KoLeo regulariser")] = 0.1

    masked_share: Annotated[float, Field(gt=0, le=1, description="Share of global views with a mask")] = 0.5
    mask_ratio_min: Annotated[float, Field(gt=0, lt=1, description="Smallest share of masked patches")] = 0.15
    mask_ratio_max: Annotated[float, Field(gt=0, lt=1, description="Largest share of masked patches")] = 0.5
    mask_foreground_bias: Annotated[
        float,
        Field(ge=0, le=1, description="Share of mask blocks centred on bright patches; 0: anywhere"),
    ] = 0.5

    augmentation: AugmentationParameters = Field(default_factory=AugmentationParameters)

    precision: Annotated[
        Precision,
        Field(description="Arithmetic of the encoder; auto: bfloat16 on a GPU. Heads are always float32"),
    ] = "auto"
    compile: Annotated[bool, Field(description="Compile the blocks: slower start, faster steps")] = False
    activation_checkpointing: Annotated[
        bool, Field(description="Compute activations twice instead of keeping them: less memory")
    ] = True
    nodes: Annotated[
        int, Field(ge=1, le=1024, description="Machines of a Slurm cluster that train together")
    ] = 1
    processes: Annotated[int, Field(ge=1, le=256, description="Processes on each machine, one per GPU")] = 1
    loader_workers: Annotated[
        int,
        Field(ge=0, le=256, description="Processes that cut views, for each training process; 0: one thread"),
    ] = 0

    log_interval_steps: Annotated[
        int, Field(ge=1, le=10**8, description="Steps between rows of metrics.csv")
    ] = 50
    monitor_interval_steps: Annotated[
        int, Field(ge=1, le=10**8, description="Steps between looks at the held-out views")
    ] = 500
    held_out_share: Annotated[
        float,
        Field(ge=0, le=0.5, description="Share of the training movies, rounded down, that are only watched"),
    ] = 0.1
    on_collapse: Annotated[
        Literal["warn", "stop"], Field(description="What an alarm of the collapse monitor does")
    ] = "warn"
    uniform_alarm_steps: Annotated[
        int, Field(ge=1, le=10**8, description="Steps for which the class loss may stay at ln(prototypes)")
    ] = 500
    checkpoint_interval_steps: Annotated[
        int, Field(ge=1, le=10**8, description="Steps between checkpoints")
    ] = 1000
    checkpoints_kept: Annotated[
        int, Field(ge=1, le=10_000, description="Newest checkpoints that are kept")
    ] = 2
    checkpoint_milestone_steps: Annotated[
        int,
        Field(
            ge=0,
            le=10**8,
            description="Checkpoints at multiples of this many steps are never deleted; 0: none",
        ),
    ] = 25_000

    @model_validator(mode="after")
    def _ranges_are_ordered(self) -> PretrainParameters:
        if self.mask_ratio_min > self.mask_ratio_max:
            raise ValueError("mask_ratio_min must not exceed mask_ratio_max")
        if self.local_crop_voxels > self.global_crop_voxels:
            raise ValueError("local_crop_voxels must not exceed global_crop_voxels")
        if self.frozen_encoder_steps and not self.start_from:
            raise ValueError("frozen_encoder_steps is for start_from: a fresh encoder has to learn, too")
        if self.batch_size % self.accumulation:
            raise ValueError("batch_size must be a multiple of accumulation")
        return self


BOOKKEEPING = (
    *("activation_checkpointing", "nodes", "processes", "loader_workers"),
    *("log_interval_steps", "monitor_interval_steps", "on_collapse", "uniform_alarm_steps"),
    *("checkpoint_interval_steps", "checkpoints_kept", "checkpoint_milestone_steps"),
)


def recipe_of(parameters: PretrainParameters) -> dict[str, Any]:
    """What makes another model when it changes: all but where training runs and how it is watched."""
    return {name: value for name, value in asdict(parameters).items() if name not in BOOKKEEPING}
