"""Faults on purpose, over all stages: what was lost, what was computed again, whether tracks are the same.

    python benchmarks/faults.py [--kills 20] [--only kills run disks others] [--out build/benchmarks/...]

The same faults as in tests/workflow/test_faults.py, more often. The peer is an undisturbed run of the same
movies. Full disks and read-only folders need the right to mount.
"""

from __future__ import annotations

import argparse
import random
import shutil
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from record import write

from tests.workflow import faults
from tests.workflow.conftest import Project, make_project

# Faults of one kind each, and whether they are done to finished results.
OTHERS = {
    faults.make_read_only: True,
    faults.run_twice_at_once: True,
    faults.truncate_raw_file: False,
    faults.corrupt_chunk: True,
}


def table(outcomes: list[faults.Outcome]) -> str:
    """One row per fault and stage, in Markdown."""
    lines = [
        "| fault | stage | tried | frames lost | frames recomputed | same tracks |",
        "|---|---|--:|--:|--:|---|",
    ]
    for o in outcomes:
        cells = (o.fault, o.stage, o.tried, o.missing, o.recomputed, "yes" if o.same_tracks else "NO")
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    return "\n".join(lines)


def copy_of(project: Project, folder: Path, results: bool) -> Project:
    """A private copy, with or without what has been computed."""
    left_out = () if results else ("results", ".snakemake")
    shutil.copytree(project.folder, folder, symlinks=True, ignore=shutil.ignore_patterns(*left_out))
    return Project(folder)


def kills(undisturbed: Project, folder: Path, number: int, seed: int) -> list[faults.Outcome]:
    """Each stage once, the others drawn, in the order of a run."""
    stages = range(len(faults.STAGES))
    drawn = [*stages, *random.Random(seed).choices(stages, k=max(0, number - len(stages)))]
    project = copy_of(undisturbed, folder / "kills", results=False)
    return faults.kill_jobs(project, undisturbed, [faults.STAGES[n] for n in sorted(drawn)], seed)


def the_run_itself(undisturbed: Project, folder: Path) -> faults.Outcome:
    project = copy_of(undisturbed, folder / "run", results=False)
    said = faults.kill_the_run(project)
    project.run()
    messages = faults.lines_with(said, "of a run that was killed")
    outcome = faults.Outcome("kill -9 of Snakemake", "deskew", 1, messages=messages)
    return outcome.judge(project, undisturbed)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", nargs="*", default=["kills", "run", "disks", "others"])
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        undisturbed = make_project(folder / "undisturbed")
        undisturbed.run()
        outcomes = []
        if "kills" in options.only:
            outcomes += kills(undisturbed, folder, options.kills, options.seed)
        if "run" in options.only:
            outcomes.append(the_run_itself(undisturbed, folder))
        for stage, leave_bytes in faults.DISKS.items() if "disks" in options.only else ():
            project = copy_of(undisturbed, folder / f"disk-{stage}", results=True)
            outcomes.append(faults.run_out_of_disk(project, undisturbed, stage, leave_bytes))
        for fault, keeps_results in OTHERS.items() if "others" in options.only else ():
            project = copy_of(undisturbed, folder / fault.__name__, keeps_results)
            outcomes.append(fault(project, undisturbed))
    print(table(outcomes))
    content = {"seed": options.seed, "outcomes": [asdict(o) for o in outcomes]}
    write(options.out, content, table(outcomes) + "\n")


if __name__ == "__main__":
    main()
