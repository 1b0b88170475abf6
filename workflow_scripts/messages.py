"""What a run says: first what it goes by, and after a failure the messages of the jobs that failed."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path


def say_first(*groups: Iterable[object]) -> None:
    """Print the first lines of a run, before any job."""
    for line in [line for group in groups for line in group]:
        print(line, file=sys.stderr)


def show_failures(results: str, since: float) -> None:
    """Print the ``ERROR:`` lines of the job logs that were written since a time (s since the epoch)."""
    logs = [p for p in sorted(Path(results, "logs").rglob("*.log")) if p.stat().st_mtime >= since]
    errors = {
        line.removeprefix("ERROR: "): path
        for path in logs
        for line in path.read_text(errors="replace").splitlines()
        if line.startswith("ERROR: ")
    }
    if errors:
        print("\nWhat went wrong:", file=sys.stderr)
    for message, path in errors.items():
        print(f"  {message}\n    (log: {path})", file=sys.stderr)
