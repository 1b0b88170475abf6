"""What a run says: first what it goes by, and at its end which movies have no result, and why."""

from __future__ import annotations

import sys
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType

from spatialdino_core.quality.decisions import standings

LINES_SHOWN = 100
NONE: Mapping[str, str] = MappingProxyType({})


def say_first(*groups: Iterable[object]) -> None:
    """Print the first lines of a run, before any job."""
    for line in [line for group in groups for line in group]:
        print(line, file=sys.stderr)


def unusable(
    problems: Collection[str], movies: Collection[str], results: str, too_large: Mapping[str, str] = NONE
) -> list[str]:
    """Lines on movies that cannot be used; no page names those that are too large for the machine."""
    others = len(set(problems) - set(too_large))
    page = f"{others} of {len(movies)} movies cannot be used: see {results}/qc/contact_sheet.html."
    return [page][:others] + list(too_large.values())[:LINES_SHOWN]


def show_left_out(results: str, movies: Collection[str], since: float) -> None:
    """Print a line for each movie that cannot be used and for each job that failed since a time (s since the
    epoch).
    """
    refused = {m: s for m, s in standings(f"{results}/qc").items() if m in movies and s.verdict == "problem"}
    failed = list(failures(results, since))
    if refused:
        say(f"{len(refused)} of {len(movies)} movies cannot be used:")
        show([(movie, standing.reason) for movie, standing in refused.items()])
    if failed:
        say("What went wrong:")
        show(failed)


def failures(results: str, since: float) -> Iterator[tuple[str, str]]:
    """Jobs whose logs of after a time end in an error: stage and movie, and the error's message."""
    logs = Path(results, "logs")
    for log in sorted(logs.rglob("*.log")):
        if log.stat().st_mtime < since:
            continue
        lines = log.read_text(errors="replace").splitlines()
        errors = [line.removeprefix("ERROR: ") for line in lines if line.startswith("ERROR: ")]
        if not errors and any(line.startswith("Traceback (most") for line in lines):
            errors = [line for line in lines if line.strip()]
        if errors:
            job = log.relative_to(logs).with_suffix("").parts
            yield " ".join(job), f"{errors[-1]}\n    (log: {log})"


def show(rows: list[tuple[str, str]]) -> None:
    """Print what each line is about, and what it says."""
    width = min(40, max(len(name) for name, _ in rows))
    for name, message in rows[:LINES_SHOWN]:
        say(f"  {name:{width}}  {message}")
    if len(rows) > LINES_SHOWN:
        say(f"  and {len(rows) - LINES_SHOWN} more: summary.tsv and the logs of the results have them all")


def say(line: str) -> None:
    print(line.encode(errors="backslashreplace").decode(), file=sys.stderr)
