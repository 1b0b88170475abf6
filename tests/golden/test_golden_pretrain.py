"""Golden values of pretraining: batches, losses, a few steps, what is watched of them, and the stage."""

from __future__ import annotations

import json
import math
import os
import signal
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from golden import Stage, plain
from matplotlib.figure import Figure
from small_models import NORMALISATION, architecture, encoder, refused, shards, spots
from torch import Tensor

from spatialdino_core.crops.parameters import AugmentationParameters, NormalisationParameters
from spatialdino_core.crops.shards import CropShards
from spatialdino_core.encoder.header import read_header
from spatialdino_core.encoder.weights import load_encoder
from spatialdino_core.pretrain import loop
from spatialdino_core.pretrain.batches import crop_order, make_batch
from spatialdino_core.pretrain.checkpoint import checkpoints, load_latest, save_checkpoint
from spatialdino_core.pretrain.distributed import World
from spatialdino_core.pretrain.examine import baseline_figures, examine
from spatialdino_core.pretrain.figures import batch_figures, norm_figures, token_figures
from spatialdino_core.pretrain.foreground import foreground_labels
from spatialdino_core.pretrain.interruption import Interruption
from spatialdino_core.pretrain.learner import Learner
from spatialdino_core.pretrain.loader import batches_ahead
from spatialdino_core.pretrain.losses import dino_loss, ibot_loss, koleo_loss
from spatialdino_core.pretrain.masking import block_mask, masked_counts, patch_means
from spatialdino_core.pretrain.metrics import MetricsTable
from spatialdino_core.pretrain.monitor import CollapseMonitor
from spatialdino_core.pretrain.networks import Network, new_network
from spatialdino_core.pretrain.optimiser import adamw, set_rates
from spatialdino_core.pretrain.parameters import PretrainParameters, recipe_of
from spatialdino_core.pretrain.pictures import alarm_spans, held_out_figure, save_figure, training_figure
from spatialdino_core.pretrain.probe import intensity_features, linear_probe, raw_voxels
from spatialdino_core.pretrain.prototypes import PrototypeUse
from spatialdino_core.pretrain.schedules import settings_at
from spatialdino_core.pretrain.stage import pretrain_model, split_movies
from spatialdino_core.pretrain.targets import TeacherTargets, sinkhorn_knopp
from spatialdino_core.pretrain.throughput import Stopwatch, crop_cost, matrix_rate, peak_memory_mb

STAGE = Stage("pretrain", ("pretrain/*.py",))
CPU = torch.device("cpu")


def augmentation(**changes: Any) -> AugmentationParameters:
    """Every setting of the augmentation."""
    values: dict[str, Any] = dict(axial_axis="z", gamma_min=0.5, gamma_max=1.5, contrast_change=0.1)
    values |= dict(noise_max=0.05, noise_views="global", blur_max_voxels=0.0, bleaching_max=0.0)
    values |= dict(photons_min=0.0, gradient_max=0.0, local_inside_global=False)
    return AugmentationParameters(**(values | changes))


def recipe(**changes: Any) -> PretrainParameters:
    """Every setting of a tiny training."""
    values: dict[str, Any] = dict(start_from="", steps=6, batch_size=4, accumulation=1, global_crop_voxels=12)
    values |= dict(local_crop_voxels=8, local_crops=2, heads="shared", prototypes=10, head_hidden_dim=9)
    values |= dict(head_bottleneck_dim=5, learning_rate=4e-3, learning_rate_scale=0.5, warmup_steps=2)
    values |= dict(final_learning_rate=1e-4, patch_smoothing_voxels=0.8, frozen_encoder_steps=0)
    values |= dict(frozen_prototypes_steps=0, layer_decay=0.8, patch_embedding_rate=0.5, weight_decay=0.3)
    values |= dict(final_weight_decay=0.6, clip_norm=0.5, ema_momentum=0.7, final_ema_momentum=0.95)
    values |= dict(student_temperature=0.1, teacher_temperature=0.05, final_teacher_temperature=0.07)
    values |= dict(teacher_temperature_warmup_steps=3, targets="centering", center_momentum=0.8)
    values |= dict(sinkhorn_iterations=3, dino_weight=0.9, ibot_weight=0.8, koleo_weight=0.2)
    values |= dict(masked_share=0.4, mask_ratio_min=0.2, mask_ratio_max=0.5, mask_foreground_bias=0.5)
    values |= dict(augmentation=augmentation(), precision="float32", compile=False, nodes=1, processes=1)
    values |= dict(activation_checkpointing=False, loader_workers=0, log_interval_steps=2, on_collapse="warn")
    values |= dict(monitor_interval_steps=3, held_out_share=0.4, uniform_alarm_steps=500)
    values |= dict(checkpoint_interval_steps=2, checkpoints_kept=1, checkpoint_milestone_steps=4)
    return PretrainParameters(**(values | changes))


