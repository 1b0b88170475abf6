"""What results were made of: whether they are current, and what Snakemake is told."""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path

import pytest

from spatialdino_core import made
from spatialdino_core.made import Plan, content, remember

HOUR = 3600 * 10**9  # ns


@pytest.fixture
def results(tmp_path: Path) -> Path:
    """Two jobs: a table was made of a record."""
    folder = tmp_path / "results" / "cell"
    folder.mkdir(parents=True)
    (folder / "record.json").write_text("frames")
    remember("how to record", [], [str(folder / "record.json")])
    for name in ("table.csv", "events.csv"):
        (folder / name).write_text(f"rows of {name}")
    remember("how to link", *paths(tmp_path / "results"))
    return tmp_path / "results"


def paths(results: Path) -> tuple[list[str], list[str]]:
    folder = results / "cell"
    return [str(folder / "record.json")], [str(folder / name) for name in ("table.csv", "events.csv")]


def is_current(results: Path, recipe: str = "how to link") -> bool:
    return Plan(str(results)).is_current(paths(results)[1], recipe)


def test_recipe_inputs_and_outputs_decide(results: Path) -> None:
    assert is_current(results)
    assert not is_current(results, "how to link otherwise")
    record = results / "cell" / "record.json"
    record.write_text("FRAMES")
    assert not is_current(results), "of the same size and by another hand"
    record.write_text("frames")
    assert is_current(results)
    record.unlink()
    assert not is_current(results)


@pytest.mark.parametrize("name", ["table.csv", "events.csv"])
def test_every_output_counts(results: Path, name: str) -> None:
    (results / "cell" / name).write_text("")
    assert not is_current(results)
    (results / "cell" / name).unlink()
    assert not is_current(results)


def test_a_store_that_is_gone_is_missed(results: Path) -> None:
    record, store = results / "cell" / "labels.json", results / "cell" / "labels.ome.zarr"
    record.write_text('{"stores": ["labels.ome.zarr"]}')
    store.mkdir()
    (store / "zarr.json").touch()
    remember("how to segment", [], [str(record)])
    assert Plan(str(results)).is_current([str(record)], "how to segment")
    shutil.rmtree(store)
    assert not Plan(str(results)).is_current([str(record)], "how to segment")
    # Earlier releases did not keep their names.
    memory = record.parent / ".made" / "labels.json.json"
    memory.write_text(memory.read_text().replace('"stores"', '"unknown"'))
    assert Plan(str(results)).is_current([str(record)], "how to segment")


@pytest.mark.parametrize(
    "text", ["", "[]", "{", '{"recipe": 1}', '{"recipe": "how to link", "outputs": {"a": 3}}']
)
def test_damaged_memory_is_none(results: Path, text: str) -> None:
    (results / "cell" / ".made" / "events.csv.json").write_text(text)
    assert not is_current(results)


def test_another_place_changes_nothing(results: Path) -> None:
    shutil.copytree(results, results.parent / "copy", copy_function=shutil.copy)
    shutil.rmtree(results)
    assert is_current(results.parent / "copy")
    (results.parent / "link").symlink_to(results.parent / "copy")
    assert is_current(results.parent / "link")


def test_large_tables_are_known_by_samples_and_weights_by_all(
    results: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(made, "LARGE", 3)
    size, table = 2**20, results / "cell" / "record.json"
    table.write_bytes(b"1" * size)
    remember("how to record", [], [str(table)])
    remember("how to link", *paths(results))
    assert is_current(results)
    for other in (bytes(size), b"1" * (size - 1) + b"2", b"1" * (size // 2) + b"2" + b"1" * (size // 2 - 1)):
        table.write_bytes(other)
        assert not is_current(results), "of the same size"
    table.write_bytes(b"1" * (size // 4) + b"2" + b"1" * (size // 4 * 3 - 1))
    assert is_current(results), "it was not read"
    # Earlier releases kept no samples.
    memory = table.parent / ".made" / "record.json.json"
    memory.write_text(memory.read_text().replace('"samples"', '"unknown"'))
    table.write_bytes(bytes(size))
    assert is_current(results)
    weights = results / "model.safetensors"
    weights.write_text("weights")
    remember("how to train", [], [str(weights)])
    before = content(str(weights))
    weights.write_text("WEIGHTS")
    assert content(str(weights)) not in (None, before)


def test_where_raw_files_lie_is_no_content(results: Path) -> None:
    folder = results / "cell"
    record, table = str(folder / "movie.json"), str(folder / "acquisition.tsv")

    def told(raw: str, second: str = "t1/a.tif", said: str = '"frames": 2') -> list[str | None]:
        (folder / "movie.json").write_text(f'{{"paths": ["{raw}"], "made": {{"commit": "{raw}"}}, {said}}}')
        (folder / "acquisition.tsv").write_text(
            f"frame\tfile\twhere\n0\t{raw}/t0/a.tif\t1/2\n1\t{raw}/{second}\t1/2\n\t\t\n"
        )
        return [content(record), content(table)]

    before = told("raw")
    assert None not in before
    assert told("/mnt/b") == before
    assert told("raw", "t2/a.tif")[1] != before[1]
    assert told("raw", said='"frames": 3')[0] != before[0]
    for path in (record, table):
        for text in ("", "damaged", "{", "frame\tfile\n0\t/a/b\n0\tb/a\n"):
            Path(path).write_text(text)
            assert content(path) not in (None, *before)


def test_times_are_put_in_order(results: Path) -> None:
    (record,), tables = paths(results)
    now = time.time_ns()
    for path, when in {record: now - HOUR, tables[0]: now - 2 * HOUR, tables[1]: now + HOUR}.items():
        os.utime(path, ns=(when, when))
    plan = Plan(str(results))
    plan.put_in_order(tables)
    assert os.stat(record).st_mtime_ns == os.stat(tables[0]).st_mtime_ns == now - HOUR
    assert now - HOUR < os.stat(tables[1]).st_mtime_ns < plan.now
    benchmark = results / "benchmark.tsv"
    benchmark.touch()
    os.utime(benchmark, ns=(0, 0))
    assert plan.tell(tables, str(benchmark), "how to link") == []
    assert os.stat(benchmark).st_mtime_ns >= os.stat(record).st_mtime_ns


def test_what_is_not_current_is_older_than_one_file(results: Path) -> None:
    (record,), tables = paths(results)
    os.utime(record, ns=(time.time_ns() + HOUR,) * 2)
    texts = set()
    for _ in range(2):  # Snakemake takes the same text for unchanged
        (changed,) = Plan(str(results)).tell(tables, str(results / "none.tsv"), "how to link otherwise")
        assert all(os.stat(changed).st_mtime_ns > os.stat(path).st_mtime_ns for path in [record, *tables])
        texts.add(Path(changed).read_text())
    assert len(texts) == 2


def test_a_plan_on_what_may_not_be_written_tells_what_it_can(
    results: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def forbidden(*_: object, **__: object) -> None:
        raise PermissionError

    monkeypatch.setattr(os, "utime", forbidden)
    monkeypatch.setattr(made, "write_text", forbidden)
    (record,), tables = paths(results)
    os.truncate(record, 0)
    plan = Plan(str(results))
    plan.put_in_order(tables)
    (changed,) = plan.tell(tables, str(results / "none.tsv"), "how to link")
    assert os.stat(changed).st_mtime_ns > os.stat(tables[0]).st_mtime_ns
