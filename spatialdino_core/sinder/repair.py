"""Diagnose an encoder, repair it if it has singular defects, and accept the repair only if it helped.

After Wang et al., SINDER: Repairing the Singular Defects of DINOv2, ECCV 2024. Departures: a gate that
repairs nothing without a defect, robust thresholds (most patches of a micrograph are background), and
a check on crops that the repair has not seen.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from spatialdino_core.crops.source import CropSource, check_source
from spatialdino_core.encoder.vit import VisionTransformer3D
from spatialdino_core.pretrain.randomness import Purpose, numpy_generator
from spatialdino_core.progress import progress
from spatialdino_core.sinder.directions import defect_directions
from spatialdino_core.sinder.gate import BlockFigures, diagnose, outliers, verdict
from spatialdino_core.sinder.neighbours import anomalies, keep_loss, neighbour_loss
from spatialdino_core.sinder.parameters import RepairParameters
from spatialdino_core.sinder.reparameterise import fold, reparameterise
from spatialdino_core.statistics import evenly_spread


@dataclass(frozen=True)
class RepairReport:
    """What was found and done; plain values only, so ``dataclasses.asdict`` gives JSON.

    Attributes
    ----------
    decision
        ``"no singular defect"``: the encoder is as it was. ``"repaired"``: it was changed and is better
        on crops that the repair has not seen. ``"rejected"``: the repair did not help; as it was.
    reasons
        Why, in sentences.
    steps
        Optimiser steps taken.
    before, after
        Figures of each block on the diagnosis crops; ``after`` is empty if no repair was tried.
    class_cosine, patch_cosine
        Median cosine between old and new output: class tokens, and patch tokens that were no outliers.
    """

    decision: Literal["no singular defect", "repaired", "rejected"]
    reasons: list[str]
    steps: int
    before: list[BlockFigures]
    after: list[BlockFigures]
    class_cosine: float | None = None
    patch_cosine: float | None = None


def repair(
    encoder: VisionTransformer3D,
    crops: CropSource,
    parameters: RepairParameters,
    device: str | torch.device = "cpu",
    seed: int = 0,
) -> tuple[VisionTransformer3D, RepairReport]:
    """Repair the singular defects of an encoder, if it has any.

    Parameters
    ----------
    encoder
        The encoder; moved to ``device``, its weights are not changed.
    crops
        Training crops (C, Z, Y, X) in [0, 1].
    parameters
        Thresholds and training settings.
    device
        Where to compute.
    seed
        What the order of the crops depends on.

    Returns
    -------
    VisionTransformer3D
        The repaired encoder, or ``encoder`` itself where there was no defect or no improvement.
    RepairReport
        Figures before and after.

    Raises
    ------
    BadInputError
        If crops do not fit the encoder.
    """
    encoder = encoder.to(device)
    sample = _Sample(crops, encoder, parameters)
    directions = defect_directions(encoder)
    before = diagnose(encoder, sample.diagnosis_batches(), directions, parameters)
    defective, reasons = verdict(before, parameters)
    if not defective:
        return encoder, RepairReport("no singular defect", reasons, 0, before, [])
    blocks = [figures.block for figures in before if figures.defective]
    repaired, steps = _train(encoder, sample, directions, blocks, parameters, seed)
    after = diagnose(repaired, sample.diagnosis_batches(), directions, parameters)
    cosines = _cosines(encoder, repaired, sample, parameters)
    failures = _failures(before, after, cosines, parameters)
    decision: Literal["repaired", "rejected"] = "rejected" if failures else "repaired"
    report = RepairReport(decision, reasons + failures, steps, before, after, *cosines)
    return (encoder if failures else repaired), report


class _Sample:
    """The crops in use: one half to diagnose, the other to repair, all cut to one size."""

    def __init__(self, crops: CropSource, encoder: VisionTransformer3D, parameters: RepairParameters) -> None:
        architecture = encoder.architecture
        check_source(crops, architecture.channels, architecture.patch_voxels)
        chosen = evenly_spread(len(crops), parameters.max_crops).tolist()
        self.crops, self.batch_size = crops, parameters.batch_size
        self.device = encoder.cls_token.device
        self.diagnosis = chosen[::2]
        self.training = chosen[1::2] or chosen
        shortest = min(min(crops[index].shape[1:]) for index in chosen)
        self.side = shortest // architecture.patch_voxels * architecture.patch_voxels

    def diagnosis_batches(self) -> Iterator[Tensor]:
        for start in range(0, len(self.diagnosis), self.batch_size):
            yield self._batch(self.diagnosis[start : start + self.batch_size])

    def training_batch(self, seed: int, step: int) -> Tensor:
        picked = numpy_generator(seed, Purpose.REPAIR, step).integers(0, len(self.training), self.batch_size)
        return self._batch([self.training[index] for index in picked])

    def _batch(self, indices: list[int]) -> Tensor:
        cut = (slice(None), *[slice(0, self.side)] * 3)
        return torch.stack(
            [torch.from_numpy(self.crops[index][cut].astype(np.float32)) for index in indices]
        ).to(self.device)


def _train(
    encoder: VisionTransformer3D,
    sample: _Sample,
    directions: Tensor,
    blocks: list[int],
    parameters: RepairParameters,
    seed: int,
) -> tuple[VisionTransformer3D, int]:
    """Train singular values until anomalies have become rare; the folded encoder, and steps taken."""
    changed = reparameterise(encoder)
    trained = [weight for weight in changed.parameters() if weight.requires_grad]
    optimiser = torch.optim.SGD(trained, lr=parameters.learning_rate, momentum=parameters.momentum)
    clean: deque[bool] = deque(maxlen=parameters.stop_window_steps)
    steps = 0
    for step in progress(range(parameters.steps), "repair", "step"):
        volume = sample.training_batch(seed, step)
        loss = _loss(changed, encoder, volume, directions, blocks, parameters)
        steps = step + 1
        clean.append(loss is None)
        if loss is not None:
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            norm = torch.nn.utils.clip_grad_norm_(trained, parameters.clip_norm)
            if norm.isfinite():
                optimiser.step()
        if len(clean) == clean.maxlen and np.mean(clean) >= parameters.stop_share:
            break
    return fold(changed), steps


def _loss(
    changed: VisionTransformer3D,
    original: VisionTransformer3D,
    volume: Tensor,
    directions: Tensor,
    blocks: list[int],
    parameters: RepairParameters,
) -> Tensor | None:
    """Loss after the first defective block with enough anomalies, or None without any."""
    first = original.first_patch
    new, grid = changed.embed(volume)
    old, rotation = new.detach(), original.rotation(grid)
    for index, (block, unchanged) in enumerate(zip(changed.blocks, original.blocks, strict=True)):
        new = block(new, rotation)
        with torch.no_grad():
            old = unchanged(old, rotation)
        if index not in blocks:
            continue
        direction = directions[index]
        anomalous = anomalies(new[:, first:].detach(), direction, parameters)
        if anomalous.sum() < max(1, parameters.min_anomaly_rate * anomalous.numel()):
            continue
        smooth = neighbour_loss(new[:, first:], anomalous, direction, grid, parameters.temperature)
        healthy = ~(anomalous | anomalies(old[:, first:], direction, parameters))
        patches = keep_loss(new[:, first:], old[:, first:], healthy)
        leading = keep_loss(new[:, :first], old[:, :first], torch.ones_like(healthy[:, :1]).expand(-1, first))
        return smooth + parameters.keep_weight * (patches + leading)
    return None


@torch.no_grad()
def _cosines(
    old: VisionTransformer3D, new: VisionTransformer3D, sample: _Sample, parameters: RepairParameters
) -> tuple[float, float]:
    """Median cosine between old and new class tokens, and patch tokens that were no outliers."""
    classes, patches = [], []
    for volume in sample.diagnosis_batches():
        x, grid = old.embed(volume)
        rotation = old.rotation(grid)
        normal = torch.ones(1, dtype=torch.bool, device=x.device)
        for block in old.blocks:
            x = block(x, rotation)
            norms = x[:, old.first_patch :].norm(dim=-1)
            normal = normal & ~outliers(norms, parameters.outlier_mads, parameters.min_norm_ratio)
        before, after = old(volume), new(volume)
        classes.append(functional.cosine_similarity(before.class_token, after.class_token, dim=-1))
        similarity = functional.cosine_similarity(before.patch_tokens, after.patch_tokens, dim=-1)
        patches.append(similarity[normal])
    return float(torch.cat(classes).median()), float(torch.cat(patches).median())


def _failures(
    before: list[BlockFigures],
    after: list[BlockFigures],
    cosines: tuple[float, float],
    parameters: RepairParameters,
) -> list[str]:
    """What speaks against a repair, in sentences; empty if it may be used."""
    failures = []
    for old, new in zip(before, after, strict=True):
        if old.defective and new.outlier_rate * parameters.min_reduction > old.outlier_rate:
            failures.append(
                f"block {old.block}: outliers only fell from {100 * old.outlier_rate:.2g} % "
                f"to {100 * new.outlier_rate:.2g} %"
            )
    for name, cosine in zip(("class", "normal patch"), cosines, strict=True):
        if cosine < parameters.min_cosine:
            failures.append(f"{name} tokens changed: median cosine {cosine:.3f} to those before")
    return failures