def tensor(seed: int, *shape: int) -> Tensor:
    """Normal numbers."""
    return torch.from_numpy(np.random.default_rng(seed).normal(size=shape)).float()


def probabilities(seed: int, *shape: int, sharpness: float = 2.0) -> Tensor:
    """Rows that sum to one."""
    return (sharpness * tensor(seed, *shape)).softmax(-1)


def crops(number: int = 7, channels: int = 1) -> list[np.ndarray]:
    """Spots on noise, larger than a view along each axis."""
    return [
        np.stack([spots(seed + 100 * c, (15, 17, 16), 3 + seed % 4) for c in range(channels)])
        for seed in range(number)
    ]


def moved(network: Network, before: Mapping[str, Tensor]) -> dict[str, float]:
    """How far weights went, and whither; not key biases, whose gradient is rounding alone."""
    found = {}
    for name, weight in network.named_parameters():
        change = (weight.detach() - before[name]).double()
        if name.endswith("qkv.bias"):
            change = torch.cat([part for n, part in enumerate(change.chunk(3)) if n != 1])
        change = 1000 * change.flatten()
        weights = torch.linspace(0.3, 1, len(change)).double()
        # Where they went alone could be a small difference of large numbers.
        found[name] = float(2 * change.square().mean().sqrt() + (change * weights).mean())
    return found


@STAGE.scene
def schedules(_: Path) -> Mapping[str, Any]:
    """All settings at all steps, also where parts of a schedule are empty."""
    cases = [
        recipe(),
        recipe(steps=1, warmup_steps=0, teacher_temperature_warmup_steps=0),
        recipe(steps=5, warmup_steps=9, start_from="x", frozen_encoder_steps=2, frozen_prototypes_steps=3),
        recipe(steps=3, warmup_steps=2),
    ]
    kept = recipe_of(cases[0])
    return {
        "settings": [[asdict(settings_at(case, step)) for step in range(case.steps + 1)] for case in cases],
        "no part of the recipe": sorted(set(asdict(cases[0])) - set(kept)),
        "odd": [
            refused(recipe, **changes)
            for changes in (
                dict(mask_ratio_min=0.5),
                dict(mask_ratio_min=0.51),
                dict(local_crop_voxels=12),
                dict(local_crop_voxels=13),
                dict(frozen_encoder_steps=1),
                dict(accumulation=3),
                dict(accumulation=2),
            )
        ],
    }


@STAGE.scene
def losses(_: Path) -> Mapping[str, Any]:
    """The three losses and both kinds of targets."""
    masks = torch.from_numpy(np.random.default_rng(1).random((4, 6)) < 0.4)
    masks[2] = False
    masked = int(masks.sum())
    crowded = tensor(5, 5, 3)
    crowded[3] = crowded[1]
    found: dict[str, Any] = {
        "dino": [dino_loss(tensor(2, v, 3, 5), probabilities(3, 2, 3, 5), 0.3) for v in (2, 4)],
        "ibot": ibot_loss(tensor(4, masked, 5), probabilities(6, masked, 5), masks, 0.4, 2.5),
        "koleo": [koleo_loss(crowded), koleo_loss(tensor(7, 2, 4)), koleo_loss(crowded[[1, 3, 1]])],
        "sinkhorn": [sinkhorn_knopp(tensor(8, 7, 4), 0.5, n) for n in (1, 3)],
        "no sample": sinkhorn_knopp(tensor(8, 0, 4), 0.5, 2).shape[0],
    }
    for method in ("centering", "sinkhorn"):
        targets = TeacherTargets(recipe(targets=method))
        said = []
        for step in range(3):
            said += [targets(tensor(9 + step, 4, 10), 0.2), targets(tensor(19 + step, 3, 10), 0.3)]
            targets.update()
        targets.update()  # of nothing
        found[method] = [*said, targets.center]
    return found


@STAGE.scene
def masking(_: Path) -> Mapping[str, Any]:
    """How many patches are masked, and which."""
    generator = np.random.default_rng(10)
    bright = generator.random((3, 4, 5))
    ends = [
        (8, 27, 0.5, (0.1, 0.9)),
        (5, 12, 0.3, (0.01, 0.02)),
        (3, 8, 0.1, (0.9, 0.99)),
        (7, 64, 1.0, (0.2, 0.4)),
    ]
    masks = [
        block_mask((3, 4, 5), number, np.random.default_rng(number), bright, bias)
        for number in (0, 1, 3, 4, 5, 17, 40, 60)
        for bias in (0.0, 0.3, 1.0)
    ]
    masks += [block_mask((2, 5, 3), 11, generator)]
    return {
        "counts": [masked_counts(*end, generator) for end in ends],
        "masks": [np.flatnonzero(mask).astype(np.int64) for mask in masks],
        "means": patch_means(generator.random((2, 4, 6, 8)), 2),
    }


