"""What pretraining teaches: frozen patch tokens beside raw intensity, and what each ingredient is worth.

    python benchmarks/pretraining.py --folder DIR [--arms baseline ...] [--seeds 3] [--steps 300]
        [--config recipes/demo.yaml] [--set pretrain.learning_rate=0.001] [--threads 1]
        [--out build/benchmarks/pretraining.json]

Trains on the corpus of ``spatialdino_core.simulate.corpus`` (made in DIR if it is not there) through deskew,
crops and the training loop of the workflow. An arm is the config with some settings changed; ``untrained``
is the encoder before its first step. Is there a particle in a patch of 8³ voxels? Logistic regressions on
frozen tokens, on the patch's mean, standard deviation and maximum, on both, and on all its voxels, are fitted
on some held-out movies and scored on others: average precision (AP) and area under the ROC curve (AUROC), for
all movies and for those of each signal-to-noise ratio. Prints medians and ranges over seeds; the JSON file
has every run, and a run that it has already is not repeated.
"""

from __future__ import annotations

import argparse
import functools
import itertools
import json
import os
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import tifffile
import torch
import yaml
from record import write
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score
from sklearn.model_selection import GroupKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from spatialdino_core.config import WorkflowConfig, load_config
from spatialdino_core.crops.bounds import movie_bounds
from spatialdino_core.crops.kmeans import CropBox, crop_boxes, cut_crop
from spatialdino_core.crops.normalise import normalise
from spatialdino_core.crops.resample import resample_isotropic
from spatialdino_core.crops.source import CropDescription
from spatialdino_core.encoder.vit import VisionTransformer3D
from spatialdino_core.encoder.weights import load_encoder
from spatialdino_core.geometry.deskewed import DeskewedMovie
from spatialdino_core.geometry.stage import deskew_movie
from spatialdino_core.movies.register import register_movie
from spatialdino_core.movies.sheet import read_sheet
from spatialdino_core.parameters import digest
from spatialdino_core.pretrain.loop import pretrain
from spatialdino_core.pretrain.networks import new_network
from spatialdino_core.pretrain.probe import (
    FOLDS,
    ITERATIONS,
    LOGIT_VARIANCE,
    intensity_features,
    linear_probe,
    raw_voxels,
)
from spatialdino_core.progress import progress
from spatialdino_core.simulate.corpus import write_corpus

Settings = dict[str, Any]
UNTRAINED = "untrained"
ARMS: dict[str, Settings] = {
    UNTRAINED: {},
    "baseline": {},
    "random crops": {"placed": "random"},
    "learned positions": {"encoder": {"positions": "learned"}},
    "rope": {"encoder": {"positions": "rope"}},
    "plain masks": {"pretrain": {"mask_foreground_bias": 0.0}},
    "sinkhorn": {"pretrain": {"targets": "sinkhorn"}},
    "white filters": {"pretrain": {"patch_smoothing_voxels": 0.0}},
}
LEAST_LABELLED = 10  # voxels of a patch; about a quarter of a particle's half maximum
WINDOWS_AT_ONCE = 32


@dataclass(frozen=True)
class Frame:
    """A deskewed frame as training sees it: isotropic, in [0, 1], with where it has data."""

    movie: str
    volume: np.ndarray
    valid: np.ndarray
    labelled: np.ndarray | None = None


@dataclass(frozen=True)
class Patches:
    """All patches of all held-out movies that have data everywhere: what probes are asked about."""

    frames: list[Frame]
    inside: list[np.ndarray]
    labels: np.ndarray
    movies: np.ndarray
    snr: np.ndarray


def frames_of(folder: Path, config: WorkflowConfig) -> tuple[list[Frame], list[Frame]]:
    """Training and held-out frames of the corpus in a folder, simulated and deskewed where need be."""
    sheet = folder / "movies.tsv"
    if not sheet.exists():
        write_corpus(folder)
    training, held_out = [], []
    for name, rows in progress(list(read_sheet(sheet).items()), "deskew", "movie"):
        record, table = register_movie(rows, config.reading, "fail")
        output = folder / "deskewed" / name / "deskewed.json"
        deskew_movie(rows, record, table, output, config.deskew, device="cpu", version="", skip_bad=False)
        movie = DeskewedMovie(output)
        scale = movie_bounds(movie, config.normalisation)
        target_um = movie.voxel_um[2]
        valid = resample_isotropic(movie.valid.astype(np.float32), movie.voxel_um, target_um) > 0.5
        for number in sorted(movie.record.checksums):
            counts = normalise(movie.store.read(number, 0), scale)
            frame = Frame(name, resample_isotropic(counts, movie.voxel_um, target_um), valid)
            if rows[0].train:
                training.append(frame)
                continue
            labels = tifffile.imread(folder / "truth" / f"{name}_truth_labels.ome.tif")
            of_frame = labels.reshape(-1, *counts.shape)[number] > 0
            labelled = resample_isotropic(of_frame.astype(np.float32), movie.voxel_um, target_um) >= 0.5
            held_out.append(replace(frame, labelled=labelled))
    return training, held_out


