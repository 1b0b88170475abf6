"""Times of stages: what tables and ledgers tell together, against sums by hand."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from spatialdino_core.files import write_json
from spatialdino_core.report.spending import spending
from spatialdino_core.report.timings import duration, size, timings

COLUMNS = "s\tmax_rss\tio_in\tio_out\tcpu_time"
LEDGERS = {"deskew": "deskewed", "features": "features", "segment": "labels"}


def bench(root: Path, name: str, *values: object) -> None:
    path = root / "benchmarks" / f"{name}.tsv"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(COLUMNS + "\n" + "\t".join(map(str, values)) + "\n")


def ledger(root: Path, movie: str, stage: str, seconds: list[dict[str, float]], **about: object) -> None:
    """Frames that took these times; one entry of earlier settings does not count."""
    lines = [
        {"frame": n, "key": "now", "stamp": "", "output": "o", "seconds": each}
        for n, each in enumerate(seconds)
    ]
    lines.append({"frame": 99, "key": "earlier", "stamp": "", "seconds": {"processor": 1e6}})
    path = root / movie / "ledger" / f"{stage}.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    write_json(root / movie / f"{LEDGERS[stage]}.json", {"about": {"key": "now"} | about})


def found(root: Path, movie: str = "m") -> dict[str, object]:
    return {each.stage: each for each in timings(root / "benchmarks", movie, root / movie)}


def test_parts_add_up_and_what_was_not_measured_is_no_zero(tmp_path: Path) -> None:
    bench(tmp_path, "deskew/m", 2, 50, "-", 1, "NA")
    bench(tmp_path, "deskew/m.0-2", 30, 90, "-", 10, 55.5)
    bench(tmp_path, "deskew/m.2-4", 40, 80, "-", 20, 44.5)
    bench(tmp_path, "track/m", 0.4, "NA", "NA", "NA", "NA")
    deskew, track = found(tmp_path).values()
    assert (deskew.seconds, deskew.processor_s, deskew.memory_mb) == (72, 100, 90)
    assert (deskew.read_mb, deskew.written_mb, deskew.frames) == (None, 31, None)
    assert track.cells == ["0.4 s", *["–"] * 8]
    assert track.whole_s is None


def test_tables_of_earlier_releases_have_fewer_columns(tmp_path: Path) -> None:
    path = tmp_path / "benchmarks" / "track" / "m.tsv"
    path.parent.mkdir(parents=True)
    path.write_text("s\tmax_rss\n8.25\t20\n")
    (track,) = found(tmp_path).values()
    assert (track.seconds, track.memory_mb, track.processor_s) == (8.25, 20, None)


def test_phases_are_those_of_all_frames(tmp_path: Path) -> None:
    bench(tmp_path, "deskew/m", 9, 90, 1, 1, 12)
    each = {"read": 1.0, "compute": 2.0, "wait": 0.25, "processor": 4.0}
    ledger(tmp_path, "m", "deskew", [each, each | {"write": 0.5}])
    deskew = found(tmp_path)["deskew"]
    assert deskew.frames.phases == {"read": 2, "compute": 4, "write": 0.5, "wait": 0.5}
    assert deskew.cells[5:] == ["2 s", "4 s", "0.5 s", "0.5 s"]
    assert (deskew.frames.number, deskew.frames.processor_s, deskew.whole_s) == (2, 4, 12)


def test_a_run_that_had_little_to_do_does_not_make_a_stage_cheap(tmp_path: Path) -> None:
    bench(tmp_path, "deskew/m", 2, 90, 1, 1, 1.5)
    ledger(tmp_path, "m", "deskew", [{"processor": 10.0}] * 3 + [{"resample": 7.0}])
    assert found(tmp_path)["deskew"].whole_s == 40


def test_ledgers_of_earlier_releases_tell_no_phases_and_no_cost(tmp_path: Path) -> None:
    bench(tmp_path, "deskew/m", 2, 90, 1, 1, 1.5)
    ledger(tmp_path, "m", "deskew", [{"read": 1.0, "resample": 2.0, "write": 1.0}])
    deskew = found(tmp_path)["deskew"]
    assert deskew.cells == ["2 s", "1.5 s", "90 MB", "1 MB", "1 MB", *["–"] * 4]
    assert deskew.whole_s is None


def test_no_tables_are_no_error(tmp_path: Path) -> None:
    assert found(tmp_path) == {}
    spent = spending(tmp_path / "benchmarks", {"m": tmp_path / "m"})
    assert (spent.stages, spent.movies, spent.forecasts) == ([], [], [])
    assert spending(tmp_path / "benchmarks", {}).stages == []


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(None, "–"), (0.5, "0.5 s"), (59.9, "59.9 s"), (61, "1 min 1 s"), (7200, "2 h 0 min")],
)
def test_durations_have_sensible_units(seconds: float | None, text: str) -> None:
    assert duration(seconds) == text


@pytest.mark.parametrize(
    ("megabytes", "text"), [(None, "–"), (0.14, "0.14 MB"), (512.25, "512 MB"), (2345, "2.35 GB")]
)
def test_sizes_have_sensible_units(megabytes: float | None, text: str) -> None:
    assert size(megabytes) == text


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """Movie a with features, b without; 10 and 20 frames. The last run of a's segmentation did nothing."""
    for stage, a, b in [
        ("register", 1, 3),
        ("preview", 2, 4),
        ("deskew", 100, 300),
        ("features", 1000, 50),
        ("segment", 5, 600),
        ("track", 7, 9),
        ("report", 20, 40),
    ]:
        bench(tmp_path, f"{stage}/a", a, 100, 10, 1000, a)
        bench(tmp_path, f"{stage}/b", b, 3000, 20, 2000, b)
    bench(tmp_path, "review", 1, 100, 0, 0, 6)
    bench(tmp_path, "repair", 1, 100, 0, 0, 80)
    ledger(tmp_path, "a", "deskew", [{"processor": 9.0}] * 10)
    ledger(tmp_path, "b", "deskew", [{"processor": 14.0}] * 20)
    ledger(tmp_path, "a", "features", [{"processor": 99.0}] * 10)
    write_json(tmp_path / "b" / "features.json", {"about": {"unused": "few words"}})
    ledger(tmp_path, "a", "segment", [{"processor": 30.0}] * 10, calibration={"reach": 4})
    ledger(tmp_path, "b", "segment", [{"processor": 29.0}] * 20, calibration={"reach": 0})
    return tmp_path


