"""Small trainings that are watched as the loop does, on crops with spots or of noise. Not itself a test."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pandas as pd
import torch
from small import small_recipe

from spatialdino_core.crops.parameters import AugmentationParameters
from spatialdino_core.encoder.parameters import EncoderParameters
from spatialdino_core.pretrain.batches import make_batch
from spatialdino_core.pretrain.examine import Examination, baseline_figures, examine
from spatialdino_core.pretrain.figures import batch_figures
from spatialdino_core.pretrain.foreground import foreground_labels
from spatialdino_core.pretrain.learner import LOSSES, Learner
from spatialdino_core.pretrain.monitor import CollapseMonitor
from spatialdino_core.pretrain.networks import new_network
from spatialdino_core.pretrain.schedules import settings_at

SMALL = dict(
    steps=80,
    batch_size=16,
    global_crop_voxels=16,
    local_crop_voxels=8,
    local_crops=0,
    prototypes=32,
    head_hidden_dim=64,
    head_bottleneck_dim=32,
    learning_rate=4e-3,
    warmup_steps=15,
    ema_momentum=0.97,
    koleo_weight=1.0,
    augmentation=AugmentationParameters(
        axial_axis="none", gamma_min=0.8, gamma_max=1.25, contrast_change=0.1
    ),
)
"""A recipe that learns within seconds."""

ENCODER = EncoderParameters(embed_dim=24, depth=2, heads=2, patch_voxels=4, layer_scale=1.0, drop_path=0.0)


def spots(seed: int, side: int = 20) -> np.ndarray:
    """A crop of one of two conditions: many small dim spots, or a few large bright ones, on noise."""
    rng = np.random.default_rng(seed)
    z, y, x = np.ogrid[:side, :side, :side]
    volume = rng.normal(0.1, 0.02, (side,) * 3)
    dense = seed % 2 == 0
    width = rng.uniform(0.8, 1.2) if dense else rng.uniform(1.8, 2.6)
    for _ in range(rng.integers(12, 40) if dense else rng.integers(1, 6)):
        cz, cy, cx = rng.uniform(0, side, 3)
        brightness = rng.uniform(0.2, 0.4) if dense else rng.uniform(0.5, 0.8)
        volume += brightness * np.exp(-((z - cz) ** 2 + (y - cy) ** 2 + (x - cx) ** 2) / (2 * width**2))
    return volume.clip(0, 1).astype(np.float32)[None]


def noise(seed: int, side: int = 20) -> np.ndarray:
    """A crop without anything in it."""
    return np.random.default_rng(seed).random((1, side, side, side), dtype=np.float32)


@dataclass
class Watched:
    """What was seen of a training; ``first`` is the step at which each alarm was first up."""

    first: dict[str, int] = field(default_factory=dict)
    metrics: list[dict] = field(default_factory=list)
    held_out: list[dict] = field(default_factory=list)
    examination: Examination | None = None

    @property
    def metrics_table(self) -> pd.DataFrame:
        return pd.DataFrame(self.metrics)

    @property
    def held_out_table(self) -> pd.DataFrame:
        return pd.DataFrame(self.held_out)


def watch(
    crop=spots, *, seed=0, interval=20, base=SMALL, architecture=ENCODER, crops=None, held=None, **changes
) -> Watched:
    """Train, examine every ``interval`` steps, and note when alarms go up."""
    recipe = small_recipe(**{**base, **changes})
    crops = [crop(index) for index in range(64)] if crops is None else crops
    held = [crop(index) for index in range(1000, 1032)] if held is None else held
    start = (held[0].shape[1] - recipe.global_crop_voxels) // 2
    middle = slice(start, start + recipe.global_crop_voxels)
    views = torch.from_numpy(np.stack([one[:, middle, middle, middle] for one in held]))
    labels = foreground_labels(views, architecture.patch_voxels)
    baseline = baseline_figures(views, labels, architecture.patch_voxels)
    learner = Learner(recipe, new_network(recipe, architecture, seed), torch.device("cpu"))
    monitor, found = CollapseMonitor(recipe), Watched()
    for step in range(recipe.steps):
        settings = settings_at(recipe, step)
        batch = make_batch(crops, recipe, architecture, seed=seed, step=step).changed()
        outcome = learner.learn([batch], settings)
        monitor.observe(step, outcome.dino_loss, outcome.teacher_output)
        if (step + 1) % interval == 0:
            logits, temperature = outcome.student_class_logits, recipe.student_temperature
            figures = batch_figures(outcome.teacher_output, logits, temperature)
            found.examination = examine(learner.teacher, views, labels)
            for name in monitor.alarms(step + 1, figures | found.examination.figures):
                found.first.setdefault(name, step + 1)
            losses = {name: getattr(outcome, name) for name in LOSSES}
            now = {"step": step + 1, **losses, **vars(settings), **figures, **monitor.figures()}
            found.metrics.append(now | {"crops_per_s": 80.0, "alarms": ";".join(monitor.raised)})
            found.held_out.append({"step": step + 1, **found.examination.figures, **baseline})
    return found