def crops_of(frames: Sequence[Frame], config: WorkflowConfig, placed: str) -> list[np.ndarray]:
    """As many crops, of the same sides, on clusters of bright voxels or at random."""
    crops = []
    for number, frame in enumerate(progress(frames, f"crops ({placed})", "frame")):
        generator = np.random.default_rng([config.seed, number])
        boxes = crop_boxes(frame.volume, frame.valid, config.crops, generator)
        if placed == "random":
            boxes = [at_random(box, frame.valid, generator) for box in boxes]
        crops += [cut_crop(frame.volume, box)[None].astype(np.float16) for box in boxes]
    return crops


def at_random(box: CropBox, valid: np.ndarray, generator: np.random.Generator) -> CropBox:
    """A box of the same sides around a random voxel that has data, inside the volume."""
    voxels = np.flatnonzero(valid)
    centre = np.unravel_index(generator.choice(voxels), valid.shape)
    z, y, x = (
        int(min(max(c - side // 2, 0), max(n - side, 0)))
        for c, side, n in zip(centre, box.shape_voxels, valid.shape, strict=True)
    )
    return CropBox((z, y, x), box.shape_voxels, "uniform")


class Crops:
    """Crops in memory, as the training loop reads them."""

    def __init__(self, values: Sequence[np.ndarray]) -> None:
        self.values = values

    def __len__(self) -> int:
        return len(self.values)

    def __getitem__(self, index: int, /) -> np.ndarray:
        return self.values[index].astype(np.float32)


def patches_of(frames: list[Frame], side: int, conditions: pd.DataFrame) -> Patches:
    inside: list[np.ndarray] = []
    labels: list[np.ndarray] = []
    for frame in frames:
        assert frame.labelled is not None
        whole = np.asarray(in_patches(frame.valid, side).all(axis=-1))
        inside.append(whole)
        labels.append((in_patches(frame.labelled, side).sum(axis=-1) >= LEAST_LABELLED)[whole])
    movies = np.repeat([frame.movie for frame in frames], [len(of_frame) for of_frame in labels])
    snr = conditions["snr"][movies].to_numpy()
    return Patches(frames, inside, np.concatenate(labels), movies, snr)


def in_patches(volume: np.ndarray, side: int) -> np.ndarray:
    """(Z, Y, X) to (gz, gy, gx, side³): whole patches."""
    gz, gy, gx = (n // side for n in volume.shape)
    cut = volume[: gz * side, : gy * side, : gx * side].reshape(gz, side, gy, side, gx, side)
    return cut.transpose(0, 2, 4, 1, 3, 5).reshape(gz, gy, gx, -1)


def tokens_of(encoder: VisionTransformer3D, patches: Patches, window: int) -> np.ndarray:
    """Tokens (n, D) of all patches, each volume cut into windows, mirrored where it ends inside one."""
    side = encoder.architecture.patch_voxels
    tokens = []
    for frame, inside in zip(patches.frames, patches.inside, strict=True):
        whole = tuple(slice(0, n * side) for n in inside.shape)
        volume = frame.volume[whole]
        volume = np.pad(volume, [(0, -n % window) for n in volume.shape], mode="symmetric")
        counts = [n // window for n in volume.shape]
        windows = torch.from_numpy(in_patches(volume, window).reshape(-1, 1, window, window, window))
        with torch.inference_mode():
            found = torch.cat([encoder(part).patch_tokens for part in windows.split(WINDOWS_AT_ONCE)])
        grid = found.numpy().reshape(*counts, *(window // side,) * 3, -1).transpose(0, 3, 1, 4, 2, 5, 6)
        grid = grid.reshape(*(n * (window // side) for n in counts), -1)
        tokens.append(grid[tuple(slice(0, n) for n in inside.shape)][inside])
    return np.concatenate(tokens)


def by_hand(patches: Patches, side: int) -> dict[str, np.ndarray]:
    """Features of all patches without learning, (n, F)."""
    found: dict[str, list[np.ndarray]] = {"intensity": [], "voxels": []}
    for frame, inside in zip(patches.frames, patches.inside, strict=True):
        whole = tuple(slice(0, n * side) for n in inside.shape)
        view = torch.from_numpy(np.ascontiguousarray(frame.volume[whole]))[None, None]
        found["intensity"].append(intensity_features(view, side)[0][inside.ravel()])
        found["voxels"].append(raw_voxels(view, side)[0][inside.ravel()])
    return {name: np.concatenate(parts) for name, parts in found.items()}


def scores(name: str, features: np.ndarray, patches: Patches) -> dict[str, float]:
    """AP and AUROC of the probe of the core, and AP within each movie, the mean over those of one SNR.

    Within a movie it does not matter that backgrounds differ between movies, and the probe of few movies of
    one SNR would know too little: so it is fitted on movies of all of them.
    """
    overall = linear_probe(features, patches.labels, patches.movies)
    found = {f"{name} AP": overall.average_precision, f"{name} AUROC": overall.auroc}
    regression = make_pipeline(
        StandardScaler(), LogisticRegression(C=LOGIT_VARIANCE / features.shape[1], max_iter=ITERATIONS)
    )
    ranks = cross_val_predict(
        regression,
        features.astype(np.float64),
        patches.labels,
        groups=patches.movies,
        cv=GroupKFold(FOLDS),
        method="decision_function",
    )
    for snr in np.unique(patches.snr):
        movies = np.unique(patches.movies[patches.snr == snr])
        chosen = [patches.movies == movie for movie in movies]
        each = [average_precision_score(patches.labels[movie], ranks[movie]) for movie in chosen]
        found[f"{name} AP SNR {snr:g}"] = float(np.mean(each))
    return found


def health(metrics: pd.DataFrame) -> dict[str, float]:
    """Loss, cosine and rank at the start and at the end of a run; the end is a mean over five rows."""
    watched = metrics[["dino_loss", "ibot_loss", "class_cosine", "class_rankme", "patch_rankme"]]
    first = watched.bfill().iloc[0].add_prefix("first ")
    last = watched.ffill().iloc[-5:].mean().add_prefix("last ")
    return {str(name): float(value) for name, value in (*first.items(), *last.items())}


def trained(
    config: WorkflowConfig, crops: Sequence[np.ndarray], voxel_um: float, seed: int
) -> tuple[VisionTransformer3D, Settings]:
    """A trained encoder, and what its run was like."""
    description = CropDescription(
        voxel_um=(voxel_um,) * 3, normalisation=asdict(config.normalisation), content_hash=""
    )
    with tempfile.TemporaryDirectory() as folder:
        started = time.perf_counter()
        weights = pretrain(
            Crops(crops), config.pretrain, config.encoder, Path(folder), description=description, seed=seed
        )
        seconds = time.perf_counter() - started
        encoder = load_encoder(weights)[0]
        metrics = pd.read_csv(Path(folder) / "metrics.csv")
    facts = {"seconds": seconds, "seconds_per_step": seconds / config.pretrain.steps, **health(metrics)}
    return encoder, facts | {"ln K": float(np.log(config.pretrain.prototypes))}


def with_settings(content: Settings, changes: Settings) -> Settings:
    """Nested settings with some of them changed."""
    result = dict(content)
    for name, value in changes.items():
        nested = isinstance(value, dict) and isinstance(result.get(name), dict)
        result[name] = with_settings(result[name], value) if nested else value
    return result


def setting(text: str) -> Settings:
    """``section.key=value`` as nested settings."""
    path, value = text.split("=", 1)
    result: Any = yaml.safe_load(value)
    for name in reversed(path.split(".")):
        result = {name: result}
    return dict(result)


def summary(runs: list[Settings]) -> str:
    """Medians and ranges over seeds, an arm a row."""
    table = pd.DataFrame(runs)
    columns = [
        *("last dino_loss", "ln K", "first class_cosine", "last class_cosine", "last class_rankme"),
        *("last patch_rankme", "seconds_per_step"),
        *(name for name in table if " AP" in str(name) or str(name).endswith("AUROC")),
    ]

    def cell(values: pd.Series) -> str:
        values = values.dropna()
        if not len(values):
            return ""
        spread = f" ({values.min():.3g}–{values.max():.3g})" if values.nunique() > 1 else ""
        return f"{values.median():.3g}{spread}"

    present = [name for name in columns if name in table]
    return table.groupby("arm", sort=False)[present].agg(cell).T.to_string()


class Bench:
    """Corpus, probes and crops that all runs share.

    Parameters
    ----------
    folder
        Of the corpus.
    base
        Content of the config that arms change.
    """

    def __init__(self, folder: Path, base: Settings) -> None:
        self.base, self.config = base, load_config(base)
        self.training, held_out = frames_of(folder, self.config)
        self.conditions = pd.read_csv(folder / "conditions.tsv", sep="\t").set_index("movie")
        side = self.config.encoder.patch_voxels
        self.patches = patches_of(held_out, side, self.conditions)
        self.handmade = by_hand(self.patches, side)
        self.reference = {
            name: value
            for kind, found in self.handmade.items()
            for name, value in scores(kind, found, self.patches).items()
        }
        self.crops: dict[str, list[np.ndarray]] = {}

    def settings(self, arm: str) -> tuple[WorkflowConfig, str]:
        """Config of an arm, and where its crops lie."""
        changes = dict(ARMS[arm])
        placed = changes.pop("placed", "k-means")
        return load_config(with_settings(self.base, changes)), placed

    def key(self, arm: str, seed: int) -> str:
        """Of the run of an arm and seed: what its result depends on."""
        config, placed = self.settings(arm)
        parts: list[Any] = [
            config.encoder,
            config.pretrain,
            config.crops,
            config.normalisation,
            config.deskew,
        ]
        return digest(
            [asdict(part) for part in parts], placed, arm == UNTRAINED, seed, self.conditions.to_csv()
        )

    def run(self, arm: str, seed: int) -> Settings:
        """Train, probe, and say everything about it."""
        config, placed = self.settings(arm)
        facts: Settings = {}
        if arm == UNTRAINED:
            encoder = new_network(config.pretrain, config.encoder, seed).encoder
        else:
            if placed not in self.crops:
                self.crops[placed] = crops_of(self.training, config, placed)
            voxel_um = float(self.conditions["pixel_um"].iloc[0])
            encoder, facts = trained(config, self.crops[placed], voxel_um, seed)
        tokens = tokens_of(encoder, self.patches, config.pretrain.global_crop_voxels)
        both = np.concatenate([tokens, self.handmade["intensity"]], axis=1)
        return {
            **{"arm": arm, "seed": seed, "key": self.key(arm, seed)},
            **{"encoder": asdict(config.encoder), "pretrain": asdict(config.pretrain), "crops": placed},
            **facts,
            **self.reference,
            **scores("tokens", tokens, self.patches),
            **scores("both", both, self.patches),
        }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--folder", type=Path, required=True, help="of the corpus")
    parser.add_argument("--config", type=Path, default=Path("recipes/demo.yaml"))
    parser.add_argument("--set", type=setting, action="append", default=[], metavar="SECTION.KEY=VALUE")
    parser.add_argument("--arms", nargs="+", choices=list(ARMS), default=list(ARMS))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, help="optimiser steps of every run; by default the config's")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)

    base: Settings = yaml.safe_load(options.config.read_text())
    changes = options.set + ([{"pretrain": {"steps": options.steps}}] if options.steps else [])
    bench = Bench(options.folder, functools.reduce(with_settings, changes, base))
    labels = bench.patches.labels
    known = json.loads(options.out.read_text())["runs"] if options.out and options.out.exists() else []
    finished = {run["key"]: run for run in known}
    asked_for = []
    for seed, arm in itertools.product(range(options.seeds), options.arms):
        key = bench.key(arm, seed)
        if key not in finished:
            finished[key] = bench.run(arm, seed)
        asked_for.append(finished[key])
        if options.out:
            content = {"patches": len(labels), "foreground_share": float(labels.mean())}
            content |= {"threads": options.threads, "runs": list(finished.values())}
            write(options.out, content)
    print(summary(asked_for))


if __name__ == "__main__":
    main()
