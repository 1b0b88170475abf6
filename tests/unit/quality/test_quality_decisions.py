"""Decisions as humans write them, short rows and spreadsheets included: heard, and never overwritten."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spatialdino_core.errors import BadInputError
from spatialdino_core.quality.decisions import (
    add_new_movies,
    human_decisions,
    read_decisions,
    read_table,
    standings,
    write_table,
)

METRICS = [
    {"movie": "a", "verdict": "accept", "reason": "", "judged": "1"},
    {"movie": "b", "verdict": "reject", "reason": "488nm: SNR 2 is below 5", "judged": "2"},
    {"movie": "c", "verdict": "problem", "reason": "a.tif is truncated", "judged": "3"},
]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_table(tmp_path / "metrics.tsv", ["movie", "verdict", "reason", "judged"], METRICS)
    return tmp_path


def decide(folder: Path, text: str) -> None:
    (folder / "decisions.tsv").write_text(text, encoding="utf-8")


def test_without_decisions_the_automatic_verdict_holds(folder: Path) -> None:
    found = standings(folder)
    assert {movie: s.verdict for movie, s in found.items()} == {
        "a": "accept",
        "b": "reject",
        "c": "problem",
    }
    assert found["b"].reason == "488nm: SNR 2 is below 5"
    assert found["b"].decided_by == "automatic"


def test_a_human_wins_with_who_when_and_why(folder: Path) -> None:
    decide(folder, "movie\tdecision\twho\twhen\twhy\na\treject\tKim\t2026-05-01\tblurred\nb\taccept\t\t\t\n")
    a, b, _ = standings(folder).values()
    assert (a.verdict, a.decided_by, a.decided_when, a.reason) == ("reject", "Kim", "2026-05-01", "blurred")
    assert (b.verdict, b.decided_by, b.decided_when, b.reason) == (
        "accept",
        "decisions.tsv",
        "",
        "no reason given",
    )


def test_a_problem_can_be_rejected_but_not_accepted(folder: Path) -> None:
    decide(folder, "movie\tdecision\nc\taccept\n")
    assert standings(folder)["c"].verdict == "problem"
    decide(folder, "movie\tdecision\twho\nc\treject\tKim\n")
    found = standings(folder)["c"]
    assert (found.verdict, found.reason, found.decided_by) == ("reject", "a.tif is truncated", "Kim")
    decide(folder, "movie\tdecision\twho\twhen\twhy\nc\treject\tKim\t\tgive up\n")
    assert standings(folder)["c"].reason == "give up"


@pytest.mark.parametrize(
    "text",
    [
        "movie\tdecision\na\treject\n",
        "movie\tdecision\twho\twhen\twhy\na\treject\n",
        "\ufeffmovie\tdecision\r\na\tReject \r\n\r\n",
        'movie\tdecision\twho\twhen\twhy\n"a"\t"reject"\t"Kim, Lee"\t\t"says ""no"""\n',
        "decision\tmovie\tmy notes\nreject\ta\tanything\n",
        "movie\tdecision\na\taccept\nb\tauto\na\treject",
    ],
    ids=["two columns", "short row", "byte order mark", "spreadsheet", "other columns", "the last row holds"],
)
def test_files_as_people_write_them(folder: Path, text: str) -> None:
    decide(folder, text)
    assert standings(folder)["a"].verdict == "reject"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("movie\tdecision\na\tmaybe\n", ["line 2", "maybe", "auto, accept, reject"]),
        ("movie\tdecision\nb\tauto\n\treject\n", ["line 3"]),
        ("movie,decision\na,reject\n", ["header", "tab-separated"]),
        ("", ["header"]),
        ("movie\tdecision\na\treject\tKim\n", ["line 2", "Kim"]),
        ('movie\tdecision\twhy\na\treject\t"never ends\nb\treject\tx\n', ["cannot be read"]),
    ],
    ids=["a new word", "no movie", "commas", "empty", "too many cells", "open quote"],
)
def test_what_cannot_be_understood_is_refused_with_its_line(
    folder: Path, text: str, words: list[str]
) -> None:
    decide(folder, text)
    with pytest.raises(BadInputError) as error:
        standings(folder)
    for word in ["decisions.tsv", *words]:
        assert word in str(error.value)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "cp1252"])
