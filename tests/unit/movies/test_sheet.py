"""The sample sheet: what is accepted, and what every refusal says."""

from __future__ import annotations

from pathlib import Path

import pytest

from spatialdino_core.errors import BadInputError
from spatialdino_core.movies.sheet import fingerprint, read_sheet

HEADER = ["movie", "channel", "path", "scan", "angle_deg", "step_um", "pixel_um", "interval_s"]
HEADER += ["skew_axis", "scan_sign", "train"]


def sheet(folder: Path, *rows: dict[str, str], header: list[str] = HEADER) -> Path:
    usual = dict(movie="a", channel="488nm", path="a_*.tif", scan="stage", angle_deg="31.5", step_um="0.4")
    usual |= dict(pixel_um="0.104", interval_s="2", skew_axis="x", scan_sign="+1", train="yes")
    lines = ["\t".join(header)] + ["\t".join((usual | row).get(name, "") for name in header) for row in rows]
    path = folder / "movies.tsv"
    path.write_text("\n".join(lines) + "\n")
    return path


def test_values_arrive_typed_and_paths_are_relative_to_the_sheet(tmp_path: Path) -> None:
    row = read_sheet(sheet(tmp_path, {}))["a"][0]
    assert (row.angle_deg, row.step_um, row.scan_sign, row.train) == (31.5, 0.4, 1, True)
    assert row.path == str(tmp_path / "a_*.tif")


def test_blank_cells_and_a_missing_train_column_mean_unknown_and_no(tmp_path: Path) -> None:
    header = HEADER[:-1]
    row = read_sheet(sheet(tmp_path, dict(angle_deg="", interval_s=""), header=header))["a"][0]
    assert row.angle_deg is None
    assert row.interval_s is None
    assert row.train is False


def test_two_channels_are_one_movie(tmp_path: Path) -> None:
    rows = read_sheet(sheet(tmp_path, {}, dict(channel="560nm")))
    assert [row.channel for row in rows["a"]] == ["488nm", "560nm"]


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([dict(angle_deg="90")], ["line 2", "angle_deg = '90'", "less than 90"]),
        ([dict(angle_deg="0")], ["line 2", "angle_deg = '0'", "greater than 0"]),
        ([dict(step_um="-1")], ["step_um = '-1'", "greater than 0"]),
        ([dict(scan="sideways")], ["scan = 'sideways'", "'stage'"]),
        ([dict(movie="a b")], ["movie = 'a b'"]),
        ([dict(train="perhaps")], ["train = 'perhaps'", "'yes' or 'no'"]),
        ([dict(path="")], ["path = None"]),
        ([{}, {}], ["line 3", "movie 'a', channel '488nm' a second time"]),
        ([{}, dict(channel="560nm", angle_deg="30")], ["line 3", "differ in ['angle_deg']"]),
        ([], ["the sheet is empty"]),
    ],
)
def test_bad_rows_are_refused_with_line_value_and_what_is_allowed(
    tmp_path: Path, rows: list[dict[str, str]], words: list[str]
) -> None:
    with pytest.raises(BadInputError) as caught:
        read_sheet(sheet(tmp_path, *rows))
    for word in words:
        assert word in str(caught.value)


def test_unknown_and_missing_columns_are_named(tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match=r"missing columns \['scan'\], unknown columns \['scam'\]"):
        read_sheet(sheet(tmp_path, {}, header=["movie", "channel", "path", "scam"]))


def test_a_row_with_too_few_cells_is_refused(tmp_path: Path) -> None:
    path = sheet(tmp_path, {})
    path.write_text(path.read_text().rstrip("\n").rsplit("\t", 1)[0] + "\n")
    with pytest.raises(BadInputError, match="10 cells; expected 11"):
        read_sheet(path)


def test_a_missing_sheet_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match="no such file"):
        read_sheet(tmp_path / "none.tsv")


def test_the_fingerprint_follows_every_file(tmp_path: Path) -> None:
    rows = read_sheet(sheet(tmp_path, {}))["a"]
    assert fingerprint(rows) == []
    (tmp_path / "a_0.tif").write_bytes(b"1")
    one = fingerprint(rows)
    (tmp_path / "a_1.tif").write_bytes(b"1")
    two = fingerprint(rows)
    (tmp_path / "a_1.tif").write_bytes(b"22")
    assert len({str(one), str(two), str(fingerprint(rows))}) == 3
