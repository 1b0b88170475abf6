"""The sample sheet: what is accepted, and what every refusal says."""

from __future__ import annotations

import unicodedata
from pathlib import Path

import pytest

from spatialdino_core.errors import BadInputError
from spatialdino_core.movies.sheet import read_sheet

HEADER = ["movie", "channel", "path", "scan", "angle_deg", "step_um", "pixel_um", "interval_s"]
HEADER += ["skew_axis", "scan_sign", "train"]
MORE = [*HEADER, "flip", "dark", "flat", "registration", "roi_um"]
READING = [*HEADER, "position", "file_channel", "axes", "time_point", "missing_chunks", "bad_pixels"]


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
        ([dict(angle_deg="0")], ["line 2", "angle_deg = '0'", "equal to 2"]),
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


def test_a_sheet_in_a_folder_with_brackets_finds_its_files(tmp_path: Path) -> None:
    folder = tmp_path / "day [1]"
    folder.mkdir()
    (folder / "a_0.tif").touch()
    assert read_sheet(sheet(folder, {}))["a"][0].files() == [folder / "a_0.tif"]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-be", "cp1252", "latin-1"])
@pytest.mark.parametrize("ends", ["\n", "\r\n", "\r"])
def test_sheets_as_spreadsheets_save_them(tmp_path: Path, encoding: str, ends: str) -> None:
    path = sheet(tmp_path, dict(path="Mäuse/µ_*.tif"))
    text = path.read_text().replace("\n", ends)
    mark = b"\xfe\xff" if encoding == "utf-16-be" else b""
    path.write_bytes(mark + text.encode(encoding))
    row = read_sheet(path)["a"][0]
    assert (row.path, row.angle_deg) == (str(tmp_path / "Mäuse/µ_*.tif"), 31.5)


def test_cells_may_be_quoted_the_header_included(tmp_path: Path) -> None:
    path = tmp_path / "movies.tsv"
    lines = ['"movie"\t"channel"\t"path"\t', '"a"\t"488nm"\t"of ""5""\tand\n# one/*.tif"\t']
    lines += ["# no movie", "\t\t\t", 'b\t488nm\tplain 5" dish/*.tif']
    path.write_text("\n".join(lines))
    rows = read_sheet(path)
    assert rows["a"][0].path == str(tmp_path / 'of "5"\tand\n# one/*.tif')
    assert rows["b"][0].path == str(tmp_path / 'plain 5" dish/*.tif')


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (
            b"movie;channel;path\na;488nm;x\n",
            ["header", "separated by semicolons; expected tabs", "Tab delimited"],
        ),
        (b"movie,channel,path\na,488nm,x\n", ["separated by commas"]),
        (b"PK\x03\x04\x14\x00", ["no text, perhaps a spreadsheet's own format"]),
        (b"\xff\xfem\x00o", ["damaged text"]),
        (b'movie\tchannel\tpath\n# c\na\t488nm\t"x\nb\t488nm\ty\n', ["line 3", "unexpected end of data"]),
        (b"", ["the sheet is empty"]),
    ],
)
def test_files_that_are_no_such_table(tmp_path: Path, content: bytes, words: list[str]) -> None:
    path = tmp_path / "movies.tsv"
    path.write_bytes(content)
    with pytest.raises(BadInputError) as caught:
        read_sheet(path)
    for word in [str(path), *words]:
        assert word in str(caught.value)


def test_all_mistakes_are_told_at_once(tmp_path: Path) -> None:
    rows = [dict(angle_deg="95"), {}, dict(movie="b", step_um="0,4"), *[dict(movie="c", path="c.tif")] * 2]
    with pytest.raises(BadInputError) as caught:
        read_sheet(sheet(tmp_path, *rows))
    said = str(caught.value).splitlines()
    assert said[0].endswith("movies.tsv: found 3 lines with mistakes:")
    assert said[1] == "  line 2: found angle_deg = '95'; expected angle_deg: Input should be less than 90"
    assert said[2].endswith("line 4: found step_um = '0,4'; expected step_um: a number with a decimal point")
    assert "line 6: found movie 'c', channel '488nm' a second time" in said[3]
    with pytest.raises(BadInputError) as caught:
        read_sheet(sheet(tmp_path, *[dict(movie=f"a {n}") for n in range(300)]))
    assert "found 300 lines with mistakes" in str(caught.value)
    assert "line 11: " in str(caught.value)
    assert "line 12: " not in str(caught.value)
    assert "and 290 more" in str(caught.value)