@STAGE.scene
def batches(_: Path) -> Mapping[str, Any]:
    """Views, masks and seeds of some steps, and the order of crops."""
    several = augmentation(
        noise_views="all",
        local_inside_global=True,
        blur_max_voxels=1.0,
        bleaching_max=0.3,
        photons_min=200.0,
        gradient_max=0.2,
        axial_axis="none",
    )
    cases: dict[str, tuple[list[np.ndarray], PretrainParameters, dict[str, Any]]] = {
        "plain": (crops(), recipe(), {}),
        "one of two channels": (crops(channels=2), recipe(augmentation=several), {"drop_path": 0.4}),
        "both channels": (crops(channels=2), recipe(local_crops=0, masked_share=1.0), {"channels": 2}),
    }
    found: dict[str, Any] = {}
    for name, (source, settings, changes) in cases.items():
        shape = architecture(**changes)
        for part, step in ((0, 0), (1, 3)):
            batch = make_batch(source, settings, shape, seed=5, step=step, part=part, parts=2)
            kinds = (batch.global_views, batch.local_views)
            found[f"{name}, {part}"] = {
                "crops": batch.crops,
                "masks": [np.flatnonzero(row).astype(np.int64) for row in batch.masks.numpy()],
                "masked": batch.masked_views,
                "voxels": [views.voxels for views in kinds],
                "changes": [views.changes for views in kinds],
                "seeds": [[seed % 1009 for seed in views.seeds] for views in kinds],
                "branches": [views.branch_factors for views in kinds],
                "changed": [views.changed().voxels for views in kinds],
                "sizes": [len(views) for views in kinds],
            }
    found["orders"] = [
        crop_order(lengths, 5, seed=3, step=step)
        for lengths in ([4, 3], [1200, 30], [3])
        for step in (0, 1, 7)
    ]

    def build(step: int) -> list[Any]:
        source = crops(3)
        if step > 6:
            source[1][:, 3:9, 3:9, 3:9] = np.nan
        return [make_batch(source, recipe(), architecture(), seed=1, step=step)]

    ahead = list(batches_ahead(build, range(4, 7), workers=0, device=CPU))
    found["ahead"] = [[batch.crops, batch.global_views.voxels] for (batch,) in ahead]
    found["none ahead"] = len(list(batches_ahead(build, range(0), workers=0, device=CPU)))
    small = crops(3)
    sources = {
        "none": [],
        "small": [crop[:, :11] for crop in small],
        "axes": [crop[0] for crop in small],
        "type": [crop.astype(np.float64) for crop in small],
        "counts": [1.01 + 0 * crop for crop in small],
        "negative": [crop - 0.5 for crop in small],
        "edge": [crop[:, :12] for crop in small],
        "two channels": [np.concatenate([crop, crop]) for crop in small],
    }
    shape = architecture(channels=1)
    found["refused"] = {name: refused(loop.check_source, source, 1, 12) for name, source in sources.items()}
    found["refused"] |= {
        "three of two": refused(loop.check_source, sources["two channels"], 3, 12),
        "in a batch": refused(make_batch, sources["small"], recipe(), shape, seed=1, step=0),
        "not finite": refused(list, batches_ahead(build, range(7, 9), workers=0, device=CPU)),
    }
    return found


