"""Golden values of the repair: where defects are expected, found and repaired, and the basis of features."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from golden import Stage
from small_models import encoder, flat, refused, shards, spots, weights_file
from torch import Tensor

from spatialdino_core.encoder.header import BASIS_TENSORS
from spatialdino_core.encoder.vit import VisionTransformer3D
from spatialdino_core.encoder.weights import load_encoder
from spatialdino_core.features.basis import fit_basis, project
from spatialdino_core.features.model import finish_model
from spatialdino_core.sinder.directions import defect_directions
from spatialdino_core.sinder.gate import BlockFigures, alignment, diagnose, outliers, verdict
from spatialdino_core.sinder.neighbours import anomalies, keep_loss, neighbour_average, neighbour_loss
from spatialdino_core.sinder.parameters import RepairParameters
from spatialdino_core.sinder.repair import RepairReport, repair
from spatialdino_core.sinder.reparameterise import fold, reparameterise
from tests.unit.sinder import sinder_plant

STAGE = Stage("repair", ("sinder/*.py", "features/model.py", "features/basis.py"))


def settings(**changes: Any) -> RepairParameters:
    """Every setting of the repair."""
    values: dict[str, Any] = dict(max_crops=8, batch_size=3, outlier_mads=6.0, min_norm_ratio=2.0)
    values |= dict(min_outlier_rate=0.001, max_angle_deg=30.0, min_contrast_deg=15.0, steps=12)
    values |= dict(
        learning_rate=0.02, momentum=0.9, clip_norm=3.0, repair_norm_ratio=1.5, repair_angle_deg=60.0
    )
    values |= dict(
        min_anomaly_rate=0.002, temperature=0.1, keep_weight=2.0, stop_share=0.75, stop_window_steps=4
    )
    return RepairParameters(**(values | dict(min_reduction=10.0, min_cosine=0.99) | changes))


def coarse(value: Any) -> Any:
    """Numbers that a thousandth more or less leaves as they are: each on ten times its own size.

    What a few steps of training have done hangs on rounding, because the loss pulls at tiny differences.
    """
    if isinstance(value, float) and value:
        return value + 10 * math.copysign(10 ** round(math.log10(abs(value))), value)
    if isinstance(value, dict):
        return {key: coarse(item) for key, item in value.items()}
    return [coarse(item) for item in value] if isinstance(value, list) else value


def told(report: RepairReport) -> Any:
    """A report without its sentences, of which only the number counts."""
    return coarse(asdict(report) | {"reasons": len(report.reasons)})


def changed(before: VisionTransformer3D, after: VisionTransformer3D) -> Any:
    """How far weights went, and whither, of those that did."""
    old, found = before.state_dict(), {}
    for name, weight in after.state_dict().items():
        apart = flat([weight]) - flat([old[name]])
        if apart.any():
            weights = torch.linspace(0.3, 1, len(apart)).double()
            # Where they went alone could be a small difference of large numbers.
            found[name] = 100 * float(2 * apart.square().mean().sqrt() + (apart * weights).mean())
    return coarse(found)


@STAGE.scene
def directions(_: Path) -> Mapping[str, Any]:
    """Expected from the weights of both feed-forward layers."""
    found = {}
    for kind in ("mlp", "swiglu"):
        model = encoder(depth=3, feed_forward=kind, mlp_ratio=1.7)
        for block in model.blocks:
            block.ls2.gamma.data *= 3
        found[kind] = defect_directions(model)
    return found


@STAGE.scene
def gate(_: Path) -> Mapping[str, Any]:
    """Outliers and the verdict, from both sides of each threshold."""
    norms = torch.tensor([1.0, 1.1, 0.9, 1.05, 0.95, 1.0, 1.02, 1.28, 1.32, 1.9, 2.1, 5.0])
    cases = [
        BlockFigures(n, rate, angle, 70.0, 4.0, ill)
        for n, (rate, angle, ill) in enumerate(
            [(0.0005, 10.0, False), (0.02, 20.0, True), (0.03, 60.0, False)]
        )
    ]
    model = encoder(depth=2)
    voxels = torch.from_numpy(np.stack([spots(seed, (12, 8, 16), 5)[None] for seed in range(4)]))
    lines = defect_directions(model)
    tokens = model(voxels).patch_tokens.detach()
    # One token after another turned away from a line, ten times as long, among others that stand upright.
    line = torch.eye(4)[0]
    diagnoses = {}
    for angle in (27.0, 29.5, 30.5, 33.0):
        for upright in (40.0, 44.0, 46.0, 90.0):
            turned = Turned(angle, upright)
            diagnosed = diagnose(turned, [torch.zeros(1)], line[None], settings(min_outlier_rate=0.02))
            diagnoses[f"{angle}, {upright}"] = asdict(diagnosed[0])
    rates = [
        diagnose(Turned(0.0, 90.0), [torch.zeros(1)], line[None], settings(min_outlier_rate=rate))[
            0
        ].defective
        for rate in (0.029, 0.03, 0.0301, 0.032)
    ]
    seen = diagnose(Turned(20.0, 60.0), [torch.zeros(1)], line[None], settings())[0]
    assert seen.outlier_angle_deg is not None
    assert seen.normal_angle_deg is not None
    at_the_border = [
        dict(max_angle_deg=seen.outlier_angle_deg),
        dict(min_contrast_deg=seen.normal_angle_deg - seen.outlier_angle_deg),
    ]
    borders = [
        diagnose(Turned(20.0, 60.0), [torch.zeros(1)], line[None], settings(**changes))[0].defective
        for changes in at_the_border
    ]
    even = Turned(0.0, 90.0, length=1.0)
    return {
        "outliers": [
            outliers(norms, *case).long() for case in ((6.0, 1.0), (3.0, 1.0), (6.0, 2.0), (30.0, 1.5))
        ],
        "alignment": alignment(tokens[0], lines[0]),
        "verdicts": [verdict(cases[:n], settings())[0] for n in (1, 2, 3)]
        + [verdict(cases[2:], settings())[0]],
        "reasons": [len(verdict(cases[:n], settings())[1]) for n in (1, 2, 3)],
        "rates": [
            verdict([replace(cases[0], outlier_rate=r)], settings())[1] == [] for r in (0.0009, 0.0011)
        ],
        "figures": [
            asdict(f)
            for f in diagnose(model, voxels.split(3), lines, settings(min_norm_ratio=1.1, outlier_mads=1.0))
        ],
        "diagnoses": diagnoses,
        "enough": rates,
        "border": borders,
        "none": asdict(diagnose(even, [torch.zeros(1)], line[None], settings())[0]),
    }


class Turned:
    """Stands for an encoder of one block: 100 tokens, 3 of them long, at stated angles to the first axis."""

    first_patch = 2

    def __init__(self, angle: float, upright: float, length: float = 10.0) -> None:
        degrees = torch.deg2rad(torch.tensor([angle] * 3 + [upright] * 97))
        lengths = torch.cat([torch.full((3,), length), 1 + torch.arange(97) / 1000])
        flat_ = torch.stack([degrees.cos(), degrees.sin(), 0 * degrees, 0 * degrees], -1) * lengths[:, None]
        self.tokens = torch.cat([torch.full((2, 4), 100.0), flat_])[None]
        self.blocks = [lambda x, rotation: x]

    def embed(self, volume: Tensor) -> tuple[Tensor, tuple[int, int, int]]:
        """The tokens, whatever the volume."""
        return self.tokens, (4, 5, 5)

    def rotation(self, grid: tuple[int, int, int]) -> None:
        """None."""


@STAGE.scene
def neighbours(_: Path) -> Mapping[str, Any]:
    """Averages and losses on a grid whose axes differ."""
    generator = np.random.default_rng(3)
    tokens = torch.from_numpy(generator.normal(size=(2, 24, 5))).float()
    tokens[:, ::7] *= 6
    tokens[:, ::7, 0] += 8
    line = torch.eye(5)[0]
    marked = {
        (ratio, angle): anomalies(
            tokens, line, settings(repair_norm_ratio=ratio, repair_angle_deg=angle, outlier_mads=m)
        )
        for ratio, angle, m in ((1.5, 60.0, 6.0), (1.0, 80.0, 1.0), (1.0, 20.0, 0.5), (4.0, 89.0, 0.5))
    }
    some = next(iter(marked.values()))
    return {
        "anomalies": [mark.long().sum(1) for mark in marked.values()],
        "which": [np.flatnonzero(mark).astype(np.int64) for mark in marked.values()],
        "averages": [neighbour_average(tokens, line, (2, 3, 4), temperature) for temperature in (0.1, 0.5)],
        "loss": neighbour_loss(tokens, some, line, (2, 3, 4), 0.2),
        "keep": keep_loss(tokens, tokens.flip(0), ~some),
    }


@STAGE.scene
def singular(_: Path) -> Mapping[str, Any]:
    """A reparameterised encoder whose singular values changed, and the plain one that does the same."""
    found = {}
    for kind in ("mlp", "swiglu"):
        model = encoder(feed_forward=kind)
        other = reparameterise(model)
        trained = {name: weight for name, weight in other.named_parameters() if weight.requires_grad}
        for number, weight in enumerate(trained.values()):
            weight.data += 0.1 * torch.linspace(-1, 1, len(weight)) * (1 + number % 3)
        voxels = torch.from_numpy(spots(1, (8, 8, 12), 4)[None, None])
        plain = fold(other)
        found[kind] = {
            "trained": {name: len(weight) for name, weight in trained.items()},
            "tokens": [each(voxels).patch_tokens for each in (other, plain)],
            "weights": changed(model, plain),
            "trainable": all(weight.requires_grad for weight in plain.parameters()),
        }
    return found


@STAGE.scene
def repairs(_: Path) -> Mapping[str, Any]:
    """A planted defect: repaired, not enough, or at the price of other tokens; and an encoder without one."""
    crops = sinder_plant.crops(9)
    crops[0] = np.pad(crops[0], ((0, 0), (0, 1), (0, 3), (0, 2)), mode="edge")
    cases: dict[str, RepairParameters] = {
        "slow": settings(steps=4, learning_rate=0.005, min_cosine=0.9),
        "too short": settings(steps=3, max_crops=5, stop_window_steps=40, batch_size=2),
        "strict": settings(steps=6, min_reduction=1.0, min_cosine=0.99999),
        "free": settings(
            steps=6, keep_weight=0.1, momentum=0.5, clip_norm=0.2, min_reduction=1.0, min_cosine=0.5
        ),
        "fewer": settings(
            steps=10, learning_rate=0.003, min_norm_ratio=10.74, min_outlier_rate=0.0005, min_cosine=0.5
        ),
        "rare": settings(steps=5, min_anomaly_rate=0.5, stop_window_steps=2),
        "nearly": settings(
            steps=6, min_reduction=1.0, min_anomaly_rate=0.008, min_cosine=0.5, temperature=0.5
        ),
    }
    found: dict[str, Any] = {}
    planted, _line = sinder_plant.planted()
    flat_crops = [crop[:, : 22 + seed % 3] for seed, crop in enumerate(crops)]
    for name, chosen in cases.items():
        model, report = repair(planted, flat_crops if name == "rare" else crops, chosen, "cpu", seed=4)
        found[name] = {"report": told(report), "weights": changed(planted, model), "itself": model is planted}
    # After ten steps more than the decision hangs on rounding.
    report = found.pop("fewer")["report"]
    rates = [[block["outlier_rate"] for block in report[name]] for name in ("before", "after")]
    found["fewer"] = [report["decision"], report["reasons"], *rates]
    turned, _line = sinder_plant.planted(parameters=sinder_plant.TURNED)
    model, report = repair(turned, crops[:1], settings(steps=1, min_reduction=1.0, min_cosine=-1.0), seed=5)
    found["one crop"] = {"report": told(report), "weights": changed(turned, model)}
    healthy = sinder_plant.healthy()
    model, report = repair(healthy, crops, settings())
    found["healthy"] = {"report": told(report), "itself": model is healthy}
    found["refused"] = [refused(repair, healthy, crops, settings()) for crops in ([], [crops[1][:, :3]])]
    return found


class Read(list):
    """Crops that remember which of them were read."""

    read: list[int] = []  # noqa: RUF012 - one list

    def __getitem__(self, index: Any) -> Any:
        self.read.append(index)
        return super().__getitem__(index)


@STAGE.scene
def bases(_: Path) -> Mapping[str, Any]:
    """Principal components of patches that have data."""
    model = encoder(channels=2)
    crops = [np.stack([spots(seed, (17, 22, 19), 9), spots(seed + 50, (17, 22, 19), 5)]) for seed in range(5)]
    for crop, contrast in zip(crops, (0, 0.95e-3, 1.05e-3, 0, 0), strict=True):
        crop[:, 2:6, 5:9, 3:7] = 0.3
        crop[1, 4, 6, 4] += contrast
    basis = fit_basis(model, crops, 12, most=4)
    many = Read([crops[0][:, :4, :4, :4]] * 600)
    fit_basis(model, many, 4)
    tokens = model(torch.from_numpy(crops[1][None, :, :8, :12, :16])).patch_tokens[0].T.reshape(12, 2, 3, 4)
    return {
        **basis,
        "read": np.array(many.read),
        "all": [fit_basis(model, crops[a:b], 12)["pca.mean"] for a, b in ((0, 5), (1, 2), (2, 3))],
        "projected": project(tokens, basis, 4),
        "refused": refused(fit_basis, model, [np.zeros((2, 12, 12, 12), np.float32)], 12),
    }


@STAGE.scene
def finished(folder: Path) -> Mapping[str, Any]:
    """The stage: weights with a defect that is repaired, weights that are taken as they are, and neither."""
    planted, _line = sinder_plant.planted()
    bare = weights_file(folder / "bare.safetensors", planted, {}, 0.2, 16)
    index = shards(folder, "cell", sinder_plant.crops(6))
    basis = {name: torch.full((2,), float(n)) for n, name in enumerate(BASIS_TENSORS)}
    whole = weights_file(folder / "whole.safetensors", planted, basis, 0.2, 16)
    options: dict[str, Any] = dict(seed=6, device="cpu", key="k", source="train")
    keys = ("key", "diagnosed", "decision", "steps", "before", "after")
    chosen = settings(steps=3, learning_rate=0.005, min_reduction=2.0, min_cosine=0.5)
    found: dict[str, Any] = {
        "refused": refused(finish_model, bare, [], folder / "x", folder / "y", chosen, **options)
    }
    for name, source, given in (("repaired", bare, [index]), ("taken", whole, [])):
        output, report = folder / f"{name}-out.safetensors", folder / f"{name}.json"
        finish_model(source, given, output, report, chosen, **options)
        model, header, extra = load_encoder(output)
        content = json.loads(report.read_text())
        told_ = header.provenance["repair"]
        found[name] = {
            "weights": changed(planted, model),
            "basis": {key: values[:3] for key, values in extra.items()},  # weak components turn by rounding
            "report": coarse([content.get(key) for key in keys]),
            "provenance": coarse([told_.get(key) for key in (*keys, "class_cosine", "patch_cosine")]),
        }
    (folder / "cell" / "shard-000001.tar").write_bytes(b"")
    arguments = (bare, [index], folder / "s.safetensors", folder / "s.json", settings(steps=1))
    found["damaged"] = refused(finish_model, *arguments, **options)
    found["skipped"] = refused(finish_model, *arguments, **options, on_corrupt_shard="skip")
    return found


def test_results_of_repair_are_as_they_were(tmp_path: Path, write_golden: bool) -> None:
    torch.set_num_threads(1)
    STAGE.check(tmp_path, write=write_golden)
