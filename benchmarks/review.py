"""What it costs to plan, register, preview and review many movies: processor time and peak memory.

    python benchmarks/review.py [--before OTHER_CHECKOUT] [--movies 100] [--files 100] [--runs 3] [--out ...]

Movies are series of small TIFF files. Each step handles all movies in a process of its own, on one thread, so
that the start of a job (`job_start.py`) is paid once; of two checkouts in turn, so that other work meets
both. A row gives the median of the runs and, in brackets, the lowest and the highest.
"""

from __future__ import annotations

import argparse
import inspect
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parents[1]
HEADER = ["movie", "channel", "path", "scan", "angle_deg", "step_um", "pixel_um", "interval_s", "skew_axis"]
HEADER += ["scan_sign", "train"]
STEPS = ("plan", "register", "preview", "review")


def write_movies(folder: Path, movies: int, files: int) -> None:
    """Sheet, settings and raw files of 8 × 24 × 32 voxels."""
    import numpy as np
    import tifffile

    lines = ["\t".join(HEADER)]
    for number in range(movies):
        raw = folder / "raw" / f"movie_{number:04}"
        raw.mkdir(parents=True)
        stacks = np.random.default_rng(number).integers(90, 200, (files, 8, 24, 32)).astype(np.uint16)
        for frame, stack in enumerate(stacks):
            tifffile.imwrite(raw / f"cell_stack{frame:04}.tif", stack, photometric="minisblack")
        row = [raw.name, "488nm", f"raw/{raw.name}/*.tif", "stage", 31.5, 0.4, 0.104, 2.0, "x", "+1", "no"]
        lines.append("\t".join(map(str, row)))
    (folder / "movies.tsv").write_text("\n".join(lines) + "\n")
    (folder / "settings.yaml").write_text("movies: movies.tsv\nresults: results\nmodel: {source: bundled}\n")


def do(step: str) -> None:
    """One step for all movies, in this process and the present folder, with the software of PYTHONPATH."""
    from spatialdino_core.movies.parameters import ReadingParameters
    from spatialdino_core.movies.record import MovieRecord
    from spatialdino_core.movies.sheet import read_sheet

    movies = read_sheet("movies.tsv")
    previews = Path("results", "qc", "previews")
    if step == "register":
        from spatialdino_core.movies.register import register_movie

        for movie, rows in movies.items():
            found: Any = register_movie(rows, ReadingParameters(), "fail")
            record = found[0] if isinstance(found, tuple) else found
            assert record.problem is None, record.problem
            record.write(Path("results", movie, "movie.json"))
            if isinstance(found, tuple):  # not in earlier versions
                found[1].write(Path("results", movie, "acquisition.tsv"), record.skipped)
    if step == "preview":
        from spatialdino_core.quality.preview import preview_movie

        how: dict[str, Any] = {"frames": 5, "skip_bad": False}
        now = "table" in inspect.signature(preview_movie).parameters
        how |= {"state": "x"} if now else {"reading": ReadingParameters()}
        if "optics" in inspect.signature(preview_movie).parameters:
            from spatialdino_core.optics import OpticsParameters

            how["optics"] = OpticsParameters()
        for movie, rows in movies.items():
            record = MovieRecord.read(Path("results", movie, "movie.json"))
            files = {"measures": previews / f"{movie}.json", "picture": previews / f"{movie}.png"}
            if now:
                from spatialdino_core.movies.acquisition import AcquisitionTable

                how["table"] = AcquisitionTable.read(Path("results", movie, "acquisition.tsv"))
            preview_movie(rows, record, **files, **how)
    if step == "review":
        from spatialdino_core.quality import review
        from spatialdino_core.quality.parameters import QualityParameters

        review_movies: Any = review.review_movies
        seen = [str(previews / f"{movie}.json") for movie in movies]
        tables = [Path("results", "qc", name) for name in ("metrics.tsv", "by_channel.tsv", "sheet.html")]
        if "judged" in inspect.signature(review_movies).parameters:
            records = [str(Path("results", movie, "movie.json")) for movie in movies]
            review_movies(records, seen, dict.fromkeys(movies, "x"), QualityParameters(), *tables)
        else:
            review_movies(seen, QualityParameters(), *tables, version="1")


def measure(checkout: Path, folder: Path, step: str) -> tuple[float, float]:
    """Processor seconds and peak memory (MB) of a step."""
    command = [sys.executable, str(HERE / "benchmarks" / "review.py"), "--step", step]
    if step == "plan":
        command = [sys.executable, "-m", "snakemake", "--snakefile", str(checkout / "Snakefile"), "--dry-run"]
        command += ["--profile", str(checkout / "profiles" / "default"), "--configfile", "settings.yaml"]
        command += ["--quiet", "rules"]
    environment = os.environ | {
        "PYTHONPATH": str(checkout),
        "CHECKOUT": str(checkout),
        "OMP_NUM_THREADS": "1",
    }
    process = subprocess.Popen(command, cwd=folder, env=environment, stdout=-1, stderr=-2, text=True)
    assert process.stdout is not None
    said = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        sys.exit(said)
    return usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024


def spread(values: list[float], digits: int) -> str:
    low, middle, high = (f"{f(values):.{digits}f}" for f in (min, statistics.median, max))
    return f"{middle} ({low}–{high})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--before", type=Path, help="a checkout of the version to compare with")
    parser.add_argument("--movies", type=int, default=100)
    parser.add_argument("--files", type=int, default=100)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--step", choices=STEPS)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    if options.step:
        return do(options.step)
    checkouts = {"before": options.before.resolve()} if options.before else {}
    checkouts |= {"here": HERE}
    found: dict[str, dict[str, list[tuple[float, float]]]] = {s: {n: [] for n in checkouts} for s in STEPS}
    with tempfile.TemporaryDirectory() as name:
        write_movies(Path(name), options.movies, options.files)
        for _ in range(options.runs):
            for which, checkout in checkouts.items():
                for step in STEPS:
                    found[step][which].append(measure(checkout, Path(name), step))
                (Path(name) / "results" / "qc" / "metrics.tsv").unlink()
    columns = [f"{what}, {which}" for what in ("processor s", "peak MB") for which in checkouts]
    lines = ["| step | " + " | ".join(columns) + " |", "|---" + "|--:" * len(columns) + "|"]
    for step, runs_of in found.items():
        cells = [spread([run[k] for run in runs], 1 - k) for k in (0, 1) for runs in runs_of.values()]
        lines.append(f"| {step} | " + " | ".join(cells) + " |")
    print("\n".join(lines))
    if options.out:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text(json.dumps({"options": vars(options), "found": found}, default=str) + "\n")


if __name__ == "__main__":
    main()
