"""Golden values of the summary: the table and the page of all movies, and how the model was trained."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import torch
from golden import Stage
from golden_results import Folder, figures, numbers_in, write_results
from PIL import Image

from spatialdino_core.encoder.parameters import EncoderParameters
from spatialdino_core.encoder.vit import build_encoder
from spatialdino_core.encoder.weights import WeightsHeader, save_encoder
from spatialdino_core.files import write_json
from spatialdino_core.report.summary import summarise

STAGE = Stage("summary", ["report/summary.py", "report/spending.py", "report/training.py"])


def summary(
    folder: Path, standings: dict[str, list[str]], movies: list[str], *more: Path | None
) -> dict[str, Any]:
    page, table = folder / "summary.html", folder / "summary.tsv"
    repair, training = (*more, None, None)[:2]
    with figures() as drawn:
        tracks = [folder / m / "tracks.csv" for m in movies]
        summarise(standings, tracks, repair, page, table, training, folder / "benchmarks")
    return {
        "table": pd.read_csv(table, sep="\t").drop(columns=["reason"]),
        "page": numbers_in(page),
        "figures": drawn,
        "links": page.read_text(encoding="utf-8").count("report.html"),
    }


@STAGE.scene
def several_movies(folder: Path) -> dict[str, Any]:
    small: dict[str, Any] = {"shape": (6, 20, 30)}
    for made in (
        Folder(movie="long", frames=29, particles=5, skipped={4: "dark"}, seed=1, **small),
        Folder(movie="short", frames=6, particles=9, seed=2, **small),
        Folder(movie="one", frames=1, interval_s=None, particles=4, **small),
        Folder(movie="none", frames=3, particles=0, **small),
        Folder(movie="single", frames=4, particles=2, **small),
        Folder(movie="dark", frames=2, particles=2, skipped={0: "dark", 1: "dark"}, **small),
    ):
        write_results(folder, made)
    accepted = ["long", "short", "one", "none", "single", "dark"]
    standings = {movie: ["accept", "as \t it is", "automatic"] for movie in accepted}
    standings |= {"blurred": ["reject", "focus", "anna"], "broken": ["problem", "torn", "automatic"]}
    report = {"decision": "repaired", "reasons": [], "steps": 30, "weights": "w", "before": [{"block": 0}]}
    write_json(folder / "repair.json", report)
    return {
        "all": summary(folder, standings, accepted, folder / "repair.json"),
        "some": summary(folder, standings, accepted[1:3]),
        "last": summary(folder, standings, accepted[3:4]),
        "dark": summary(folder, standings, accepted[5:]),
    }


@STAGE.scene
def no_movie(folder: Path) -> dict[str, Any]:
    return summary(folder, {"a": ["reject", "dark", "automatic"]}, [])


@STAGE.scene
def training(folder: Path) -> dict[str, Any]:
    """Alarms that came, went and stayed; last figures; provenance; pictures; then less and less of it."""
    metrics = folder / "metrics.csv"
    standings = {"a": ["reject", "dark", "automatic"]}
    up = ["", "point-collapse:class", "", "point-collapse:class;dimensional-collapse:patch"]
    up += ["dimensional-collapse:patch"] * 2
    table = pd.DataFrame({"step": [10, 20, 30, 40, 50, 60], "dino_loss": [5.0, 4.0, 3.5, 3.25, 3.125, None]})
    table.assign(uniform_loss=4.852, patch_cosine=0.31, alarms=up).to_csv(metrics, index=False)
    probes = {
        "step": [20, 40],
        "probe_auroc": [0.7, 0.875],
        "intensity_auroc": 0.61,
        "voxels_auroc": [0.5, None],
    }
    pd.DataFrame(probes).to_csv(folder / "held_out.csv", index=False)
    Image.new("RGB", (3, 2), "red").save(folder / "held_out.png")
    architecture = EncoderParameters(
        embed_dim=8, depth=2, heads=1, patch_voxels=4, layer_scale=1.0, drop_path=0.0
    )
    header: dict[str, Any] = {
        "architecture": architecture,
        "voxel_um": (0.125,) * 3,
        "normalisation": {},
        "field_of_view_voxels": (8, 8, 8),
    }
    origin = {
        "movies": [{"movie": "cell 1"}, "cell 22"],
        "held_out_movies": ["cell 3"],
        "pretrain": {"recipe": {"steps": 40, "batch_size": 24}, "seed": 7, "crops": 384},
        "commit": "abc",
    }
    encoder = build_encoder(architecture, torch.Generator().manual_seed(0))
    save_encoder(folder / "pretrained.safetensors", encoder, WeightsHeader(**header, provenance=origin))
    found = {"all": summary(folder, standings, [], None, metrics)}
    save_encoder(folder / "pretrained.safetensors", encoder, WeightsHeader(**header, provenance={}))
    (folder / "held_out.csv").unlink()
    found["little"] = summary(folder, standings, [], None, metrics)
    metrics.write_text("")
    return found | {"nothing yet": summary(folder, standings, [], None, metrics)}


def test_results_of_the_summary_stay(tmp_path: Path, write_golden: bool) -> None:
    STAGE.check(tmp_path, write=write_golden)
