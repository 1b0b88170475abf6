"""The fuzzing: that it sees what it looks for, and that a short run of it finds nothing."""

from __future__ import annotations

import signal
import time
from pathlib import Path
from random import Random

import fuzz
import pytest
from fuzz_mutations import damaged
from fuzz_trials import TRIALS

from spatialdino_core.errors import BadInputError

SOUND = b"12 words\n"
INPUTS, SECONDS = 144, 60.0
"""It ends after either; an idle core takes a third of the time."""


def seed(folder: Path) -> None:
    (folder / "a.txt").write_bytes(SOUND)


def outcome_of(trial: object, monkeypatch: pytest.MonkeyPatch, folder: Path) -> fuzz.Outcome:
    """What a trial of sixteen damaged files comes to; the sound one it accepts."""
    monkeypatch.setattr(fuzz, "KEPT", folder)
    monkeypatch.setattr(fuzz, "TIME_LIMIT_S", 0.5)

    def guarded(place: Path) -> bool:
        sound = [path.read_bytes() for path in place.iterdir()] == [SOUND]
        return sound or trial()  # type: ignore[operator]

    return fuzz.fuzz({seed: guarded}, 0, 60, 16)


def refusal() -> bool:
    raise BadInputError("a", found="b", expected="c", remedy="d")


def error() -> bool:
    return bool({}["missing"])


def hang() -> bool:
    time.sleep(100)
    return True


def crash() -> bool:
    signal.raise_signal(signal.SIGUSR2)
    return True


def memory() -> bool:
    return len(bytearray(2 * fuzz.MEMORY_LIMIT)) > 0


@pytest.mark.parametrize(
    ("trial", "what"),
    [(error, "traceback"), (hang, "hang"), (crash, "crash: SIGUSR2"), (memory, "traceback")],
)
def test_what_is_no_refusal_is_found_and_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trial: object, what: str
) -> None:
    outcome = outcome_of(trial, monkeypatch, tmp_path)
    assert outcome.findings
    assert all(finding.what.startswith(what) for finding in outcome.findings)
    assert what in fuzz.report(outcome, 0, 1.0)
    first = outcome.findings[0]
    kept = tmp_path / f"seed-0-{first.number}"
    again = damaged({"a.txt": SOUND}, Random(f"0:{first.number}"))
    assert {p.name: p.read_bytes() for p in kept.iterdir() if p.name != "finding.txt"} == again


def test_a_refusal_is_no_finding(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    outcome = outcome_of(refusal, monkeypatch, tmp_path)
    assert (outcome.findings, sum(outcome.inputs.values())) == ([], 16)


def test_a_short_run_finds_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fuzz, "KEPT", tmp_path)
    outcome = fuzz.fuzz(TRIALS, 0, SECONDS, INPUTS)
    assert not outcome.findings, fuzz.report(outcome, 0, SECONDS)
    assert outcome.inputs.keys() == {build.__name__ for build in TRIALS}
