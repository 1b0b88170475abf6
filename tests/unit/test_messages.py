"""What a run says at its end: which movies have no result, which jobs failed, and why."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from spatialdino_core.quality.decisions import write_table
from workflow_scripts.messages import LINES_SHOWN, show_left_out, unusable

COLUMNS = ["movie", "verdict", "reason", "judged"]


def log(folder: Path, name: str, text: str, *, old: bool = False) -> None:
    path = folder / "logs" / f"{name}.log"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    os.utime(path, (1.0, 1.0) if old else (3.0, 3.0))


def test_refused_movies_and_failed_jobs_are_listed_with_reasons(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    verdicts = {"a": "accept", "b": "problem", "gone": "problem", "c": "reject"}
    rows = [{"movie": m, "verdict": v, "reason": f"why {m}", "judged": "1"} for m, v in verdicts.items()]
    write_table(tmp_path / "qc" / "metrics.tsv", COLUMNS, rows)
    log(tmp_path, "deskew/a", "10 %\nERROR: a.tif: found zeros\n")
    log(tmp_path, "track/a", "Traceback (most recent call last):\n  File x\nKeyError: 'z'\n\n")
    log(tmp_path, "pretrain", "ERROR: crops: found none\n")
    log(tmp_path, "segment/a", "ERROR: of the day before\n", old=True)
    log(tmp_path, "features/a", "all is well\n")
    show_left_out(str(tmp_path), ["a", "b", "c"], since=2.0)
    said = capsys.readouterr().err
    assert said.splitlines()[:2] == ["1 of 3 movies cannot be used:", "  b  why b"]
    assert f"  deskew a  a.tif: found zeros\n    (log: {tmp_path}/logs/deskew/a.log)" in said
    assert "  track a   KeyError: 'z'" in said
    assert "  pretrain  crops: found none" in said
    for other in ("gone", "why c", "day before", "well"):
        assert other not in said


def test_long_lists_end_in_a_number(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    movies = [f"m{n}" for n in range(LINES_SHOWN + 7)]
    rows = [{"movie": m, "verdict": "problem", "reason": "no", "judged": "1"} for m in movies]
    write_table(tmp_path / "qc" / "metrics.tsv", COLUMNS, rows)
    show_left_out(str(tmp_path), movies, since=0.0)
    assert "  and 7 more" in capsys.readouterr().err.splitlines()[-1]


def test_nothing_is_said_where_all_is_well(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    show_left_out(str(tmp_path), ["a"], since=0.0)
    assert capsys.readouterr().err == ""
    assert unusable([], ["a"], "results") == []
    assert unusable(["a"], ["a", "b"], "out")[0].startswith("1 of 2 movies cannot be used: see out/qc")
    assert unusable(["a"], ["a", "b"], "out", {"a": "no memory"}) == ["no memory"]
    assert len(unusable(["a", "b"], ["a", "b"], "out", {"a": "no memory"})) == 2
