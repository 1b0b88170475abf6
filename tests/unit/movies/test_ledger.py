"""The frame ledger: what is computed again, after which change, and after which accident."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from spatialdino_core.errors import BadInputError
from spatialdino_core.movies.ledger import FrameFiles, FrameJob, FrameLedger, FrameResult, remembered
from spatialdino_core.movies.record import MovieRecord
from spatialdino_core.movies.stage_record import StageRecord


class Stage:
    """A stage whose results are kept in a dictionary and whose computations are counted; its own store."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.results: dict[int, str] = {}
        self.computed: list[int] = []
        self.fail_at: int | None = None
        self.read = 0

    def run(self, stamps: dict[int, str], key: str = "k", **changes: object) -> list[int]:
        """Run over all frames; return the frames that were computed."""
        self.computed = []
        settings = dict(steps={"compute": self.compute}, stores=[self]) | changes
        job = FrameJob(
            ledger=FrameLedger(self.path),
            description="test",
            key=key,
            stamps=stamps,
            **settings,  # type: ignore[arg-type]
        )
        self.entries = job.run()
        return self.computed

    def identity(self, frame: int) -> str | None:
        return self.results.get(frame)

    def is_intact(self, frame: int) -> bool:
        self.read += 1
        return self.results[frame] != "rotten"

    def compute(self, frame: int) -> FrameResult:
        if frame == self.fail_at:
            raise BadInputError(f"frame {frame}", found="zeros", expected="counts", remedy="Mend it.")
        self.computed.append(frame)
        self.results[frame] = f"r{frame}"
        return FrameResult(output=f"r{frame}", content=f"c{frame}")


STAMPS = {frame: f"s{frame}" for frame in range(5)}


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    return Stage(tmp_path / "ledger" / "test.jsonl")


def test_finished_frames_are_not_computed_again(stage: Stage) -> None:
    assert stage.run(STAMPS) == [0, 1, 2, 3, 4]
    assert stage.run(STAMPS) == []


def test_a_changed_input_costs_its_frame_and_a_changed_key_costs_all(stage: Stage) -> None:
    stage.run(STAMPS)
    assert stage.run(STAMPS | {2: "new"}) == [2]
    assert stage.run(STAMPS | {2: "new"}, key="other") == [0, 1, 2, 3, 4]


def test_a_longer_movie_costs_its_new_frames(stage: Stage) -> None:
    stage.run(STAMPS)
    assert stage.run(STAMPS | {5: "s5", 6: "s6"}) == [5, 6]


def test_a_touched_file_with_the_same_content_costs_nothing(stage: Stage) -> None:
    stage.run(STAMPS)
    touched = STAMPS | {3: "touched"}
    assert stage.run(touched, unchanged=lambda frame, entry: entry.content == f"c{frame}") == []
    assert stage.run(touched) == []


def test_a_lost_result_is_computed_again(stage: Stage) -> None:
    stage.run(STAMPS)
    del stage.results[1]
    assert stage.run(STAMPS) == [1]


def test_a_result_of_somebody_else_is_computed_again(stage: Stage) -> None:
    stage.run(STAMPS)
    stage.results[1] = "that of another run"
    assert stage.run(STAMPS) == [1]
    assert stage.run(STAMPS) == []


def test_files_beside_the_stores_are_known_by_their_content(stage: Stage, tmp_path: Path) -> None:
    files = FrameFiles(lambda frame: tmp_path / f"{frame}.table")

    def write(frame: int) -> FrameResult:
        files.path(frame).write_text(f"rows of {frame}")
        return stage.compute(frame)

    whatever = {"steps": {"compute": write}, "stores": [stage, files]}
    stage.run(STAMPS)
    # An entry that does not know of the files is content with what is there, once.
    for frame in STAMPS:
        files.path(frame).write_text(f"rows of {frame}")
    assert stage.run(STAMPS, **whatever) == []
    files.path(0).write_bytes(b"")
    files.path(1).unlink()
    files.path(2).write_text("rows of 3")
    assert stage.run(STAMPS, **whatever) == [0, 1, 2]
    assert stage.run(STAMPS, verify=True, **whatever) == []
    files.path(4).write_bytes(b"")
    assert stage.run(STAMPS) == []
    # What is not asked for is not asked about, and not forgotten either.
    assert stage.run(STAMPS, **whatever) == [4]
    record = StageRecord.of(["a.zarr"], stage.entries, {})
    assert record.stored == {frame: [f"r{frame}"] for frame in STAMPS}


