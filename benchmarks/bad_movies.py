"""Many small movies, some of them bad, each in another way: what is done, and what is named at the end.

    python benchmarks/bad_movies.py [--movies 60]

One run of the workflow to the deskewed stores, in which every fifth movie is bad. No movie may keep another
from its end, and no bad one may fail a job or be missing from the list at the end.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tests.workflow.conftest import Project
from tests.workflow.small_movies import FAULTS, row, write_project, write_series


def make(folder: Path, movies: int) -> tuple[Project, list[str], list[str]]:
    """The project, its good movies and its bad ones."""
    rows, good, bad = [], [], []
    for number in range(movies):
        if number % 5:
            name = f"good_{number:04}"
            write_series(folder / "raw" / name, seed=number)
            rows.append(row(name, f"raw/{name}/*.tif"))
            good.append(name)
        else:
            fault, spoil = [*FAULTS.items()][number // 5 % len(FAULTS)]
            name = f"{fault}_{number:04}"
            rows.append(row(name, f"raw/{name}/{spoil(folder / 'raw' / name)}"))
            bad.append(name)
    return write_project(folder, rows), good, bad


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--movies", type=int, default=60)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        project, good, bad = make(Path(name), options.movies)
        started = time.monotonic()
        done = project.run("--omit-from", "features", check=False)
        seconds = time.monotonic() - started
        again = project.run("--omit-from", "features", check=False)
        deskewed = [m for m in good + bad if (project.results / m / "deskewed.json").exists()]
        if "cannot be used:" not in done.stdout:
            sys.exit(done.stdout)
        listed = done.stdout[done.stdout.rindex("cannot be used:") :]
        print(listed)
    print(f"{len(good)} good and {len(bad)} bad movies: exit status {done.returncode} after {seconds:.0f} s")
    print(f"deskewed: {len(deskewed)}, all of them good: {set(deskewed) <= set(good)}")
    print(f"named at the end: {sum(f'  {movie}' in listed for movie in bad)}")
    print(f"named by mistake: {sum(f'  {movie}' in listed for movie in good)}")
    print(f"jobs that failed: {done.stdout.count('Error in rule')}")
    print(f"a second run has nothing to do: {'Nothing to be done' in again.stdout}")
    print(f"load {os.getloadavg()[0]:.0f}")


if __name__ == "__main__":
    main()
