"""What a job costs before it reads a voxel: processor time and memory of importing each stage's script.

    python benchmarks/job_start.py [--before OTHER_CHECKOUT] [--out benchmarks/results/job_start.md]

Each script is imported in a process of its own, on one thread, once unmeasured and then a few times; of two
checkouts in turn, so that other work on the machine meets both. A row gives the median of these times and, in
brackets, the lowest and the highest. Peak memory is that of resident pages, those of libraries included.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from spatialdino_core.movies.provenance import software

HERE = Path(__file__).resolve().parents[1]
STAGES = ("register", "preview", "review", "deskew", "shard", "pretrain", "repair", "features")
STAGES += ("segment", "track", "report", "summary")
IMPORT = """
import json, resource
import workflow_scripts.{stage}
used = resource.getrusage(resource.RUSAGE_SELF)
print(json.dumps([used.ru_utime + used.ru_stime, used.ru_maxrss / 1024]))
"""


def start(checkout: Path, stage: str) -> tuple[float, float]:
    """Processor seconds and peak memory (MB) of one import of a stage's script."""
    environment = os.environ | {"PYTHONPATH": str(checkout), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", IMPORT.format(stage=stage)]
    done = subprocess.run(command, cwd=checkout, env=environment, text=True, stdout=-1, check=True)
    seconds, megabytes = json.loads(done.stdout)
    return seconds, megabytes


def measured(checkouts: list[Path], runs: int) -> dict[str, list[list[tuple[float, float]]]]:
    """For each stage and checkout, what its runs took."""
    found: dict[str, list[list[tuple[float, float]]]] = {}
    for stage in STAGES:
        for checkout in checkouts:
            start(checkout, stage)  # compiles bytecode, fills the page cache
        rounds = [[start(checkout, stage) for checkout in checkouts] for _ in range(runs)]
        found[stage] = [list(of_one) for of_one in zip(*rounds, strict=True)]
    return found


def table(found: dict[str, list[list[tuple[float, float]]]], names: list[str]) -> str:
    """One row per stage in Markdown."""
    header = ["stage", *(f"{what}, {name}" for what in ("processor s", "peak MB") for name in names)]
    lines = [header, ["---", *["--:"] * (2 * len(names))]]
    for stage, checkouts in found.items():
        seconds = [_spread([run[0] for run in runs], 2) for runs in checkouts]
        lines.append([stage, *seconds, *(_spread([run[1] for run in runs], 0) for runs in checkouts)])
    return "".join("| " + " | ".join(line) + " |\n" for line in lines)


def _spread(values: list[float], digits: int) -> str:
    low, middle, high = (f"{f(values):.{digits}f}" for f in (min, statistics.median, max))
    return f"{middle} ({low}–{high})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--before", type=Path, help="a checkout of the version to compare with")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    checkouts = [options.before.resolve(), HERE] if options.before else [HERE]
    names = ["before", "after"] if options.before else ["here"]
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    processor = next(line.partition(": ")[2] for line in lines if line.startswith("model name"))
    text = (
        "# The start of each stage's job\n\n"
        f"Median of {options.runs} imports of the stage's script (lowest–highest), on one thread of "
        f"{os.cpu_count()} × {processor} (load {os.getloadavg()[0]:.0f}), Python "
        f"{platform.python_version()}, version {software()['version']}, by `benchmarks/job_start.py`.\n\n"
    ) + table(measured(checkouts, options.runs), names)
    print(text)
    if options.out:
        options.out.write_text(text)


if __name__ == "__main__":
    main()
