"""Parts of a movie: which frames they have, what they know of each other, what is left in the end."""

from __future__ import annotations

from pathlib import Path

import pytest

from spatialdino_core.errors import BadInputError
from spatialdino_core.movies.ledger import Entry, FrameLedger
from spatialdino_core.movies.part import WHOLE, Part, beside, collected
from spatialdino_core.movies.store import FrameStore, StoreLayout

LAYOUT = StoreLayout(
    shape_czyx=(1, 4, 4, 4), dtype="uint16", voxel_um=(0.1, 0.1, 0.1), interval_s=1.0, channels=("488nm",)
)


def entry(frame: int, key: str = "new") -> Entry:
    return Entry(frame=frame, key=key, stamp="s", output=f"{key} {frame}")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ledger" / "deskew.jsonl"


def keys(ledger: FrameLedger) -> dict[int, str]:
    return {frame: entry.key for frame, entry in sorted(ledger.entries.items())}


def test_parts_share_out_all_frames() -> None:
    parts = [Part.parse(text) for text in ("0-0", "0-3", "3-6", "6-7")]
    assert [part.of(range(7)) for part in parts] == [[], [0, 1, 2], [3, 4, 5], [6]]
    assert WHOLE.of(range(7)) == list(range(7))
    assert Part.parse("all") == WHOLE
    assert [part.prepares for part in (*parts, WHOLE)] == [True, False, False, False, True]
    assert [part.completes for part in (*parts, WHOLE)] == [False, False, False, False, True]


def test_parts_write_ledgers_of_their_own_and_know_the_common_one(path: Path) -> None:
    FrameLedger(path).add(entry(0, "old"))
    FrameLedger(path).add(entry(3, "old"))
    before = path.read_text()
    first, second = (collected(Part(*part).ledger(path)) for part in ((0, 2), (2, 4)))
    first.add(entry(0))
    second.add(entry(2))
    assert keys(first) == {0: "new", 3: "old"}
    assert keys(second) == {0: "old", 2: "new", 3: "old"}
    assert path.read_text() == before
    # One that is tried again leaves what the other has written so far.
    assert keys(collected(Part(2, 4).ledger(path))) == {0: "old", 2: "new", 3: "old"}
    assert keys(Part(0, 2).ledger(path)) == {0: "new", 3: "old"}
    assert keys(collected(WHOLE.ledger(path))) == {0: "new", 2: "new", 3: "old"}
    assert [p.name for p in path.parent.iterdir()] == ["deskew.jsonl"]
    assert keys(FrameLedger(path)) == {0: "new", 2: "new", 3: "old"}


def test_processes_of_a_part_have_written_after_it(path: Path) -> None:
    part = Part(0, 2).ledger(path)
    part.add(entry(1, "old"))
    beside(part, "-0").add(entry(0))
    beside(part, "-1").add(entry(1))
    assert keys(collected(WHOLE.ledger(path))) == {0: "new", 1: "new"}


def test_a_line_torn_by_a_kill_is_a_frame_that_is_not_finished(path: Path) -> None:
    part = Part(0, 2).ledger(path)
    part.add(entry(0))
    part.add(entry(1))
    part.path.write_text(part.path.read_text()[:-20])
    assert keys(collected(WHOLE.ledger(path))) == {0: "new"}


def test_a_part_with_frames_neither_creates_nor_changes_a_store(tmp_path: Path) -> None:
    path = tmp_path / "a.ome.zarr"
    with pytest.raises(BadInputError, match=r"no store for 3 frames.*part 0-2.*0-0\.json"):
        FrameStore.prepare(path, LAYOUT, 3, {}, Part(0, 2))
    assert not path.exists()
    FrameStore.prepare(path, LAYOUT, 3, {"commit": "a"}, Part(0, 0))
    FrameStore.prepare(path, LAYOUT, 3, {"commit": "b"}, Part(0, 2))
    assert FrameStore(path).about["commit"] == "a"
    with pytest.raises(BadInputError, match="no store for 4 frames"):
        FrameStore.prepare(path, LAYOUT, 4, {}, Part(0, 2))
    assert FrameStore(path).shape[0] == 3
