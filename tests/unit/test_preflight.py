"""One run at a time: who gets the results folder, and from whom it is taken."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from spatialdino_core.errors import BadInputError
from workflow_scripts import orphans
from workflow_scripts.preflight import MARK, enter_run, leave_run

PROCESSES = orphans.processes
RACE = """
import sys, time
from workflow_scripts.preflight import enter_run
folder, start = sys.argv[1], float(sys.argv[2])
time.sleep(max(0.0, start - time.time()))
try:
    enter_run(folder)
    print("entered", flush=True)
except ValueError:
    print("refused", flush=True)
sys.stdin.read()  # lives until all have been told
"""


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(orphans, "slurm_jobs", list)
    monkeypatch.setattr(orphans, "processes", lambda results: [])


def leave_mark(folder: Path, **changes: object) -> Path:
    ours = {
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "started": psutil.Process().create_time(),
    }
    (folder / MARK).write_text(json.dumps(ours | changes))
    return folder / MARK


def dead() -> int:
    done = subprocess.Popen([sys.executable, "-c", ""])
    done.wait()
    return done.pid


def test_a_run_enters_once_and_leaves_nothing(tmp_path: Path) -> None:
    enter_run(str(tmp_path))
    enter_run(str(tmp_path))  # the second plan of the same process
    assert [path.name for path in tmp_path.iterdir()] == [MARK]
    leave_run(str(tmp_path))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("where", ["here", "elsewhere"])
def test_a_run_that_lives_or_may_live_is_not_disturbed(tmp_path: Path, where: str) -> None:
    with subprocess.Popen(["sleep", "60"]) as other:
        changes = {"pid": other.pid, "started": psutil.Process(other.pid).create_time()}
        mark = leave_mark(tmp_path, **(changes if where == "here" else {"host": where}))
        try:
            with pytest.raises(BadInputError, match="expected no other run"):
                enter_run(str(tmp_path))
            leave_run(str(tmp_path))
            assert mark.exists()
        finally:
            other.kill()


@pytest.mark.parametrize("text", ["", "{", "[]"])
def test_a_damaged_mark_is_told(tmp_path: Path, text: str) -> None:
    (tmp_path / MARK).write_text(text)
    with pytest.raises(BadInputError, match="unknown host"):
        enter_run(str(tmp_path))


def test_the_mark_of_a_dead_run_is_taken_over(tmp_path: Path) -> None:
    mark = leave_mark(tmp_path, pid=dead())
    enter_run(str(tmp_path))
    assert json.loads(mark.read_text())["pid"] == os.getpid()
    # Its number may have been given to another process since.
    mark = leave_mark(tmp_path, pid=1, started=1.0)
    enter_run(str(tmp_path))
    assert json.loads(mark.read_text())["pid"] == os.getpid()


def test_a_share_without_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*_: object) -> None:
        raise PermissionError

    monkeypatch.setattr(os, "link", unknown)
    enter_run(str(tmp_path))
    assert json.loads((tmp_path / MARK).read_text())["pid"] == os.getpid()
    leave_mark(tmp_path, host="elsewhere")
    with pytest.raises(BadInputError):
        enter_run(str(tmp_path))


def test_what_a_killed_run_left_running_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    leave_mark(tmp_path, pid=dead())
    monkeypatch.setattr(orphans, "processes", lambda results: ["4711"])
    with pytest.raises(BadInputError, match=r"killed: 4711.*kill 4711"):
        enter_run(str(tmp_path))


def test_processes_are_found_however_the_results_are_spelled(tmp_path: Path) -> None:
    for name in ("project/out", "elsewhere/out"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "link").symlink_to("project")
    names = ["workflow_scripts.features", "--output", "out/cell/features.json"]
    command = [sys.executable, "-c", "input()", *names]
    with subprocess.Popen(command, cwd=tmp_path / "link", stdin=-1, text=True) as job:
        for results in ("project/out", "link/out", "project/../link/out/"):
            assert PROCESSES(str(tmp_path / results)) == [str(job.pid)]
        for results in ("elsewhere/out", "project/ou", "project/out/cell/features.json/more"):
            assert PROCESSES(str(tmp_path / results)) == []
        job.communicate("\n")


@pytest.mark.parametrize("before", ["nothing", "dead run"])
def test_of_runs_that_start_at_once_one_enters(tmp_path: Path, before: str) -> None:
    import time

    if before == "dead run":
        leave_mark(tmp_path, pid=dead())
    start = str(time.time() + 1.5)
    runs = [
        subprocess.Popen([sys.executable, "-c", RACE, str(tmp_path), start], stdin=-1, stdout=-1, text=True)
        for _ in range(6)
    ]
    said = [run.stdout.readline().strip() for run in runs if run.stdout]
    for run in runs:
        run.communicate()
    assert sorted(said) == ["entered", *["refused"] * 5]
