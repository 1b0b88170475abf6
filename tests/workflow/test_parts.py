"""A movie that several jobs share: the same bytes as from one job, each frame computed once."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import yaml

from tests.workflow.conftest import FRAMES, Project

pytestmark = pytest.mark.workflow
STAGES = ("deskew", "features", "segment")
RECORDS = ("deskewed", "features", "labels")
PARTS = ("0-0", "0-4", "4-6")


def split(project: Project, frames_per_job: int) -> None:
    path = project.folder / "settings.yaml"
    path.write_text(yaml.safe_dump(yaml.safe_load(path.read_text()) | {"frames_per_job": frames_per_job}))


def files(movie: Path) -> dict[str, bytes]:
    """Stores, tables and records of a movie, without notes of who computed what and when."""
    found = [path for path in movie.rglob("*") if path.is_file() and path.name != "report.html"]
    notes = ("objects", ".made")
    kept = [path for path in found if path.suffix != ".jsonl" and path.parent.name not in notes]
    return {str(path.relative_to(movie)): path.read_bytes() for path in kept}


def test_parts_of_a_movie_give_what_one_job_gives(finished: Project, copy: Project) -> None:
    movie = copy.results / "single"
    for path in movie.iterdir():
        if (path.is_dir() and path.name != ".made") or path.name in [f"{record}.json" for record in RECORDS]:
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    (movie / "objects.parquet").unlink()
    split(copy, 4)
    copy.run("--until", "segment")
    for stage, record in zip(STAGES, RECORDS, strict=True):
        assert copy.computed(stage, "single") == FRAMES
        assert [p.name for p in (movie / "ledger").glob(f"{stage}*.jsonl")] == [f"{stage}.jsonl"]
        for part in PARTS:
            frames = copy.record(f"{record}.{part}", "single")["checksums"]
            first, end = map(int, part.split("-"))
            assert list(map(int, frames)) == list(range(first, end))  # type: ignore[call-overload]
    # Calibrated once, by the job before all frames.
    for calibration, record in (("foreground", "features"), ("segment", "labels")):
        made = (movie / "ledger" / f"{calibration}.json").stat().st_mtime_ns
        assert made <= (movie / f"{record}.0-0.json").stat().st_mtime_ns
    for path in [movie / f"{record}.{part}.json" for record in RECORDS for part in PARTS]:
        path.unlink()
    ours, theirs = files(movie), files(finished.results / "single")
    assert ours.keys() == theirs.keys()
    assert [name for name in ours if ours[name] != theirs[name]] == []


def test_other_parts_compute_no_frame(copy: Project) -> None:
    split(copy, 3)
    copy.run("--until", "deskew")
    assert copy.computed("deskew", "single") == FRAMES
    split(copy, 0)
    assert "deskew_part" not in copy.run("--dry-run", "--quiet", "rules").stdout
