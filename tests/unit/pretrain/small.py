"""A recipe for tests: the defaults of the software are for days on GPUs."""

from __future__ import annotations

from typing import Any

from spatialdino_core.crops.parameters import AugmentationParameters
from spatialdino_core.pretrain.parameters import PretrainParameters

GENTLE: dict[str, Any] = {
    "gamma_min": 0.25,
    "contrast_change": 0.0,
    "noise_max": 0.05,
    "blur_max_voxels": 0.0,
    "bleaching_max": 0.0,
    "photons_min": 0.0,
    "gradient_max": 0.0,
}
MINUTES: dict[str, Any] = {
    "steps": 300,
    "batch_size": 24,
    "global_crop_voxels": 32,
    "local_crop_voxels": 16,
    "local_crops": 2,
    "prototypes": 128,
    "head_hidden_dim": 256,
    "head_bottleneck_dim": 64,
    "learning_rate": 5e-4,
    "warmup_steps": 30,
    "frozen_prototypes_steps": 0,
    "layer_decay": 1.0,
    "patch_embedding_rate": 1.0,
    "final_weight_decay": 0.2,
    "ema_momentum": 0.98,
    "final_teacher_temperature": 0.04,
    "teacher_temperature_warmup_steps": 0,
    "targets": "centering",
    "augmentation": AugmentationParameters(**GENTLE),
    "activation_checkpointing": False,
    "log_interval_steps": 10,
    "monitor_interval_steps": 50,
    "checkpoint_interval_steps": 100,
    "checkpoint_milestone_steps": 0,
}


def small_recipe(**changes: Any) -> PretrainParameters:
    """Settings of minutes on a CPU, with changes."""
    return PretrainParameters(**MINUTES | changes)