def test_decisions_as_spreadsheets_save_them_are_heard_and_go_on_in_their_encoding(
    folder: Path, encoding: str
) -> None:
    path = folder / "decisions.tsv"
    path.write_bytes("movie\tdecision\twho\r\na\treject\tJürgen\r\n".encode(encoding))
    assert standings(folder)["a"].decided_by == "Jürgen"
    add_new_movies(path, ["a", "b"])
    rows = read_decisions(path)
    assert [(row["movie"], row["decision"], row["who"]) for row in rows] == [
        ("a", "reject", "Jürgen"),
        ("b", "auto", ""),
    ]
    assert path.read_bytes().decode(encoding).endswith("b\tauto\t\n")


@pytest.mark.parametrize("table", [b"PK\x03\x04 a workbook", b"\xff\xfea"])
def test_a_table_that_is_no_text_is_refused(folder: Path, table: bytes) -> None:
    (folder / "decisions.tsv").write_bytes(table)
    with pytest.raises(BadInputError, match="tab-separated text"):
        standings(folder)


@pytest.mark.parametrize("table", [b"movie\tverdict\n", b"movie\tverdict\na\taccept\n", b"mov\xffie\n\n"])
def test_damaged_measures_are_to_be_made_again(folder: Path, table: bytes) -> None:
    (folder / "metrics.tsv").write_bytes(table + b"x\ty\n")
    with pytest.raises(BadInputError, match="Delete it"):
        standings(folder)


def test_new_movies_are_appended_and_nothing_else_is_touched(tmp_path: Path) -> None:
    path = tmp_path / "decisions.tsv"
    add_new_movies(path, ["a", "b"])
    assert path.read_text() == "movie\tdecision\twho\twhen\twhy\na\tauto\t\t\t\nb\tauto\t\t\t\n"
    edited = "movie\tdecision\twho\twhen\twhy\r\nb\tREJECT\tKim\t1 May\t it's  odd \r\na\tauto\t\t\t"
    path.write_bytes(edited.encode())
    add_new_movies(path, ["a", "b", "c"])
    assert path.read_bytes() == edited.encode() + b"\nc\tauto\t\t\t\n"
    before = path.stat().st_mtime_ns
    add_new_movies(path, ["c", "a"])
    assert path.stat().st_mtime_ns == before


def test_rows_follow_the_header_of_the_users_file(tmp_path: Path) -> None:
    path = tmp_path / "decisions.tsv"
    path.write_text("decision\tnotes\tmovie\nreject\tx\ta\n")
    add_new_movies(path, ["a", "b"])
    assert path.read_text() == "decision\tnotes\tmovie\nreject\tx\ta\nauto\t\tb\n"
    assert [row["movie"] for row in read_decisions(path)] == ["a", "b"]


def test_a_link_to_a_shared_file_stays_a_link(tmp_path: Path) -> None:
    shared = tmp_path / "shared.tsv"
    shared.write_text("movie\tdecision\na\treject\n")
    (tmp_path / "decisions.tsv").symlink_to(shared)
    add_new_movies(tmp_path / "decisions.tsv", ["b"])
    assert (tmp_path / "decisions.tsv").is_symlink()
    assert shared.read_text() == "movie\tdecision\na\treject\nb\tauto\n"


def test_the_digest_follows_humans_alone(tmp_path: Path) -> None:
    path = tmp_path / "decisions.tsv"
    nothing = human_decisions(path)
    add_new_movies(path, ["a", "b"])
    assert human_decisions(path) == nothing
    path.write_text(path.read_text().replace("b\tauto", "b\treject"))
    rejected = human_decisions(path)
    assert rejected != nothing
    add_new_movies(path, ["c"])
    assert human_decisions(path) == rejected
    path.write_text(path.read_text().replace("b\treject\t\t\t", "b\treject\tKim\t\t"))
    assert human_decisions(path) != rejected


@given(
    cells=st.lists(
        st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=20), min_size=3, max_size=3
    )
)
def test_tables_come_back_as_they_were_written(
    cells: list[str], tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("table") / "t.tsv"
    row = {name: " ".join(cell.split()) for name, cell in zip("xyz", cells, strict=True)}
    write_table(path, ["first", *row], [row | {"first": 1.5}])
    assert read_table(path) == [{"first": "1.5"} | row]