@pytest.mark.parametrize("again", ["488nm", "488 nm", "488", "488 NM"])
def test_a_channel_is_one_however_it_is_written(tmp_path: Path, again: str) -> None:
    with pytest.raises(BadInputError, match=f"line 3.*channel '{again}' a second time"):
        read_sheet(sheet(tmp_path, {}, dict(channel=again)))
    assert [r.channel for r in read_sheet(sheet(tmp_path, {}, dict(channel="4 88-nm")))["a"]] == [
        "488nm",
        "4 88-nm",
    ]


def test_movies_are_as_long_as_file_names_may_be(tmp_path: Path) -> None:
    longest = "m" * 200
    assert list(read_sheet(sheet(tmp_path, dict(movie=longest)))) == [longest]
    # What the results add: a part of a movie, and the name of an attempt to write it.
    (tmp_path / f".{longest}.1000000-1000100.{'0' * 12}.json").touch()
    for movie in (longest + "m", "qc", "model"):
        with pytest.raises(BadInputError, match=r"expected movie: (at most 200|another name)"):
            read_sheet(sheet(tmp_path, dict(movie=movie)))


def test_how_files_are_read_arrives(tmp_path: Path) -> None:
    cells = dict(
        position="Pos 1", file_channel="2", axes="T4Z24YX", time_point=r"_(\d+)s", missing_chunks="zeros"
    )
    row = read_sheet(sheet(tmp_path, cells | dict(bad_pixels="hot.tif"), header=READING))["a"][0]
    assert (row.position, row.file_channel, row.axes) == ("Pos 1", "2", "t4z24yx")
    assert (row.time_point, row.missing_chunks) == (r"_(\d+)s", "zeros")
    assert row.calibrations() == {"bad_pixels": str(tmp_path / "hot.tif")}
    with pytest.raises(BadInputError, match=r"differ in \['position'\]"):
        read_sheet(sheet(tmp_path, {}, dict(channel="560nm", position="1"), header=READING))


@pytest.mark.parametrize(
    ("cells", "words"),
    [
        (dict(axes="t4z24"), "axes: t, c, z, y and x, each once at most, slowest first, such as t4z24yx"),
        (dict(axes="tzzyx"), "each once"),
        (dict(axes="t 4zyx"), "each once"),
        (dict(axes="t0zyx"), "axes: counts of 1 or more"),
        (dict(time_point=r"_\d+s"), "time_point: a regular expression with a group"),
        (dict(time_point="_("), "time_point: a regular expression (missing )"),
        (dict(missing_chunks="ones"), "missing_chunks: Input should be 'zeros'"),
    ],
)
def test_bad_ways_to_read_files(tmp_path: Path, cells: dict[str, str], words: str) -> None:
    with pytest.raises(BadInputError) as caught:
        read_sheet(sheet(tmp_path, cells, header=READING))
    assert words in str(caught.value)


def test_signs_that_only_windows_has_at_their_place(tmp_path: Path) -> None:
    path = sheet(tmp_path, {})
    path.write_bytes(path.read_text().replace("a_*.tif", "5 € – “a”.tif").encode("cp1252"))
    assert read_sheet(path)["a"][0].path == str(tmp_path / "5 € – “a”.tif")


@pytest.mark.parametrize("stored", ["NFC", "NFD"])
@pytest.mark.parametrize("written", ["NFC", "NFD"])
def test_accents_are_spelled_in_two_ways(tmp_path: Path, stored: str, written: str) -> None:
    """Names of files from a Mac, and a sheet that was written elsewhere."""
    (tmp_path / unicodedata.normalize(stored, "Zelle_ü_1.tif")).touch()
    sheet = tmp_path / "movies.tsv"
    sheet.write_text(f"movie\tchannel\tpath\na\t488\t{unicodedata.normalize(written, 'Zelle_ü_*.tif')}\n")
    assert len(read_sheet(sheet)["a"][0].files()) == 1


def test_a_line_copied_for_the_next_movie_is_refused(tmp_path: Path) -> None:
    again = dict(movie="b", train="yes")
    with pytest.raises(BadInputError, match="line 3: found the files of movie 'a' a second time, as 'b'"):
        read_sheet(sheet(tmp_path, {}, again))
    with pytest.raises(BadInputError, match="line 3: "):
        read_sheet(sheet(tmp_path, {}, again | dict(path="./a_*.tif")))
    two = [{}, dict(channel="560nm", path="r_*.tif"), again | dict(path="b_*.tif")]
    with pytest.raises(BadInputError, match="line 5: "):
        read_sheet(sheet(tmp_path, *two, again | dict(channel="560nm", path="r_*.tif")))
    # A part of it, another channel, or fewer channels, are other movies.
    for cells in (dict(channel="560nm"), dict(path="b_*.tif"), dict(step_um="0.5")):
        assert len(read_sheet(sheet(tmp_path, {}, again | cells))) == 2
    assert len(read_sheet(sheet(tmp_path, {}, dict(channel="560nm"), again | dict(train="no")))) == 2
