"""What a voxel costs in each stage: a line through the benchmark files of movies of different sizes.

    python benchmarks/stage_costs.py --frames 8 --out build/benchmarks/stage_costs.json

Simulates three movies, runs the workflow on them with the demo's encoder (hardly trained: that changes no
cost), one job at a time, and fits processor time against deskewed voxels for each stage: the slope is what
voxels cost, the rest is the start of Python and its libraries. Processor time, since other programs may run;
one run, so read one digit.
"""

from __future__ import annotations

import argparse
import csv
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from record import write

from spatialdino_core.movies.store import FrameStore
from spatialdino_core.simulate.movie import simulate_movie
from spatialdino_core.simulate.parameters import AcquisitionParameters, MovieParameters, SceneParameters
from spatialdino_core.simulate.write import write_tiff_series
from tests.workflow.conftest import COLUMNS, ROOT

# Raw planes, rows, columns and particles.
SIZES = {"small": (20, 64, 72, 12), "middle": (40, 160, 180, 60), "large": (60, 256, 300, 150)}
STAGES = ("register", "preview", "deskew", "shard", "features", "segment", "track", "report")


def simulate(folder: Path, frames: int) -> None:
    """Three movies, a sheet and settings."""
    rows = []
    for seed, (name, (planes, y, x, particles)) in enumerate(SIZES.items()):
        scene = SceneParameters(frames=frames, particles=particles, snr=6.0, lifetime_s=60.0)
        camera = AcquisitionParameters(planes=planes, rows=y, columns=x)
        movie = simulate_movie(MovieParameters(seed=seed, scene=scene, acquisition=camera))
        stacks = (movie.raw_frame(frame)[None] for frame in range(frames))
        write_tiff_series(folder / "raw" / name, name, stacks, ["488nm"], 2.0)
        path = f"raw/{name}/*.tif"
        rows.append([name, "488nm", path, "stage", 31.5, 0.4, 0.104, 2.0, "x", "+1", "yes"])
    pd.DataFrame(rows, columns=COLUMNS).to_csv(folder / "movies.tsv", sep="\t", index=False)
    demo = yaml.safe_load((ROOT / "recipes" / "demo.yaml").read_text())
    short = demo["pretrain"] | {"steps": 4, "warmup_steps": 1}
    settings = demo | {"movies": "movies.tsv", "results": "results", "pretrain": short}
    (folder / "settings.yaml").write_text(yaml.safe_dump(settings))


def run(folder: Path) -> None:
    """The workflow, one job at a time."""
    command = [sys.executable, "-m", "snakemake", "--snakefile", str(ROOT / "Snakefile"), "--cores", "1"]
    command += ["--profile", str(ROOT / "profiles" / "default"), "--configfile", "settings.yaml"]
    done = subprocess.run(command, cwd=folder, text=True, stdout=-1, stderr=-2)
    if done.returncode:
        sys.exit(done.stdout)


def measured(folder: Path) -> list[dict[str, Any]]:
    """Processor time, memory and size of each job."""
    found = []
    for movie in SIZES:
        voxels = int(np.prod(FrameStore(folder / "results" / movie / "deskewed.ome.zarr").shape))
        for stage in STAGES:
            table = folder / "results" / "benchmarks" / stage / f"{movie}.tsv"
            row = next(csv.DictReader(table.open(), delimiter="\t"))
            job = {"stage": stage, "movie": movie, "deskewed_voxels": voxels}
            job |= {"processor_s": float(row["cpu_time"]), "wall_s": float(row["s"])}
            found.append(job | {"memory_mb": float(row["max_rss"])})
    return found


def fitted(jobs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Start and cost of voxels of each stage, by least squares."""
    found = []
    for stage in STAGES:
        own = [job for job in jobs if job["stage"] == stage]
        voxels, seconds = ([job[key] for job in own] for key in ("deskewed_voxels", "processor_s"))
        slope, start = np.polyfit(voxels, seconds, 1)
        cost = {"start_s": round(float(start), 1), "s_per_gigavoxel": round(float(slope) * 1e9)}
        found.append({"stage": stage, **cost, "largest_s": max(seconds)})
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--frames", type=int, default=8)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        simulate(folder, options.frames)
        run(folder)
        jobs = measured(folder)
    costs = fitted(jobs)
    for row in costs:
        print(row)
    write(options.out, {"load": os.getloadavg(), "costs": costs, "jobs": jobs})


if __name__ == "__main__":
    main()