@STAGE.scene
def learning(_: Path) -> Mapping[str, Any]:
    """A few steps of several recipes: losses, targets, and where the weights went."""
    cases: dict[str, tuple[PretrainParameters, dict[str, Any]]] = {
        "centred": (recipe(), {}),
        "sinkhorn": (
            recipe(
                targets="sinkhorn",
                heads="separate",
                accumulation=2,
                activation_checkpointing=True,
                frozen_prototypes_steps=2,
                patch_smoothing_voxels=0.0,
                masked_share=0.25,
                clip_norm=50.0,
            ),
            {"drop_path": 0.3, "positions": "learned"},
        ),
        "frozen": (recipe(start_from="x", frozen_encoder_steps=1, local_crops=0), {"positions": "rope"}),
    }
    found: dict[str, Any] = {}
    for name, (settings, changes) in cases.items():
        shape = architecture(**changes)
        fresh = new_network(settings, shape, 7)
        student = fresh
        if name == "frozen":
            student = Network(settings, encoder(**changes), 7)
        before = {key: value.clone() for key, value in student.state_dict().items()}
        learner = Learner(settings, student, CPU)
        outcomes = []
        for step in range(3):
            parts = [
                make_batch(
                    crops(), settings, shape, seed=2, step=step, part=p, parts=settings.accumulation
                ).changed()
                for p in range(settings.accumulation)
            ]
            outcome = learner.learn(parts, settings_at(settings, step))
            numbers = [outcome.loss, outcome.dino_loss, outcome.ibot_loss, outcome.koleo_loss]
            outcomes.append([*numbers, outcome.gradient_norm, outcome.finite])
        said = outcome.teacher_output
        figures = batch_figures(said, outcome.student_class_logits, 0.1)
        found[name] = {
            "fresh": {key: float(value.std(correction=0)) for key, value in before.items()},
            "outcomes": outcomes,
            "said": [said.class_tokens, said.patch_tokens, said.class_logits, said.patch_logits],
            "targets": [said.class_targets, said.patch_targets, outcome.student_class_logits],
            "figures": figures,
            "student": moved(learner.student, before),
            "teacher": moved(learner.teacher, before),
            "centres": [learner.class_targets.center, learner.patch_targets.center],
        }
        kept = {key: value.clone() for key, value in learner.student.state_dict().items()}
        bad = replace(
            parts[0],
            global_views=replace(parts[0].global_views, voxels=parts[0].global_views.voxels * np.nan),
        )
        skipped = learner.learn([bad], settings_at(settings, 3))
        same = all(torch.equal(value, kept[key]) for key, value in learner.student.state_dict().items())
        found[name]["skipped"] = [skipped.finite, same]
        again = Learner(settings, new_network(settings, shape, 8), CPU)
        again.load_state_dict(learner.state_dict())
        both = [each.learn(parts, settings_at(settings, 3)).loss for each in (learner, again)]
        found[name]["again"] = [*both, len(learner.state_dict())]
    half = new_network(recipe(), architecture(), 7, half=True)
    batch = make_batch(crops(), recipe(), architecture(), seed=2, step=0).changed()
    answer = half(batch)
    found["half"] = [str(t.dtype) for t in (answer.class_tokens, answer.patch_tokens, answer.class_logits)]
    found["half, near"] = bool(
        (answer.class_tokens - new_network(recipe(), architecture(), 7)(batch).class_tokens).abs().max() < 0.1
    )
    return found


@STAGE.scene
def rates(_: Path) -> Mapping[str, Any]:
    """Which weights learn how fast and decay."""
    settings = recipe(start_from="x", frozen_encoder_steps=2, frozen_prototypes_steps=3)
    optimiser = adamw(new_network(settings, architecture(depth=3, positions="learned"), 1), settings)
    groups = [
        [group["part"], group["rate"], group["decays"], sum(weight.numel() for weight in group["params"])]
        for group in optimiser.param_groups
    ]
    told = []
    for step in (1, 2, 3):
        set_rates(optimiser, settings_at(settings, step))
        told.append([[group["lr"], group["weight_decay"]] for group in optimiser.param_groups])
    return {
        "groups": groups,
        "told": told,
        "betas": optimiser.defaults["betas"],
        "eps": optimiser.defaults["eps"],
    }


