"""Phases of a job: what is told apart, and that nothing is counted twice. Time is a clock that steps turn."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from spatialdino_core import phases
from spatialdino_core.errors import BadInputError
from spatialdino_core.movies.ledger import FrameJob, FrameLedger, FrameResult
from spatialdino_core.phases import phase


class Clock:
    """Stands still but for `take`."""

    def __init__(self) -> None:
        self.now, self.turning = 100.0, threading.Lock()

    def __call__(self) -> float:
        return self.now

    def take(self, seconds: float) -> None:
        with self.turning:
            self.now += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(phases, "clock", made)
    monkeypatch.setattr(phases, "processor_clock", made)
    return made


class Written:
    def identity(self, frame: int) -> str:
        return "written"

    def is_intact(self, frame: int) -> bool:
        return True


def job(path: Path, frames: int, steps: dict[str, Callable], **changes: object) -> FrameJob:
    settings = {"stamps": dict.fromkeys(range(frames), "s"), "key": "k", "stores": [Written()]} | changes
    return FrameJob(ledger=FrameLedger(path), description="t", steps=steps, **settings)  # type: ignore[arg-type]


def steps(clock: Clock) -> dict[str, Callable]:
    def read(frame: int) -> int:
        clock.take(3)
        return frame

    def compute(frame: int) -> int:
        clock.take(5)
        with phase("read"):
            clock.take(2)
        with phase("write"):
            clock.take(4)
        with phase("read"):
            clock.take(1)
        return frame

    def write(frame: int) -> FrameResult:
        clock.take(7)
        return FrameResult(output=str(frame))

    return {"read": read, "compute": compute, "write": write}


def test_phases_within_a_step_are_taken_from_it(clock: Clock, tmp_path: Path) -> None:
    (entry,) = job(tmp_path / "l.jsonl", 1, steps(clock)).run()
    assert entry.seconds == {"read": 6, "compute": 5, "write": 11, "wait": 3, "processor": 22}
    assert FrameLedger(tmp_path / "l.jsonl").entries[0] == entry


def test_what_the_computing_thread_did_adds_up_to_its_time(clock: Clock, tmp_path: Path) -> None:
    """Whatever the order in which threads come to their turn."""
    done = []

    def compute(frame: int) -> FrameResult:
        with phase("read"):
            clock.take(2)
        clock.take(5)
        done.append(clock.now)
        return FrameResult(output=str(frame))

    entries = job(tmp_path / "l.jsonl", 6, {"compute": compute}).run()
    told = sum(sum(s for name, s in e.seconds.items() if name != "processor") for e in entries)
    assert told == done[-1] - 100
    assert sum(e.seconds["processor"] for e in entries) == done[-1] - 100


def test_reading_that_overlaps_is_not_taken_from_computing(clock: Clock, tmp_path: Path) -> None:
    entries = job(tmp_path / "l.jsonl", 4, steps(clock)).run()
    for entry in entries:
        # Threads may turn the clock for each other, but nobody's own time is lost.
        assert min(entry.seconds["read"] - 6, entry.seconds["compute"] - 5, entry.seconds["write"] - 11) >= 0
    assert entries[0].seconds["wait"] >= 3


def test_a_frame_that_fails_leaves_its_time_to_no_other(clock: Clock, tmp_path: Path) -> None:
    def compute(frame: int) -> FrameResult:
        clock.take(50 if frame == 0 else 5)
        if frame == 0:
            raise BadInputError("frame", found="a", expected="b", remedy="c")
        return FrameResult(output="")

    bad, good = job(tmp_path / "l.jsonl", 2, {"compute": compute}, skip_bad=True).run()
    assert (bad.seconds, bad.skipped is None) == ({}, False)
    assert (good.seconds["compute"], good.seconds["wait"]) == (5, 0)


def test_a_frame_that_is_settled_leaves_its_time_to_no_other(clock: Clock, tmp_path: Path) -> None:
    path = tmp_path / "l.jsonl"
    turning = steps(clock)
    before = job(path, 2, turning).run()

    def unchanged(frame: int, entry: object) -> bool:
        clock.take(1000)
        return frame == 0

    again = job(path, 2, turning, stamps={0: "t", 1: "t"}, unchanged=unchanged).run()
    assert again[0].seconds == before[0].seconds
    assert again[1].seconds["compute"] >= 5


def test_nothing_is_counted_outside_a_step() -> None:
    with phase("read"):
        pass
    assert phases.told_apart("compute", lambda value: value, 3)[0] == 3
