"""A run that is killed without warning goes on where it was, with the same command."""

from __future__ import annotations

import json
import os
import signal

import psutil
import pytest

from tests.workflow.conftest import FRAMES, Project, wait_for

pytestmark = pytest.mark.workflow


def pretraining(project: Project) -> bool:
    return any((project.results / "model" / "checkpoints").glob("*"))


def extracting(project: Project) -> bool:
    ledger = project.results / "series" / "ledger" / "features.jsonl"
    return ledger.exists() and ledger.read_text().count("\n") >= 1


def test_a_killed_run_goes_on(finished: Project, fresh: Project) -> None:
    process = fresh.start()
    wait_for(lambda: extracting(fresh), process)
    family = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
    for member in family:
        if member.is_running():
            os.kill(member.pid, signal.SIGKILL)
    process.wait()
    assert not (fresh.results / "series" / "tracks.csv").exists()
    fresh.run()
    # The same seed gives the same results, in another folder and with an interruption.
    tables = [f"{movie}/{name}.csv" for movie in ("series", "single") for name in ("tracks", "events")]
    for name in ("model/repaired.safetensors", *tables):
        assert (fresh.results / name).read_bytes() == (finished.results / name).read_bytes()
    for movie in ("series", "single"):
        for stage in ("deskew", "features", "segment"):
            assert fresh.computed(stage, movie) == FRAMES


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signals_end_the_run_and_its_jobs(fresh: Project, number: int) -> None:
    """Also in the second plan, which takes the place of the first: the process that the user started is the
    one that works. Training would go on for hours, and leaves a checkpoint.
    """
    fresh.set("pretrain", steps=1_000_000, checkpoint_interval_steps=500_000)
    process = fresh.start()
    log = fresh.results / "logs" / "pretrain.log"
    wait_for(lambda: log.exists() and "/1000000" in log.read_text(), process)
    mark = json.loads((fresh.results / ".running.json").read_text())
    assert mark["pid"] == process.pid
    family = psutil.Process(process.pid).children(recursive=True)
    os.kill(process.pid, number)
    assert process.wait(120) != 0
    assert psutil.wait_procs(family, timeout=30)[1] == []
    assert pretraining(fresh)
    assert not (fresh.results / "summary.html").exists()