def test_results_are_read_on_request(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    stage.run(STAMPS)
    stage.run(STAMPS)
    assert stage.read == 0
    assert stage.run(STAMPS, verify=True) == []
    assert stage.read == len(STAMPS)
    monkeypatch.setattr(stage, "is_intact", lambda frame: frame != 3)
    assert stage.run(STAMPS, verify=True) == [3]


def test_entries_of_earlier_releases_count(stage: Stage) -> None:
    stage.run(STAMPS)
    lines = [json.loads(line) for line in stage.path.read_text().splitlines()]
    stage.path.write_text("".join(json.dumps(e | {"stored": []}) + "\n" for e in lines))
    assert stage.run(STAMPS) == []


def test_a_failing_frame_keeps_what_was_finished(stage: Stage) -> None:
    stage.fail_at = 3
    with pytest.raises(BadInputError):
        stage.run(STAMPS)
    stage.fail_at = None
    assert stage.run(STAMPS) == [3, 4]


def test_settings_that_were_tried_in_vain_and_put_back_leave_no_mixture(stage: Stage) -> None:
    stage.run(STAMPS, key="old")
    stage.fail_at = 2  # after 0 and 1, as a kill would
    with pytest.raises(BadInputError):
        stage.run(STAMPS, key="new")
    stage.fail_at = None
    # What had been begun may have replaced the old result, what had not been begun is still the old.
    assert {0, 1, 2} <= set(stage.run(STAMPS, key="old")) < set(STAMPS)


def test_a_bad_frame_can_be_skipped_and_is_recorded(stage: Stage, tmp_path: Path) -> None:
    stage.fail_at = 3
    assert stage.run(STAMPS, skip_bad=True) == [0, 1, 2, 4]
    assert stage.run(STAMPS, skip_bad=True) == []
    record = StageRecord.of(["a.zarr"], stage.entries, {"n": 1})
    record.write(tmp_path / "record.json")
    again = StageRecord.read(tmp_path / "record.json")
    assert again == record
    assert list(again.checksums) == [0, 1, 2, 4]
    assert "found zeros" in again.skipped[3]


def test_a_line_torn_by_a_kill_costs_its_frame_only(stage: Stage) -> None:
    stage.run(STAMPS)
    text = stage.path.read_text()
    stage.path.write_text(text[: len(text) - 20])
    assert stage.run(STAMPS) == [4]
    assert stage.run(STAMPS) == []


def test_a_calibration_is_kept_until_its_key_changes(tmp_path: Path) -> None:
    calls: list[int] = []

    def compute() -> dict[str, int]:
        calls.append(1)
        return {"value": len(calls)}

    path = tmp_path / "calibration.json"
    assert [remembered(path, key, compute)["value"] for key in ("a", "a", "b", "b")] == [1, 1, 2, 2]


@pytest.mark.parametrize(
    "text",
    ["", "[]", "3", "{", "[" * 100_000, '{"stores": 3}', '{"checksums": {"x": "y"}}', "\xff", "{}", None],
)
@pytest.mark.parametrize("kind", [StageRecord, MovieRecord])
def test_damaged_records_say_so(tmp_path: Path, kind: type, text: str | None) -> None:
    path = tmp_path / "record.json"
    if text is not None:
        path.write_text(text, encoding="latin-1")
    with pytest.raises(BadInputError, match="the next run makes it again"):
        kind.read(path)  # type: ignore[attr-defined]


def test_a_damaged_calibration_is_computed_again(tmp_path: Path) -> None:
    for text in ("{", "[]", '{"key": "k"}', '{"key": "k", "value": 3}'):
        (tmp_path / "calibration.json").write_text(text)
        assert remembered(tmp_path / "calibration.json", "k", lambda: {"value": 1}) == {"value": 1}


@pytest.mark.parametrize("line", ["[]", "3", "null", '{"frame": "x", "key": "k", "stamp": "s"}', "[" * 10**5])
def test_a_damaged_line_costs_nothing_else(stage: Stage, line: str) -> None:
    stage.run(STAMPS)
    with stage.path.open("ab") as file:
        file.write(line.encode() + b"\n\xff\xfe\n")
    assert stage.run(STAMPS) == []
