"""Particles from raw skewed stacks to tracks: ours with one configuration beside peers at their best.

    python benchmarks/particles.py [--quick | --cells NAME ...] [--seeds 3] [--frames 12] [--out FILE.json]
                                   [--ablation [NAME ...]] [--work build/particles] [--cores 2]

A grid of simulated movies, see `particle_scenes.py`, goes through the workflow in one run with one
configuration: the bundled encoder, all else default. The peers of `particle_peers.py` get the same deskewed
stacks, and their thresholds and radii from the truth, anew for every movie: trackpy, blob_log + laptrack,
Otsu-Voronoi + laptrack, and a greedy linker on the best of these detections. laptrack is also asked for
splits and merges where there are any. Linking with perfect detections is `linking.py`.

Positions match within 0.39 µm in 3D (3 σ of the default lateral point spread function), events within
0.75 µm and two frames. The tables show medians over seeds. ``--ablation`` runs the grid again with parts
switched off or with features of the whole frame. Time and memory are `speed.py`. Movies and results stay in
``--work``, and what is finished there is not computed again.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import pandas as pd
import yaml
from particle_measures import GATE_UM, measures
from particle_peers import Frames, best_of_peers, trackpy
from particle_scenes import Cell, grid, write_movies
from particle_tables import markdown
from record import write

from spatialdino_core.geometry.deskewed import DeskewedMovie
from spatialdino_core.movies.ledger import remembered
from spatialdino_core.movies.provenance import code_hash
from spatialdino_core.movies.stage_record import StageRecord
from spatialdino_core.parameters import digest

ROOT = Path(__file__).resolve().parents[1]
CONFIGURATION: dict[str, Any] = {"model": {"source": "bundled"}, "device": "cpu"}
ABLATIONS: dict[str, dict[str, Any]] = {
    "no features": {"track": {"feature_weight": 0.0}, "segment": {"foreground_weight": 0.0}},
    "no brightness": {"track": {"intensity_weight": 0.0}},
    "no gaps": {"track": {"max_gap_frames": 0}},
    "no time": {"segment": {"temporal_reach_frames": 0}},
    "no splitting": {"segment": {"split_false_rate": 0.0}},
    "no pruning": {
        "track": {"min_track_confidence": 0.0, "min_mean_confidence": 0.0},
        "segment": {"candidate_confidence": 1.0},
    },
    "whole frame": {"features": {"context": "global"}},
}
"""What is switched off or done otherwise, as it differs from the configuration."""
QUICK = ("free_snr4_low", "cell_snr2_low")


def run_workflow(work: Path, movies: list[str], overrides: dict[str, Any], cores: int) -> Path:
    """Track all movies of ``work/movies.tsv`` in one run; returns the results folder."""
    settings, results = work / "settings.yaml", work / "results"
    settings.write_text(yaml.safe_dump(CONFIGURATION | overrides))
    command = [sys.executable, "-m", "snakemake", "--profile", "profiles/default", "--cores", str(cores)]
    command += ["--configfile", str(settings), "--config"]
    command += [f"movies={work / 'movies.tsv'}", f"results={results}"]
    command += ["--", *(str(results / movie / "tracks.csv") for movie in movies)]
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    with (work / "workflow.log").open("a") as log:
        done = subprocess.run(command, cwd=ROOT, env=os.environ | {"PATH": path}, stdout=log, stderr=log)
    if done.returncode:
        raise SystemExit(f"The workflow failed; see {work / 'workflow.log'}.")
    return results


def ours(folder: Path, truth: pd.DataFrame) -> dict[str, float]:
    """Scores of the workflow's results; detections are what tracking confirmed, gaps left out."""
    tracks = pd.read_csv(folder / "tracks.csv")
    return measures(truth, tracks[tracks["gap"] == 0], tracks, pd.read_csv(folder / "events.csv"))


def peers(folder: Path, truth: pd.DataFrame) -> dict[str, dict[str, Any]]:
    """Scores of all peers on one deskewed movie, kept beside the results until peers or measures change."""

    def compute() -> dict[str, dict[str, Any]]:
        found = best_of_peers(Frames(DeskewedMovie(folder / "deskewed.json")), truth, GATE_UM)
        rows = {name: measures(truth, *tables) | chosen for name, (tables, chosen) in found.items()}
        return dict(json.loads(json.dumps(rows, default=float)))

    code = [
        Path(__file__).with_name(f"{name}.py").read_text() for name in ("particle_measures", "particle_peers")
    ]
    stack = StageRecord.read(folder / "deskewed.json").checksums
    return remembered(
        folder / "peers.json", digest(code, stack, code_hash("spatialdino_core.score.run")), compute
    )


def score_grid(
    tables: dict[tuple[str, int], Path], cells: dict[str, Cell], results: Path, name: str, *, beside: bool
) -> list[dict[str, Any]]:
    """Rows of all movies, of ours and with ``beside`` of the peers."""
    rows = []
    for (cell, seed), path in tables.items():
        folder, truth = results / cells[cell].movie_name(seed), pd.read_csv(path)
        about = {"cell": cell, "seed": seed}
        rows.append(about | {"method": name} | ours(folder, truth))
        if beside:
            rows += [about | {"method": peer} | row for peer, row in peers(folder, truth).items()]
        print(
            pd.DataFrame(rows)[["cell", "seed", "method", "f1", "alpha", "jsc"]].tail(6).round(3), flush=True
        )
    return rows


def rows_of(cells: dict[str, Cell], work: Path, options: argparse.Namespace) -> list[dict[str, Any]]:
    """Rows of the whole grid, and again with each part switched off."""
    tables = write_movies(list(cells.values()), options.seeds, options.frames, work)
    movies = [cells[cell].movie_name(seed) for cell, seed in tables]
    results = run_workflow(work, movies, {}, options.cores)
    rows = score_grid(tables, cells, results, "ours", beside=True)
    for name in options.ablation:
        results = run_workflow(work, movies, ABLATIONS[name], options.cores)
        rows += score_grid(tables, cells, results, name, beside=False)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    every = grid()
    parser.add_argument("--cells", nargs="+", choices=list(every), default=list(every), metavar="NAME")
    parser.add_argument("--quick", action="store_true", help=f"two cells, one seed: {', '.join(QUICK)}")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--frames", type=int, default=12)
    parser.add_argument("--cores", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--ablation", nargs="*", choices=list(ABLATIONS), metavar="NAME", help="some or all")
    parser.add_argument("--work", type=Path, default=ROOT / "build" / "particles")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    options.ablation = list(ABLATIONS) if options.ablation == [] else options.ablation or []
    if options.quick:
        options.cells, options.seeds = list(QUICK), 1
    warnings.filterwarnings("ignore")
    logging.disable(logging.INFO)
    trackpy.quiet()
    work = options.work.resolve()
    report: dict[str, Any] = {"frames": options.frames, "gate_um": GATE_UM, "configuration": CONFIGURATION}
    report["variants"] = options.ablation
    report["rows"] = rows_of({name: every[name] for name in options.cells}, work, options)
    text = markdown(report)
    print(text)
    write(options.out, report, text)


if __name__ == "__main__":
    main()