def spent(root: Path):
    return spending(root / "benchmarks", {movie: root / movie for movie in "ab"})


def test_what_it_took(run: Path) -> None:
    stages = {row[0]: row[1:] for row in spent(run).stages}
    assert list(stages) == [
        *("register", "preview", "review", "deskew", "repair", "features", "segment", "track", "report"),
    ]
    assert stages["deskew"] == ["2", "6 min 40 s", duration((90 + 280) / 30), "3 GB", "30 MB", "3 GB"]
    assert stages["segment"][1:3] == ["15 min 0 s", duration((300 + 580) / 30)]
    assert stages["repair"][:3] == ["all", "1 min 20 s", "–"]
    movies = dict(spent(run).movies)
    assert movies["a"] == [duration(1 + 2 + 100 + 1000 + 300 + 7 + 20), "100 MB", "70 MB", "7 GB"]
    assert movies["b"][0] == duration(3 + 4 + 300 + 50 + 600 + 9 + 40)


def test_what_a_rerun_would_cost(run: Path) -> None:
    found = {each.change: (each.stages, each.cost.seconds) for each in spent(run).forecasts}
    linked = ("track", "report", "summary")
    track, segment = 7 + 9 + 20 + 40, 300 + 600
    assert found == {
        "another setting of tracking": (linked, track),
        # Features of b: whether they are needed is decided again.
        "another setting of segmentation": (("features", "segment", *linked), track + segment + 50),
        # The model is not made of movies of this run.
        "another setting of deskew": (
            ("deskew", "features", "segment", *linked),
            track + segment + 50 + 1000 + 100 + 300,
        ),
        "another model": (("repair", "features", "segment", *linked), 80 + 1000 + 300 + 7 + 20),
        "5 more frames of a movie": (
            ("register", "preview", "review", "deskew", "features", "segment", *linked),
            pytest.approx(
                2 + 3 + 6 + 5 * (9 + 14) / 2 + (5 * 99 + 0) / 2 + (9 * 30 + 5 * 29) / 2 + track / 2
            ),
        ),
        "one more movie": (
            ("register", "preview", "review", "deskew", "features", "segment", *linked),
            pytest.approx(2 + 3 + 6 + 200 + 525 + 450 + track / 2),
        ),
    }


def test_a_trained_model_follows_its_movies(run: Path) -> None:
    bench(run, "shard/a", 30, 1, 1, 1, 30)
    bench(run, "pretrain", 4000, 1, 1, 1, 4000)
    found = {each.change: each for each in spent(run).forecasts}
    assert found["another setting of deskew"].stages[:4] == ("deskew", "shard", "pretrain", "repair")
    assert not {"shard", "pretrain", "repair"} & set(found["one more movie"].stages)


def test_what_was_not_measured_is_named(run: Path) -> None:
    for movie in "ab":
        bench(run, f"track/{movie}", 1, "-", "-", "-", "-")
    found = {each.change: each.cost for each in spent(run).forecasts}
    assert found["another setting of tracking"].text == "at least 1 min 0 s"
    assert found["one more movie"].unknown == ("track",)
    stages = {row[0]: row[1:] for row in spent(run).stages}
    assert stages["track"] == ["2", "–", "–", "–", "–", "–"]
