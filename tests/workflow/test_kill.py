"""A run that is killed without warning goes on where it was, with the same command."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable

import psutil
import pytest

from tests.workflow.conftest import FRAMES, Project, wait_for

pytestmark = pytest.mark.workflow


def pretraining(project: Project) -> bool:
    return any((project.results / "model" / "checkpoints").glob("*"))


def extracting(project: Project) -> bool:
    ledger = project.results / "series" / "ledger" / "features.jsonl"
    return ledger.exists() and ledger.read_text().count("\n") >= 1


@pytest.mark.parametrize("moment", [pretraining, extracting])
def test_a_killed_run_goes_on(finished: Project, fresh: Project, moment: Callable[[Project], bool]) -> None:
    process = fresh.start()
    wait_for(lambda: moment(fresh), process)
    family = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
    for member in family:
        if member.is_running():
            os.kill(member.pid, signal.SIGKILL)
    process.wait()
    assert not (fresh.results / "series" / "tracks.csv").exists()
    fresh.run()
    for movie in ("series", "single"):
        tracks = (fresh.results / movie / "tracks.csv").read_bytes()
        assert tracks == (finished.results / movie / "tracks.csv").read_bytes()
        for stage in ("deskew", "features", "segment"):
            assert fresh.computed(stage, movie) == FRAMES


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signals_and_the_exit_status_are_those_of_the_second_plan(fresh: Project, number: int) -> None:
    """It takes the place of the first: the process that the user started is the one that works."""
    process = fresh.start()
    wait_for(lambda: (fresh.results / "qc" / "metrics.tsv").exists() and busy(process.pid), process)
    mark = json.loads((fresh.results / ".running.json").read_text())
    assert mark["pid"] == process.pid
    family = psutil.Process(process.pid).children(recursive=True)
    os.kill(process.pid, number)
    assert process.wait(120) != 0
    assert psutil.wait_procs(family, timeout=30)[1] == []
    assert not (fresh.results / "summary.html").exists()


def busy(number: int) -> bool:
    """Whether a process has a job of a stage that follows the review."""
    lines = [
        child.cmdline() for child in psutil.Process(number).children(recursive=True) if child.is_running()
    ]
    return any(
        f"workflow_scripts.{stage}" in line for line in lines for stage in ("deskew", "shard", "pretrain")
    )
