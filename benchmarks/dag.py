"""How long Snakemake plans, and in how much memory: many movies, all stages, nothing computed.

    python benchmarks/dag.py [--movies 30 300] [--frames-per-job 0] [--runs 3] [--out build/benchmarks/...]

Two plans for each number of movies: the first, of the review, and the second, of everything that follows it.
Raw files are empty ones, one for each frame; the records that the first plan leaves behind are written here.
The peer of the same run is the plan for a single movie: what is left is the cost of movies.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import yaml
from record import write

from spatialdino_core.movies.record import Acquisition, MovieRecord
from spatialdino_core.quality.decisions import add_new_movies, write_table

ROOT = Path(__file__).resolve().parents[1]
HEADER = ["movie", "channel", "path", "scan", "angle_deg", "step_um", "pixel_um", "interval_s"]
HEADER += ["skew_axis", "scan_sign", "train"]


def write_sheet(folder: Path, movies: int, frames: int, frames_per_job: int) -> None:
    """A sheet of many movies, of which every tenth trains, and their raw files."""
    lines = ["\t".join(HEADER)]
    for number in range(movies):
        name = f"movie_{number:05}"
        raw = folder / "raw" / name
        raw.mkdir(parents=True)
        for frame in range(frames):
            (raw / f"{name}_stack{frame:04}.tif").touch()
        train = "yes" if number % 10 == 0 else "no"
        row = [name, "488nm", f"raw/{name}/*.tif", "stage", 31.5, 0.4, 0.104, 2.0, "x", "+1", train]
        lines.append("\t".join(map(str, row)))
    (folder / "movies.tsv").write_text("\n".join(lines) + "\n")
    settings = {"movies": "movies.tsv", "results": "results", "model": {"source": "train"}}
    (folder / "settings.yaml").write_text(yaml.safe_dump(settings | {"frames_per_job": frames_per_job}))


def helpers(folder: Path) -> dict[str, Any]:
    """What rules/sheet.smk defines for this sheet."""
    config = yaml.safe_load((ROOT / "config.yaml").read_text())
    config |= yaml.safe_load((folder / "settings.yaml").read_text())
    scope: dict[str, Any] = {
        "workflow": SimpleNamespace(basedir=str(ROOT), configfiles=[], is_main_process=True),
        "config": config,
    }
    here = Path.cwd()
    os.chdir(folder)
    try:
        exec(compile((ROOT / "rules" / "sheet.smk").read_text(), "sheet.smk", "exec"), scope)
        scope["judged"] = {movie: scope["judged_now"](movie) for movie in scope["SHEET"]}
    finally:
        os.chdir(here)
    return scope


def write_review(folder: Path, frames: int) -> None:
    """What register and review leave behind when they accept every movie."""
    judged = helpers(folder)["judged"]
    results = folder / "results"
    about = {"scan": "stage", "angle_deg": 31.5, "step_um": 0.4, "pixel_um": 0.104, "interval_s": 2.0}
    acquisition = Acquisition(**about, skew_axis="x", scan_sign=1)  # type: ignore[arg-type]
    for movie in judged:
        record = MovieRecord(
            movie=movie,
            channels=["488nm"],
            paths=[],
            train=False,
            acquisition=acquisition,
            frames=frames,
            shape_zyx=(200, 512, 800),
            dtype="uint16",
        )
        record.write(results / movie / "movie.json")
    rows = [{"movie": m, "verdict": "accept", "reason": "", "judged": j} for m, j in judged.items()]
    write_table(results / "qc" / "metrics.tsv", ["movie", "verdict", "reason", "judged"], rows)
    add_new_movies(results / "qc" / "decisions.tsv", judged)


def plan(folder: Path) -> dict[str, float]:
    """One dry run: seconds, processor seconds, largest resident memory, jobs."""
    command = [
        sys.executable,
        "-m",
        "snakemake",
        "--snakefile",
        str(ROOT / "Snakefile"),
        "--dry-run",
        "--quiet",
    ]
    command += ["rules", "--profile", str(ROOT / "profiles" / "default"), "--configfile", "settings.yaml"]
    started = time.monotonic()
    process = subprocess.Popen(
        command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    assert process.stdout is not None
    text = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.monotonic() - started
    if status:
        sys.exit(text)
    totals = [line.split()[1] for line in text.splitlines() if line.startswith("total")]
    return {
        "seconds": round(seconds, 2),
        "processor_seconds": round(usage.ru_utime + usage.ru_stime, 2),
        "memory_mb": round(usage.ru_maxrss / 1024, 1),
        "jobs": int(totals[0]),
    }


def measure(movies: int, frames: int, runs: int, frames_per_job: int) -> list[dict[str, Any]]:
    """Both plans, each several times."""
    found = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_sheet(folder, movies, frames, frames_per_job)
        for which in ("review", "all that follows"):
            if which != "review":
                write_review(folder, frames)
            repeated = [plan(folder) for _ in range(runs)]
            medians = {key: statistics.median(run[key] for run in repeated) for key in repeated[0]}
            found.append({"movies": movies, "plan": which, "median": medians, "runs": repeated})
            print(f"{movies:6} movies, plan of {which:16}: {medians}", flush=True)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--movies", type=int, nargs="+", default=[30, 300])
    parser.add_argument("--frames", type=int, default=100)
    parser.add_argument("--frames-per-job", type=int, default=0)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    results = [
        found
        for n in (1, *options.movies)
        for found in measure(n, options.frames, options.runs, options.frames_per_job)
    ]
    if options.out:
        content = {
            "frames": options.frames,
            "frames_per_job": options.frames_per_job,
            "load": os.getloadavg(),
            "results": results,
        }
        write(options.out, content)


if __name__ == "__main__":
    main()
