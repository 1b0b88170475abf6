"""The sample sheet: what is accepted, and what every refusal says."""

from __future__ import annotations

from pathlib import Path

import pytest

from spatialdino_core.errors import BadInputError
from spatialdino_core.movies.raw_files import fingerprint
from spatialdino_core.movies.sheet import read_sheet

HEADER = ["movie", "channel", "path", "scan", "angle_deg", "step_um", "pixel_um", "interval_s"]
HEADER += ["skew_axis", "scan_sign", "train"]
MORE = [*HEADER, "flip", "dark", "flat", "registration", "roi_um"]


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


def test_calibrations_and_region_arrive_typed(tmp_path: Path) -> None:
    cells = dict(flip="xy", dark="99.5", flat="cal/flat.tif", registration="/abs/to_488.json")
    row = read_sheet(sheet(tmp_path, cells | dict(roi_um="0:5.5, 10:20,-1:1e2"), header=MORE))["a"][0]
    assert (row.flip, row.dark, row.flat) == ("xy", 99.5, str(tmp_path / "cal/flat.tif"))
    assert row.registration == "/abs/to_488.json"
    assert row.roi_um == ((0.0, 5.5), (10.0, 20.0), (-1.0, 100.0))
    assert row.calibrations() == {"flat": row.flat, "registration": row.registration}
    dark = read_sheet(sheet(tmp_path, dict(dark="dark [1].tif"), header=MORE))["a"][0]
    assert dark.dark == str(tmp_path / "dark [1].tif")


def test_blank_calibrations_and_scan_mean_none(tmp_path: Path) -> None:
    row = read_sheet(sheet(tmp_path, dict(scan=""), header=MORE))["a"][0]
    assert (row.scan, row.flip, row.dark, row.flat, row.registration, row.roi_um) == (None,) * 6
    header = [name for name in HEADER if name != "scan"]
    assert read_sheet(sheet(tmp_path, {}, header=header))["a"][0].scan is None


def test_channels_may_have_calibrations_of_their_own_but_share_the_region(tmp_path: Path) -> None:
    own = dict(channel="560nm", flip="x", dark="90", flat="f.tif", registration="r.json")
    assert len(read_sheet(sheet(tmp_path, {}, own, header=MORE))["a"]) == 2
    with pytest.raises(BadInputError, match=r"differ in \['roi_um'\]"):
        read_sheet(sheet(tmp_path, {}, dict(channel="560nm", roi_um="0:1,0:1,0:1"), header=MORE))


@pytest.mark.parametrize(
    ("cells", "words"),
    [
        (dict(flip="z"), "flip = 'z'"),
        (dict(dark="-3"), "dark = '-3'; expected dark: a number of counts"),
        (dict(dark="nan"), "dark = 'nan'"),
        (dict(roi_um="0:1,0:1"), "z0:z1,y0:y1,x0:x1 in µm"),
        (dict(roi_um="0:1,5:2,0:1"), "each from low to high"),
        (dict(roi_um="0:1,0:1,0:x"), "roi_um = '0:1,0:1,0:x'"),
        (dict(roi_um="0:1,0:1,0:inf"), "each from low to high"),
    ],
)
def test_bad_calibrations_and_regions(tmp_path: Path, cells: dict[str, str], words: str) -> None:
    with pytest.raises(BadInputError) as caught:
        read_sheet(sheet(tmp_path, cells, header=MORE))
    assert words in str(caught.value)


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
    with pytest.raises(BadInputError, match=r"missing columns \['path'\], unknown columns \['scam'\]"):
        read_sheet(sheet(tmp_path, {}, header=["movie", "channel", "scam"]))


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


def test_the_fingerprint_follows_settings_and_calibrations(tmp_path: Path) -> None:
    cells = dict(dark="dark.tif", flat="flat.tif", registration="r.json", path="cell1_*.tif")
    rows = read_sheet(sheet(tmp_path, cells, header=MORE))["a"]
    (tmp_path / "cell1_t0.tif").write_bytes(b"1")
    seen = [str(fingerprint(rows))]
    for name in ("dark.tif", "flat.tif", "r.json", "cell1_Settings.txt"):
        (tmp_path / name).write_bytes(b"1")
        seen.append(str(fingerprint(rows)))
        (tmp_path / name).write_bytes(b"22")
        seen.append(str(fingerprint(rows)))
    assert len(set(seen)) == 9
    # The settings of another movie do not count.
    (tmp_path / "cell2_Settings.txt").write_bytes(b"1")
    assert str(fingerprint(rows)) == seen[-1]


def test_a_sheet_in_a_folder_with_brackets_finds_its_files(tmp_path: Path) -> None:
    folder = tmp_path / "day [1]"
    folder.mkdir()
    (folder / "a_0.tif").touch()
    assert read_sheet(sheet(folder, {}))["a"][0].files() == [folder / "a_0.tif"]