@STAGE.scene
def costs(_: Path) -> Mapping[str, Any]:
    """Operations by formula, and what a stopwatch makes of them."""
    cases = [
        (recipe(), architecture(test_time_registers=2)),
        (
            recipe(activation_checkpointing=True, local_crops=3),
            architecture(feed_forward="swiglu", channels=2),
        ),
    ]
    watch = Stopwatch(recipe(), architecture())
    seen = list(watch.waiting(range(5)))
    watch.start -= 100.0  # so that the time of this test does not count
    still = watch.read(CPU, 2)
    watch.rate = 1e6
    steps = len(list(watch.waiting(range(3))))
    watch.start, watch.waited = watch.start - 1000.0, 250.0
    fast = watch.read(CPU, 2)
    return {
        "costs": [asdict(crop_cost(*case)) for case in cases],
        "seen": [*seen, steps],
        "still": [still["mfu_percent"], still["data_wait_percent"] < 1, still["crops_per_s"] * 5 // 0.1],
        "fast": [
            fast["tokens_per_s"] / fast["crops_per_s"],
            fast["mfu_percent"] / fast["crops_per_s"],
            round(fast["data_wait_percent"]),
            round(1000 * fast["crops_per_s"]),
        ],
        "begun anew": [watch.waited, watch.steps],
        "rate": matrix_rate(CPU, torch.float32, 0.01) > 1e6,
        "memory": 10 < peak_memory_mb(CPU) < 1e6,
    }


@STAGE.scene
def figures(_: Path) -> Mapping[str, Any]:
    """Numbers of tokens, of few and of many."""
    tokens = tensor(30, 600, 5) + torch.arange(5.0)
    norms = tensor(31, 40, 9).abs()
    middle = norms.median()
    mad = (norms - middle).abs().median()
    norms[0, :4] = middle + mad * torch.tensor([5.7, 5.95, 6.05, 6.3])
    use = PrototypeUse(4)
    dead = []
    shares = torch.tensor([[0.9, 0.06, 0.026, 0.014], [0.9, 0.06, 0.0215, 0.0185]])
    for number in (0, 20, 19, 1, 30, 200):
        use.observe(shares[number % 2].expand(number, 4))
        dead.append(use.dead())
    again = PrototypeUse(4)
    again.load_state_dict(use.state_dict())
    return {
        "tokens": [token_figures("many", tokens), token_figures("few", tokens[:4])],
        "norms": norm_figures("block", norms),
        "dead": [*dead, again.dead(), again.shares, again.samples],
    }


@STAGE.scene
def foreground(_: Path) -> Mapping[str, Any]:
    """Labels of views with spots near the threshold, and what a probe reads from them."""
    views = np.stack(
        [np.stack([spots(seed, (24, 16, 32), 4), spots(seed + 9, (24, 16, 32), 2)]) for seed in range(9)]
    )
    faint = np.random.default_rng(32).normal(0.2, 0.02, (1, 1, 48, 48, 48)).astype(np.float32)
    z, y, x = np.ogrid[:48, :48, :48]
    for number, height in enumerate(np.linspace(0.02, 0.09, 27)):
        centre = [4 + 16 * n for n in np.unravel_index(number, (3, 3, 3))]
        apart = sum((a - c) ** 2 for a, c in zip((z, y, x), centre, strict=True))
        faint[0, 0] += (height * np.exp(-apart / (2 * 1.3**2))).astype(np.float32)
    seen = torch.from_numpy(views)
    labels = foreground_labels(seen, 8)
    network = Network(recipe(heads="separate"), encoder(channels=2, patch_voxels=8, strength=0.1), 3)
    found = examine(network, seen, labels)
    grouped = np.repeat(np.arange(9), 24)
    features, flags = intensity_features(seen, 8), labels.ravel()
    few = np.zeros(216, bool)
    few[:19] = True
    lone = grouped == 0
    return {
        "labels": [labels.astype(np.int64).sum(1), np.flatnonzero(labels).astype(np.int64)],
        "faint": [
            np.flatnonzero(foreground_labels(torch.from_numpy(faint), 16, s)).astype(np.int64)
            for s in (1.2, 2.0)
        ],
        "features": [features, raw_voxels(seen, 8)],
        "baseline": baseline_figures(seen, labels, 8),
        "nothing": baseline_figures(seen, labels & False, 8),
        "figures": {name: value for name, value in found.figures.items() if not name.startswith("probe")},
        "probed": 0.7 < found.figures["probe_auroc"] < 0.9,
        "shown": [found.views, found.patch_tokens, found.grid],
        "probe": asdict(linear_probe(features[..., ::2].reshape(216, -1), flags, grouped // 2)),
        "refused": [
            refused(linear_probe, features.reshape(216, -1), *case)
            for case in ((flags, 0 * grouped), (few, grouped % 5), (~few, grouped % 5), (lone, grouped))
        ],
        "enough": refused(linear_probe, features.reshape(216, -1), few | (np.arange(216) == 19), grouped % 5),
        "many": examine(
            network, tensor(33, 40, 2, 40, 40, 40)[:, :, ::1].abs().clamp(max=1), np.zeros((40, 125), bool)
        ).figures,
    }


def health(**changes: float) -> dict[str, float]:
    """Figures of a network that is well."""
    values = dict(cosine=0.5, rank_share=0.5, target_information=1.0, target_entropy=1.0)
    return {
        f"{place}_{name}": value for place in ("class", "patch") for name, value in values.items()
    } | changes


@STAGE.scene
def alarms(_: Path) -> Mapping[str, Any]:
    """Each alarm from both sides of its threshold."""
    most = math.log(10)
    signs = [
        dict(class_cosine=0.94),
        dict(class_cosine=0.96),
        dict(patch_rank_share=0.095),
        dict(patch_rank_share=0.105),
        dict(class_target_information=0.0195 * most, class_target_entropy=0.48 * most),
        dict(class_target_information=0.0195 * most, class_target_entropy=0.52 * most),
        dict(patch_target_information=0.0205 * most, patch_target_entropy=0.9 * most),
        dict(patch_target_information=0.0195 * most, patch_target_entropy=0.9 * most),
    ]
    found: dict[str, Any] = {}
    for number, sign in enumerate(signs):
        monitor = CollapseMonitor(recipe(warmup_steps=3))
        looks = [monitor.alarms(step, health(**sign)) for step in (2, 3, 4, 5, 6)]
        jumped = monitor.alarms(7, health(**(sign | {"class_target_entropy": 0.1})))
        found[f"sign {number}"] = [
            *looks,
            jumped,
            monitor.has_collapsed,
            monitor.alarms(8, health()),
            monitor.held,
        ]
    teaching = SimpleNamespace(
        class_targets=probabilities(40, 60, 10), patch_targets=probabilities(41, 120, 10)
    )
    for targets in ("centering", "sinkhorn"):
        monitor = CollapseMonitor(recipe(targets=targets, uniform_alarm_steps=3, warmup_steps=2))
        told = []
        for step, share in enumerate((1.0, 0.981, 0.979, 1.019, 1.0, 0.985, 1.021, 1.0, 1.0, 1.0, 1.0)):
            monitor.observe(step, share * most, teaching)
            information = 0.0205 if step < 9 else 0.0195
            told.append(
                [monitor.alarms(step, health(class_target_information=information * most)), monitor.figures()]
            )
        again = CollapseMonitor(recipe(targets=targets))
        again.load_state_dict(monitor.state_dict())
        found[targets] = [*told, again.raised, again.figures(), again.has_collapsed]
    found["starved"] = [
        CollapseMonitor(recipe(targets=targets, prototypes=k, batch_size=8, accumulation=a)).raised
        for targets, k, a in (
            ("sinkhorn", 512, 1),
            ("sinkhorn", 513, 1),
            ("centering", 600, 1),
            ("sinkhorn", 512, 2),
        )
    ]
    return found


def drawn(figure: Any) -> list[Any]:
    """Data of all lines and images of a figure, with what limits the axes."""
    return [
        [
            [np.array([line.get_xdata(), line.get_ydata()], float) for line in axes.get_lines()],
            [np.asarray(image.get_array(), float) for image in axes.get_images()],
            [[*image.get_clim()] for image in axes.get_images() if image.get_array().ndim == 2],
            [*axes.get_xlim(), *axes.get_ylim()],
            [float(patch.get_x()) for patch in axes.patches]
            + [float(patch.get_width()) for patch in axes.patches],
        ]
        for axes in figure.axes
    ]


@STAGE.scene
def pictures(folder: Path) -> Mapping[str, Any]:
    """Curves of a table with alarms, and held-out views beside their tokens: the data, not the pixels."""
    generator = np.random.default_rng(42)
    table = pd.DataFrame({"step": [2, 4, 6, 8]})
    for name in ("dino_loss", "ibot_loss", "koleo_loss", "class_cosine", "patch_rank_share", "learning_rate"):
        table[name] = generator.random(4)
    for name in (
        "class_target_entropy",
        "class_target_perplexity",
        "patch_target_perplexity",
        "ema_momentum",
    ):
        table[name] = generator.random(4) + 0.2
    table["uniform_loss"], table["weight_decay"], table["crops_per_s"] = 2.3, 0.0, [3.0, 4.0, 5.0, 4.5]
    table["class_dead_prototypes"], table["data_wait_percent"] = (
        [math.nan, 0.1, 0.2, 0.3],
        [1.0, 2.0, 3.0, 9.0],
    )
    table["alarms"] = ["", "a:class;b:patch", "b:patch", "a:class"]
    held = pd.DataFrame({"step": [3, 6], "probe_auroc": [0.6, 0.7], "voxels_auroc": [0.5, 0.5]})
    for block in range(3):
        held[f"block_{block}_norm_max"], held[f"block_{block}_norm_p50"] = [3.0 + block, 4.0], [1.5, 2.0]
    tokens = tensor(43, 3, 24, 6)
    examination = SimpleNamespace(
        patch_tokens=tokens, views=tensor(44, 3, 2, 12, 8, 16).abs(), grid=(3, 2, 4)
    )
    norms = training_figure(table, held)
    save_figure(norms, folder / "curves.png")
    return {
        "curves": drawn(norms),
        "nothing": drawn(training_figure(table[:0].assign(alarms=[]), held[:0])),
        "views": drawn(held_out_figure(examination)),
        "spans": [asdict(span) for span in alarm_spans(table)],
        "picture": (folder / "curves.png").stat().st_size > 1000,
    }


@STAGE.scene
def records(folder: Path) -> Mapping[str, Any]:
    """Which checkpoints stay, what a table holds, and signals that are remembered."""
    for step in (2, 4, 6, 8, 10, 11):
        save_checkpoint(folder / "kept", step, {"step": step}, keep=2, milestone=4)
        save_checkpoint(folder / "few", step, {"step": step}, keep=3)
    table = MetricsTable(folder / "a.csv")
    table.append({"step": 1, "x": 0.123456789, "y": math.nan, "words": "a;b"})
    table.append({"step": 3, "x": 2.0, "y": 1e-9, "words": ""})
    resumed = MetricsTable(folder / "a.csv", table.text)
    resumed.append({"step": 5, "x": 0.1, "y": 0.2, "words": "c"})
    (folder / "damaged").mkdir()
    (folder / "damaged" / "step-000000004.pt").write_bytes(b"nothing")
    before = signal.getsignal(signal.SIGUSR1)
    with Interruption() as interruption:
        os.kill(os.getpid(), signal.SIGUSR1)
        for _ in range(1000):
            if interruption.signal_number:
                break
        remembered = [
            interruption.signal_number == signal.SIGUSR1,
            signal.getsignal(signal.SIGUSR1) == before,
        ]
    latest = load_latest(folder / "few")
    assert latest is not None
    return {
        "kept": [[path.stem for path in checkpoints(folder / name)] for name in ("kept", "few", "absent")],
        "latest": [latest["step"], load_latest(folder / "absent") is None],
        "refused": refused(load_latest, folder / "damaged"),
        "table": (folder / "a.csv").read_text(),
        "remembered": [*remembered, signal.getsignal(signal.SIGTERM) == signal.SIG_DFL],
    }


NOT_KEPT = ("crops_per_s", "tokens_per_s", "mfu_percent", "data_wait_percent", "peak_memory_mb")
# A swapped rank or a clipped gradient after some steps is more than rounding.
NOT_KEPT += ("probe_auroc", "probe_average_precision", "gradient_norm")


def tables(folder: Path) -> list[dict[str, Any]]:
    """The tables of a training without its speed and what hangs on rounding."""
    found = []
    for name in ("metrics.csv", "held_out.csv"):
        table = pd.read_csv(folder / name, dtype={"alarms": str})
        table["alarms"] = table["alarms"].fillna("")
        found.append({str(c): table[c].tolist() for c in table if c not in NOT_KEPT})
    return found


def end(folder: Path) -> dict[str, Any]:
    """What a training left."""
    trained, header, _ = load_encoder(folder / "pretrained.safetensors")
    output = trained.eval()(torch.from_numpy(crops(1)[0][None, :, :12, :16, :16]))
    provenance = header.provenance
    return {
        "tables": tables(folder),
        "tokens": [output.class_token, output.patch_tokens],
        "header": [header.voxel_um, header.field_of_view_voxels, header.normalisation],
        "movies": [[about["movie"] for about in provenance["movies"]], provenance["held_out_movies"]],
        "training": [provenance["pretrain"][name] for name in ("seed", "crops")],
        "checkpoints": sorted(path.stem for path in folder.glob("checkpoints/*/*.pt")),
    }


class Sheet(list):
    """Crops, of which one asks the process to stop when it is read the n-th time."""

    reads = 0
    stop_at = 0

    def __getitem__(self, index: Any) -> Any:
        self.reads += 1
        if self.reads == self.stop_at:
            os.kill(os.getpid(), signal.SIGTERM)
        return super().__getitem__(index)


@contextmanager
def without_pictures() -> Iterator[None]:
    """Trainings that draw nothing, which takes longer than they do."""
    with pytest.MonkeyPatch.context() as patch:
        for module in [
            each for name, each in sys.modules.items() if name.startswith("spatialdino_core.pretrain.")
        ]:
            for name in {"training_figure", "held_out_figure"} & set(vars(module)):
                patch.setattr(module, name, lambda *_: Figure((1, 1)))
        yield


@STAGE.scene
def training(folder: Path) -> Mapping[str, Any]:
    """The stage from shards, further from its weights, and what it refuses."""
    everything = crops(9)
    names = ("cell-a", "cell-b", "cell-c", "cell-d", "cell-e")
    indices = [shards(folder, name, everything[n : n + 4 + n % 2]) for n, name in enumerate(names)]
    normalisation = NormalisationParameters(**NORMALISATION)
    shape = architecture(drop_path=0.2, registers=2)

    def train(
        name: str, settings: PretrainParameters, given: Sequence[str] = indices, **changes: Any
    ) -> Path:
        options: dict[str, Any] = dict(seed=3, device="cpu", version="a") | changes
        output = folder / name / "pretrained.safetensors"
        pretrain_model(given, output, settings, shape, normalisation, **options)
        return folder / name

    def quickly(*arguments: Any, **changes: Any) -> Path:
        with without_pictures():
            return train(*arguments, **changes)

    found: dict[str, Any] = {"split": [split_movies(indices, share) for share in (0.0, 0.39, 0.4, 0.5)]}
    found["split"] = [[[Path(i).parent.name for i in part] for part in both] for both in found["split"]]
    first = quickly("first", recipe())
    found["first"] = end(first)
    further = recipe(
        start_from=str(first / "pretrained.safetensors"), steps=3, frozen_encoder_steps=1, held_out_share=0.0
    )
    found["further"] = end(train("further", further, given=indices[:2]))
    pictures = ("pretrain.png", "held_out.png")
    found["pictures"] = [(folder / "further" / name).stat().st_size > 9000 for name in pictures]
    found["carried"] = [
        getattr(read_header(folder / "further" / "pretrained.safetensors").architecture, name)
        for name in ("drop_path", "registers", "embed_dim", "test_time_registers")
    ]

    other = {
        size: shards(folder / str(size), "cell-z", everything[:2], size)
        for size in (0.2021, 0.2019, 0.1979, 0.1981)
    }
    empty = folder / "empty" / "index.json"
    empty.parent.mkdir()
    empty.write_text(
        json.dumps({"about": {"movie": "x", "voxel_um": [1, 1, 1]}, "shards": [], "samples": []})
    )
    short = replace(further, steps=1, log_interval_steps=9, monitor_interval_steps=9)
    found["refused"] = {
        "two voxel sizes": refused(quickly, "x", short, [indices[0], other[0.2019]]),
        "no crops": refused(quickly, "x", short, [str(empty)]),
        **{str(size): refused(quickly, f"size {size}", short, [index]) for size, index in other.items()},
        "global": refused(quickly, "x", recipe(global_crop_voxels=14)),
        "local": refused(quickly, "x", recipe(local_crop_voxels=6)),
        "two crops": refused(
            quickly, "two", replace(short, start_from="", frozen_encoder_steps=0, batch_size=2)
        ),
        "one crop in each": refused(quickly, "x", recipe(accumulation=4)),
        "collapse": refused(
            quickly,
            "x",
            recipe(on_collapse="stop", uniform_alarm_steps=1, warmup_steps=0, student_temperature=9.0),
        ),
    }
    (Path(indices[2]).parent / "shard-000000.tar").write_bytes(b"")
    found["refused"]["damaged"] = refused(quickly, "x", short, indices[2:])
    found["skipped"] = end(quickly("skipped", short, indices[2:], on_corrupt_shard="skip"))["training"]

    description = loop.CropDescription(
        voxel_um=(0.2, 0.2, 0.2),
        normalisation={},
        content_hash="a",
        provenance={"movies": [], "held_out_movies": []},
    )
    options: dict[str, Any] = dict(description=description, seed=4)
    settings = recipe(steps=5, checkpoint_interval_steps=1, log_interval_steps=1, monitor_interval_steps=2)
    whole, cut = folder / "whole", folder / "cut"
    with without_pictures():
        loop.pretrain(everything, settings, shape, whole, **options)
        stopping = Sheet(everything)
        stopping.stop_at = 8 + 9 + 4 + 2  # after the looks at all crops, in the second step
        with pytest.raises(SystemExit) as stopped:
            loop.pretrain(stopping, settings, shape, cut, **options)
        loop.pretrain(everything, settings, shape, cut, **options)
    both = [(each / "pretrained.safetensors").read_bytes() for each in (whole, cut)]
    found["resumed"] = [stopped.value.code, both[0] == both[1], plain(tables(whole)) == plain(tables(cut))]
    found["whole"] = tables(whole)

    learn = Learner.learn
    with without_pictures(), pytest.MonkeyPatch.context() as patch:
        patch.setattr(Learner, "learn", lambda *a: replace(learn(*a), finite=False))
        found["refused"]["bad steps"] = refused(
            loop.pretrain, everything, settings, shape, folder / "bad", **options
        )
    dump = json.loads((folder / "bad" / "bad_batch.json").read_text())
    found["bad"] = [dump["step"], dump["crops_of_processes"]]
    found["named"] = [Path(name).name for name in loop.crop_names(CropShards(indices[:1]), [0, 3])]
    world = World()
    found["alone"] = [world.leads, World(rank=1, ranks=2).leads]
    found["gaps"] = [b - a for a, b in pairwise(found["whole"][0]["step"])]
    return found


def test_results_of_pretrain_are_as_they_were(tmp_path: Path, write_golden: bool) -> None:
    torch.set_num_threads(1)
    STAGE.check(tmp_path, write=write_golden)
