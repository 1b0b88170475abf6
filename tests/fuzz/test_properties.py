"""What must hold for any sheet, settings, names, ledger or header: a clear refusal, or the same again."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import tempfile
from collections.abc import Callable, Iterable, Sequence
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import save

from spatialdino_core.config import load_config, settings_of
from spatialdino_core.encoder.header import METADATA_KEY, read_header
from spatialdino_core.errors import BadInputError
from spatialdino_core.movies.acquisition import AcquisitionTable
from spatialdino_core.movies.formats.image import Piece
from spatialdino_core.movies.ledger import Entry, FrameLedger
from spatialdino_core.movies.number_columns import UncertainOrderError
from spatialdino_core.movies.order import series_of
from spatialdino_core.movies.sheet import OPTIONAL_COLUMNS, REQUIRED_COLUMNS, SheetRow, read_sheet

COLUMNS = (*REQUIRED_COLUMNS, *OPTIONAL_COLUMNS)
# No surrogates: text in files has none.
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
NUMBERS = st.one_of(st.integers(), st.floats(), st.sampled_from([10**400, -0.0, 1e-320])).map(repr)
WORDS = st.sampled_from(
    [
        "x",
        "y",
        "xy",
        "+1",
        "yes",
        "no",
        "stage",
        "none",
        "zeros",
        "tzyx",
        "t3z4yx",
        "t(\\d+)",
        "(a+)+",
        "0:1,0:2,0:3",
        "1:0,:,x",
    ]
)
CELLS = st.one_of(st.just(""), WORDS, NUMBERS, TEXT)
FIT = {
    "movie": st.sampled_from(["a", "b-1"]),
    "channel": st.sampled_from(["488nm", "488", "GFP 2"]),
    "path": st.sampled_from(["raw/*.tif", "a [1].tif", "**/x", "/"]) | TEXT,
}


@pytest.fixture(scope="module")
def folder() -> Iterable[Path]:
    """One for all examples, in memory where there is such a place: they write thousands of files."""
    place = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=place if place.is_dir() else None) as temporary:
        yield Path(temporary)


def tab_separated(rows: Iterable[Sequence[str]]) -> str:
    text = io.StringIO()
    csv.writer(text, delimiter="\t", lineterminator="\n").writerows(rows)
    return text.getvalue()


@st.composite
def sheets(draw: st.DrawFn) -> str:
    """Sheets with the columns that are needed and some others; most cells fit, some hold anything."""
    others = draw(st.lists(st.sampled_from(OPTIONAL_COLUMNS), unique=True, max_size=5))
    header = draw(st.permutations([*REQUIRED_COLUMNS, *others]))
    rows = draw(st.lists(st.tuples(*(FIT.get(name, CELLS) for name in header)), min_size=1, max_size=3))
    if draw(st.integers(0, 9)) == 0:
        rows = [tuple(draw(CELLS) for _ in row) for row in rows]
    return tab_separated([header, *rows])


def in_cells(row: SheetRow) -> list[str]:
    """A row as a user would write it."""
    said = row.model_dump()
    if row.roi_um is not None:
        said["roi_um"] = ",".join(f"{low!r}:{high!r}" for low, high in row.roi_um)
    said["train"] = "yes" if row.train else "no"
    return ["" if said[name] is None else str(said[name]) for name in COLUMNS]


@settings(max_examples=150)
@given(sheets())
def test_a_sheet_is_refused_or_says_the_same_when_it_is_written_again(folder: Path, text: str) -> None:
    path = folder / "movies.tsv"
    path.write_bytes(text.encode())
    try:
        movies = read_sheet(path)
    except BadInputError:
        return
    for rows in movies.values():
        for row in rows:
            row.files()
    again = tab_separated([COLUMNS, *(in_cells(row) for rows in movies.values() for row in rows)])
    path.write_bytes(again.encode())
    assert read_sheet(path) == movies


@settings(max_examples=200)
@given(st.one_of(TEXT.map(str.encode), st.binary(), TEXT.map(lambda text: text.encode("utf-16"))))
def test_anything_else_is_no_sheet(folder: Path, content: bytes) -> None:
    path = folder / "movies.tsv"
    path.write_bytes(content)
    with pytest.raises(BadInputError):
        read_sheet(path)


def keys() -> list[tuple[str, ...]]:
    """Every setting, with its section."""
    found: list[tuple[str, ...]] = []
    for name in settings_of(()):
        below = settings_of((name,))
        found += [(name, key) for key in below] if below != settings_of(()) else [(name,)]
    return found


VALUES = st.recursive(
    st.one_of(
        st.sampled_from([None, True, False, 10**400, date(2024, 1, 31)]), st.integers(), st.floats(), TEXT
    ),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT | st.integers(), inner, max_size=3),
    max_leaves=4,
)


@settings(max_examples=150)
@given(st.dictionaries(st.sampled_from(keys()), VALUES, max_size=3), VALUES)
def test_settings_are_refused_or_understood(chosen: dict[tuple[str, ...], Any], section: Any) -> None:
    content: dict[str, Any] = {"movies": "m.tsv", "results": "r"}
    for path, value in chosen.items():
        if len(path) == 1:
            content[path[0]] = value
        elif isinstance(content.setdefault(path[0], {}), dict):
            content[path[0]][path[1]] = value
    for own in (content, content | {"segment": section}):
        with contextlib.suppress(BadInputError):
            load_config(own)


@settings(max_examples=100)
@given(TEXT | st.integers() | st.none() | st.booleans(), VALUES)
def test_unknown_settings_are_refused_whatever_they_say(key: Any, value: Any) -> None:
    if key in settings_of(()):
        return
    with pytest.raises(BadInputError):
        load_config({"movies": "m.tsv", "results": "r", key: value})


PARTS = ["a", "cell", "t", "stack", "frame", "_", "-", ".", "s", "ch0", "488nm", "²", "2024"]


@st.composite
def series(draw: st.DrawFn) -> list[str]:
    """Names as programs give them, or nearly so: parts that stand still, and numbers that run."""
    number = draw(st.integers(2, 6))
    lead = "".join(draw(st.lists(st.sampled_from(PARTS), min_size=1, max_size=4)))
    runs = [
        draw(st.lists(st.integers(0, 300), min_size=number, max_size=number, unique=column == 0))
        for column in range(draw(st.integers(1, 2)))
    ]
    widths = [draw(st.sampled_from([0, 4])) for _ in runs]
    unit = draw(st.sampled_from(["", "msec", "s", "x"]))
    written = [
        "_".join(f"{run[n]:0{width}d}" for run, width in zip(runs, widths, strict=True))
        for n in range(number)
    ]
    return [f"{lead}{numbers}{unit}.tif" for numbers in dict.fromkeys(written)]


def points_of(names: Sequence[str]) -> dict[str, int] | str:
    try:
        return dict(zip(names, series_of(names).point, strict=True))
    except UncertainOrderError:
        return "uncertain"


@settings(max_examples=300)
@given(series(), st.randoms(use_true_random=False))
def test_the_order_in_time_does_not_depend_on_the_order_of_a_listing(names: list[str], random: Any) -> None:
    shuffled = random.sample(names, len(names))
    assert points_of(shuffled) == points_of(names)


@settings(max_examples=200)
@given(
    st.lists(st.integers(0, 300), min_size=2, max_size=6, unique=True),
    st.integers(1, 1500),
    st.sampled_from(["cell_t{}", "stack{:04d}", "a_488nm_frame{:03d}_x", "{:05d}", "t{}_ch0"]),
)
def test_numbers_that_begin_elsewhere_keep_the_order(numbers: list[int], shift: int, name: str) -> None:
    found = [points_of([name.format(n + by) + ".tif" for n in numbers]) for by in (0, shift)]
    ranks = [
        tuple(np.argsort(list(points.values()))) if not isinstance(points, str) else None for points in found
    ]
    assert None in ranks or ranks[0] == ranks[1] == tuple(np.argsort(numbers))


ENTRIES = st.builds(
    Entry,
    frame=st.integers(0, 5),
    key=TEXT,
    stamp=TEXT,
    output=TEXT,
    stored=st.lists(st.none() | TEXT, max_size=2),
    facts=st.dictionaries(TEXT, st.integers(), max_size=2),
)
TORN: tuple[Callable[[bytes, int, int], bytes], ...] = (
    lambda line, a, b: line[:a],
    lambda line, a, b: line[:a] + line[b:],
    lambda line, a, b: line + line[:b],
    lambda line, a, b: line[:a] + bytes([b % 256]) + line[a:],
    lambda line, a, b: b"\n" + line + b"\xff",
)


@settings(max_examples=200)
@given(
    st.lists(ENTRIES, max_size=6),
    st.lists(st.tuples(st.integers(0, 5), st.sampled_from(TORN), st.integers(0, 200), st.integers(0, 300))),
)
def test_lines_of_a_ledger_that_were_torn_are_passed_over(
    folder: Path, entries: list[Entry], tears: list[tuple[int, Any, int, int]]
) -> None:
    path = folder / "ledger.jsonl"
    path.unlink(missing_ok=True)
    ledger = FrameLedger(path)
    for entry in entries:
        ledger.add(entry)
    assert FrameLedger(path).entries == ledger.entries
    if not entries:
        return
    lines = path.read_bytes().splitlines()
    torn = set()
    for number, tear, a, b in tears:
        if number < len(lines):
            torn.add(number)
            lines[number] = tear(lines[number], a, b)
    path.write_bytes(b"\n".join(lines) + b"\n")
    found = FrameLedger(path).entries
    sound = {entry.frame: entry for n, entry in enumerate(entries) if n not in torn}
    assert sound.keys() <= found.keys()
    assert torn or found == sound


HEADERS = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), TEXT),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=6,
)
SOUND: dict[str, Any] = {
    "architecture": {"embed_dim": 8, "depth": 1, "heads": 2, "patch_voxels": 2},
    "voxel_um": [0.1, 0.1, 0.1],
    "normalisation": {"scale": "global"},
    "field_of_view_voxels": [4, 4, 4],
    "provenance": {},
    "format_version": 1,
    "channels": [],
}


@settings(max_examples=300)
@given(
    st.one_of(
        TEXT,
        HEADERS.map(json.dumps),
        st.tuples(st.sampled_from(sorted(SOUND)), HEADERS).map(
            lambda change: json.dumps({"header": SOUND | {change[0]: change[1]}, "extra": [], "blake2b": ""})
        ),
        st.tuples(st.sampled_from(["embed_dim", "depth", "heads", "positions", "x"]), HEADERS).map(
            lambda change: json.dumps(
                {
                    "header": SOUND | {"architecture": SOUND["architecture"] | {change[0]: change[1]}},
                    "extra": [],
                    "blake2b": "",
                }
            )
        ),
    )
)
def test_headers_of_weights_are_refused_or_understood(folder: Path, text: str) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(save({"encoder.x": np.zeros(1, np.float32)}, {METADATA_KEY: text}))
    try:
        header = read_header(path)
    except BadInputError:
        return
    assert header.format_version == 1


NAMES = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0/"), min_size=1, max_size=12)


@settings(max_examples=100)
@given(st.lists(st.tuples(NAMES, TEXT.filter(bool)), min_size=1, max_size=3), NAMES)
def test_an_acquisition_table_says_what_was_written(
    folder: Path, pieces: list[tuple[str, str]], channel: str
) -> None:
    stacks = {
        (frame, 0): (Piece(Path("/raw") / name, where, 3),) for frame, (name, where) in enumerate(pieces)
    }
    table = AcquisitionTable(channels=("c",), frames=len(pieces), stacks=stacks, left_out={})
    table.write(folder / "acquisition.tsv", {})
    assert AcquisitionTable.read(folder / "acquisition.tsv") == table
