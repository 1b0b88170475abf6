"""Features: is the foreground probability any good, do windows show, and what do the stores cost?

    python benchmarks/features.py --folder DIR [--weights weights/bundled.safetensors] [--frames 100]
        [--parts foreground windows context stores sizes] [--out build/benchmarks/features.json]

Foreground: held-out movies of ``spatialdino_core.simulate.corpus`` (made in DIR if they are not there), one
frame each, through deskew. Is there a particle in a patch (10 labelled voxels)? Area under the ROC curve
and average precision of the foreground probability, of both ways that it may come from, of two Gaussians on
the distance from the dim half in feature space (what this software did before), of mean intensity and of
fine detail, from which the pseudo-labels come. Windows: how much tokens change when windows are placed one
patch further, and how much more they change between neighbours at a window's border than elsewhere, blended
and as a plain mean; how much they change when the whole frame is the context. Sizes: windows of several sizes
and overlaps, on one movie of each signal-to-noise ratio: processor seconds, how well features agree with
those of windows laid one patch further, and how well a linear probe finds patches with a particle. Stores:
bytes per frame, and the time to fetch the features of all objects of a movie, in the layout of the workflow
beside one chunk per component. Prints medians and ranges; the JSON file has every movie and run. One thread.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import tifffile
import torch
from record import write
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score, roc_auc_score
from sklearn.mixture import GaussianMixture
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from spatialdino_core.config import WorkflowConfig
from spatialdino_core.crops.resample import resample_isotropic
from spatialdino_core.features import windows
from spatialdino_core.features.activation import summed_features
from spatialdino_core.features.basis import project
from spatialdino_core.features.encoding import Model, MovieEncoder, PreparedFrame, context_difference
from spatialdino_core.features.foreground import fit_foreground
from spatialdino_core.features.parameters import FeatureParameters
from spatialdino_core.features.windows import Encoded, encode_windows, whole_patches
from spatialdino_core.geometry.deskewed import DeskewedMovie
from spatialdino_core.geometry.stage import deskew_movie
from spatialdino_core.movies.features import object_features
from spatialdino_core.movies.register import register_movie
from spatialdino_core.movies.sheet import read_sheet
from spatialdino_core.movies.store import FrameStore, StoreLayout
from spatialdino_core.simulate.corpus import write_corpus
from spatialdino_core.statistics import MAD_TO_SIGMA

Row = dict[str, Any]
LEAST_LABELLED = 10
OBJECTS = 500
WINDOWS, OVERLAPS = (32, 48, 64, 96), (0.5, 0.25, 0.0)
SIZED = (0, 6, 8, 14)
"""Held-out movies of the table of sizes: each signal-to-noise ratio once, half of them with a cell."""
PARTS = "foreground", "windows", "context", "stores", "sizes"


def held_out(folder: Path) -> Iterator[tuple[DeskewedMovie, np.ndarray, float]]:
    """Deskewed held-out movies, where particles are in their first frame, and their signal-to-noise ratio."""
    if not (folder / "movies.tsv").exists():
        write_corpus(folder)
    config = WorkflowConfig(movies="movies.tsv", results="results")
    snr = pd.read_csv(folder / "conditions.tsv", sep="\t", index_col=0)["snr"]
    for name, rows in read_sheet(folder / "movies.tsv").items():
        if rows[0].train:
            continue
        made = folder / "deskewed" / name / "deskewed.json"
        if not made.exists():
            record, table = register_movie(rows, config.reading, "fail")
            deskew_movie(rows, record, table, made, config.deskew, device="cpu", version="", skip_bad=False)
        movie = DeskewedMovie(made)
        labels = tifffile.imread(folder / "truth" / f"{name}_truth_labels.ome.tif")
        yield movie, labels.reshape(-1, *movie.valid.shape)[0] > 0, float(snr[name])


def foreground(encoder: MovieEncoder, labels: np.ndarray, snr: float) -> Iterator[Row]:
    """Scores of every way to rank the patches of a movie."""
    model, valid, frame = encoder.model, encoder.valid, encoder.read(0)
    encoded = encoder.encode(frame)
    components = project(encoded.tokens, model.basis, model.components).numpy()[:, valid].T
    sums, detail = summed_features(encoded)[valid], encoder.detail(frame)
    mean = in_patches(frame.volume[0], model.patch)[valid].mean(1)
    fitted = fit_foreground(components, sums, detail, encoder.blocks, model.parameters.bright_percentile)
    truth = with_particle(encoder, labels)
    active = fitted.activation.of(sums)
    assert fitted.density is not None
    ranked = {
        "foreground probability": fitted.probability(components, active),
        "density": fitted.density.log_odds(components),
        "activation": active,
        "two Gaussians, before": distance_from_the_dim_half(components, mean),
        "mean intensity": mean,
        "fine detail": detail,
    }
    for by, values in ranked.items():
        yield {
            "movie": encoder.movie.folder.name,
            "snr": snr,
            "by": by,
            "auroc": float(roc_auc_score(truth, values)),
            "average_precision": float(average_precision_score(truth, values)),
            "foreground_share": float(truth.mean()),
            "chosen": fitted.chosen,
            "evidence": fitted.summary()["evidence"],
        }


def with_particle(encoder: MovieEncoder, labels: np.ndarray) -> np.ndarray:
    """Bool (N,): which valid patches of the first frame hold a particle."""
    model = encoder.model
    voxels = resample_isotropic(labels.astype(np.float32), encoder.movie.voxel_um, model.header.voxel_um[0])
    patches = in_patches(whole_patches(voxels > 0.5, model.patch), model.patch)[encoder.valid]
    return np.asarray(patches.sum(1) >= LEAST_LABELLED)


def distance_from_the_dim_half(components: np.ndarray, brightness: np.ndarray) -> np.ndarray:
    """Posterior of the farther of two Gaussians on the robust distance to the power 2/3."""
    dim = components[brightness <= np.median(brightness)]
    centre = np.median(dim, axis=0)
    spread = np.maximum(MAD_TO_SIGMA * np.median(np.abs(dim - centre), axis=0), 1e-6)
    distance = np.sqrt((((components - centre) / spread) ** 2).mean(axis=1)) ** (2 / 3)
    mixture = GaussianMixture(2, random_state=0).fit(distance[:, None])
    rank = mixture.predict_proba(distance[:, None])[:, np.argmax(mixture.means_[:, 0])]
    return np.asarray(np.where(rank > 1 - 1e-6, 1 + distance, rank))


def in_patches(volume: np.ndarray, side: int) -> np.ndarray:
    """(gz, gy, gx, side³)."""
    z, y, x = (n // side for n in volume.shape)
    return volume.reshape(z, side, y, side, x, side).transpose(0, 2, 4, 1, 3, 5).reshape(z, y, x, -1)


def window_effects(encoder: MovieEncoder, window: int) -> Iterator[Row]:
    """Traces of the windows in the tokens of the first frame."""
    frame, patch = encoder.read(0), encoder.model.patch
    fading = windows._weights
    rules: dict[str, Callable[..., torch.Tensor]] = {
        "fading": fading,
        "plain mean": lambda roi: torch.ones(roi),
    }
    for rule, weights in rules.items():
        windows._weights = weights
        whole = encode(encoder, frame.volume, encoder.valid, window)
        moved = encode(encoder, frame.volume[..., patch:], encoder.valid[..., 1:], window)
        windows._weights = fading
        inner = np.zeros(encoder.valid.shape, bool)
        inner[..., window // patch : -window // patch] = True
        inner &= encoder.valid
        same = Encoded(whole.tokens[..., 1:], whole.attention, whole.class_token)
        yield {
            "movie": encoder.movie.folder.name,
            "window_voxels": window,
            "rule": rule,
            "moved_by_a_patch": context_difference(same, moved, inner[..., 1:]),
            "change_at_borders": border_excess(whole.tokens.numpy(), inner, window // patch),
        }


def window_sizes(encoder: MovieEncoder, labels: np.ndarray) -> Iterator[Row]:
    """What larger windows and less overlap cost, and what becomes of the features of the first frame."""
    frame, patch, valid = encoder.read(0), encoder.model.patch, encoder.valid
    truth = with_particle(encoder, labels)
    inner = valid.copy()
    inner[..., :1] = False
    for window in WINDOWS:
        for overlap in OVERLAPS:
            busy = time.process_time()
            whole = encode(encoder, frame.volume, valid, window, overlap)
            busy = time.process_time() - busy
            moved = encode(encoder, frame.volume[..., patch:], valid[..., 1:], window, overlap)
            tokens = whole.tokens.numpy()
            yield {
                "movie": encoder.movie.folder.name,
                "window_voxels": window,
                "overlap": overlap,
                "cpu_s_per_megavoxel": busy / (frame.volume.size / 1e6),
                "agreement": agreement(tokens[:, inner].T, moved.tokens.numpy()[:, inner[..., 1:]].T),
                "probe": probe(tokens[:, valid].T, truth, encoder.blocks % 2),
            }


def agreement(first: np.ndarray, second: np.ndarray) -> float:
    """Median cosine between features (N, D) of the same patches, the mean of the first taken from both."""
    one, other = first - first.mean(0), second - first.mean(0)
    lengths = np.linalg.norm(one, axis=1) * np.linalg.norm(other, axis=1)
    return float(np.median((one * other).sum(1) / lengths))


def probe(features: np.ndarray, truth: np.ndarray, half: np.ndarray) -> float:
    """Average precision of a linear probe: fitted on every other block of a movie, tried on those between."""
    scores = []
    for other in (0, 1):
        fitted = make_pipeline(StandardScaler(), LogisticRegression(C=0.05, max_iter=300))
        fitted.fit(features[half != other], truth[half != other])
        ranked = fitted.decision_function(features[half == other])
        scores.append(float(average_precision_score(truth[half == other], ranked)))
    return float(np.mean(scores))


def encode(
    encoder: MovieEncoder, volume: np.ndarray, valid: np.ndarray, window: int, overlap: float = 0.5
) -> Encoded:
    return encode_windows(
        encoder.model.encoder,
        torch.from_numpy(np.ascontiguousarray(volume)),
        torch.from_numpy(np.ascontiguousarray(valid)),
        window_voxels=window,
        overlap=overlap,
        batch=8,
    )


def border_excess(tokens: np.ndarray, inner: np.ndarray, side: int) -> float:
    """Change between neighbours along x where a window begins or ends, over that elsewhere, less 1."""
    change = np.linalg.norm(np.diff(tokens, axis=3), axis=0)
    both = inner[..., 1:] & inner[..., :-1]
    at_border = np.zeros(both.shape, bool)
    at_border[..., side // 2 - 1 :: side // 2] = True
    return float(change[both & at_border].mean() / change[both & ~at_border].mean() - 1)


def contexts(encoder: MovieEncoder) -> Row:
    frame: PreparedFrame = encoder.read(0)
    by_windows, started = encoder.encode(frame, "window"), time.perf_counter()
    whole = encoder.encode(frame, "global")
    return {
        "movie": encoder.movie.folder.name,
        "patches": int(encoder.valid.sum()),
        "difference": context_difference(by_windows, whole, encoder.valid),
        "seconds_global": time.perf_counter() - started,
    }


def stores(frames: int, grid: tuple[int, int, int], tokens: np.ndarray) -> Iterator[Row]:
    """Disk and time of fetching for a movie of this patch grid; tokens (K, …) of a real frame are tiled."""
    repeats = [1, *(-(-n // m) for n, m in zip(grid, tokens.shape[1:], strict=True))]
    generator = np.random.default_rng(0)
    data = np.tile(tokens, repeats)[:, : grid[0], : grid[1], : grid[2]]
    # Without it the repeats would be compressed, which a real frame does not have.
    data = (data * generator.normal(1, 0.05, data.shape)).astype(np.float16)
    for kind in ("features", "map"):
        layout = StoreLayout(
            shape_czyx=(len(data), *grid),
            dtype="float16",
            voxel_um=(0.832,) * 3,
            interval_s=1.0,
            channels=tuple(f"component_{k}" for k in range(len(data))),
            kind=kind,
        )
        with tempfile.TemporaryDirectory() as folder:
            store = FrameStore.prepare(Path(folder) / "features.zarr", layout, frames, {})
            started = time.perf_counter()
            for frame in range(frames):
                store.write(frame, np.roll(data, frame, axis=3))
            written = time.perf_counter() - started
            size = sum(p.stat().st_size for p in Path(folder).rglob("*") if p.is_file())
            places = [generator.uniform(0, np.array(grid) - 1, (OBJECTS, 3)) * 0.832 for _ in range(frames)]
            started = time.perf_counter()
            for frame, positions in enumerate(places):
                object_features(store, frame, positions)
            fetched = time.perf_counter() - started
            started = time.perf_counter()
            for position in places[0][:20]:
                object_features(store, 0, position[None])
            single = (time.perf_counter() - started) / 20
        yield {
            "layout": "all components of a cube in a chunk"
            if kind == "features"
            else "a chunk per component",
            "frames": frames,
            "grid": list(grid),
            "components": len(data),
            "mb_per_frame": size / frames / 1e6,
            "raw_mb_per_frame": data.nbytes / 1e6,
            "seconds_written": written,
            "seconds_all_objects": fetched,
            "seconds_one_object": single,
        }


def show(results: dict[str, list[Row]]) -> None:
    """Medians and ranges over movies; single runs where there are few."""
    if "foreground" in results:
        table = pd.DataFrame(results["foreground"])
        by = table.groupby("by", sort=False)[["auroc", "average_precision"]]
        print(by.agg(["median", "min", "max"]).round(3))
        print(table.pivot_table("average_precision", "by", "snr", "median", sort=False).round(2))
    for name in ("windows", "context", "stores"):
        if name in results:
            print(pd.DataFrame(results[name]).round(4).to_string(index=False))
    if "sizes" in results:
        table = pd.DataFrame(results["sizes"]).drop(columns="movie")
        by = table.groupby(["window_voxels", "overlap"], sort=False)
        print(by.agg(["median", "min", "max"]).round(3).to_string())


def main() -> None:
    """Command line, see the module's first lines."""
    parser = argparse.ArgumentParser(description="Benchmark of features.")
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--weights", type=Path, default=Path("weights/bundled.safetensors"))
    parser.add_argument("--frames", type=int, default=100)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    model = Model(options.weights, FeatureParameters(), torch.device("cpu"))
    results: dict[str, list[Row]] = {part: [] for part in options.parts}
    for number, (movie, labels, snr) in enumerate(held_out(options.folder)):
        encoder = MovieEncoder(movie, model)
        if "foreground" in results:
            results["foreground"] += foreground(encoder, labels, snr)
        if "windows" in results and number % 4 == 0:
            for window in sorted({model.window, 2 * model.window}):
                results["windows"] += window_effects(encoder, window)
        if "context" in results and number % 4 == 0:
            results["context"].append(contexts(encoder))
        if "sizes" in results and number in SIZED:
            results["sizes"] += window_sizes(encoder, labels)
            write(options.out, {"weights": model.hash, "threads": 1, **results})
    if "stores" in results:
        frame = encoder.encode(encoder.read(0))
        components = np.where(encoder.valid, project(frame.tokens, model.basis, model.components).numpy(), 0)
        results["stores"] += stores(options.frames, (19, 47, 47), components)
    show(results)
    write(options.out, {"weights": model.hash, "threads": 1, **results})


if __name__ == "__main__":
    main()
