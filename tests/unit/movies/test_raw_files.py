"""What a plan knows of raw files: any change of them, and never a failure, whatever is wrong."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import raw
import tifffile

from spatialdino_core.errors import BadInputError
from spatialdino_core.movies.parameters import ReadingParameters
from spatialdino_core.movies.raw_files import check_files, fingerprint, nearest, places, state
from spatialdino_core.movies.register import register_movie
from spatialdino_core.movies.sheet import SheetRow, read_sheet
from tests.unit.movies.test_sheet import MORE, sheet


def row(path: Path | str, **more: str) -> SheetRow:
    return SheetRow(movie="m", channel="488nm", path=str(path), train="no", **more)  # type: ignore[arg-type]


def fingerprint_of(path: Path | str) -> list[tuple[str, int, int]]:
    return fingerprint([row(path)])


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


def test_ways_to_the_same_files_are_no_other_movie(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    raw_folder = tmp_path / "data" / "raw" / "cell"
    raw_folder.mkdir(parents=True)
    for name in ("a_t0.tif", "a_t1.tif"):
        (raw_folder / name).write_bytes(b"1")
    (tmp_path / "link").symlink_to("data")
    monkeypatch.chdir(tmp_path / "data")
    ways = ["raw/cell/*.tif", "./raw//cell/*.tif", "raw/cell", "raw/cell/a_t*.tif", "raw/*/a_*.tif"]
    ways += ["../link/raw/cell/", f"{raw_folder}/*.tif", f"{tmp_path}/link/raw/cell/*.tif"]
    assert len({str(state([row(way)])) for way in ways}) == 1
    assert {str(places([row(way)])) for way in ways} == {"['raw/cell']"}
    assert {nearest(file) for way in ways for file in row(way).files() if file.is_file()} == {
        "raw/cell/a_t0.tif",
        "raw/cell/a_t1.tif",
    }
    monkeypatch.chdir(raw_folder)
    assert state([row("*.tif")]) == state([row(raw_folder)])
    assert places([row("*.tif")]) == places([row(raw_folder)]) == [""]
    monkeypatch.chdir(tmp_path / "data")
    moved = shutil.move(raw_folder, tmp_path / "cell")
    assert state([row("../cell/*.tif")]) == state([row(moved)])
    assert places([row("../cell")]) == places([row(moved / "*.tif")]) == [str(moved)]


def test_another_file_name_or_cell_is_another_state(tmp_path: Path) -> None:
    folder = tmp_path / "488nm"
    folder.mkdir()
    for name in ("a_t0.tif", "a_t1.tif", "b.ome.tif", "b_1.ome.tif", "dark.tif"):
        (folder / name).write_bytes(b"1")
    (folder / "a.zarr").mkdir()
    (folder / "a.zarr" / "chunk").touch()
    own = row(folder / "a_t*.tif")
    rows = [[own], [own, own], [own.model_copy(update={"interval_s": 2.0})], [row(folder / "a_t0.tif")]]
    rows += [[own, row(folder / "a_*.tif")], [row(folder)], [row(folder / "*")], [row(folder / "a.zarr")]]
    rows += [[row(folder / "b.ome.tif")], [row(folder / "b*.ome.tif")], [row(folder / "a.zarr" / "chunk")]]
    rows += [[row(folder / "a_t*.tif", dark=str(folder / "dark.tif"))], [row("none")], [row("nothing")]]
    seen = [str(state(movie)) for movie in rows]
    assert len(set(seen)) == len(rows)
    assert state([own.model_copy(update={"train": True})]) == state([own])

    def change(harm: Callable[[], object], of: list[SheetRow]) -> None:
        before = state(of)
        harm()
        assert state(of) != before

    change(lambda: (folder / "a_t1.tif").rename(folder / "a_t2.tif"), [own])
    change(lambda: os.utime(folder / "a_t0.tif", (0, 0)), [own])
    change(lambda: (folder / "dark.tif").write_bytes(b"22"), rows[11])
    change(lambda: (folder / "a.zarr" / "chunk").write_bytes(b"22"), [row(folder)])
    renamed = folder.rename(tmp_path / "560nm")  # readers look for channels there
    assert str(state([row(renamed / "b.ome.tif")])) not in seen


def test_a_set_is_all_of_its_files(tmp_path: Path) -> None:
    for name in ("s.ome.tif", "s_1.ome.tif", "s1.ome.tif", "t.ome.tif", "s.companion.ome", "s_note.txt"):
        (tmp_path / name).write_bytes(b"1")

    def names(path: str) -> set[str]:
        return {Path(file).name for file, _, _ in fingerprint_of(tmp_path / path)}

    assert names("s.ome.tif") == {"s.ome.tif", "s_1.ome.tif", "s_note.txt", "s.companion.ome"}
    assert names("s.companion.ome") >= {"s.companion.ome", "s.ome.tif", "s1.ome.tif", "s_1.ome.tif"}
    assert "t.ome.tif" not in names("s.companion.ome")
    assert names("s_*.ome.tif") == {"s_1.ome.tif", "s.companion.ome"}
    assert names("s*.ome.tif") == {"s.ome.tif", "s1.ome.tif", "s_1.ome.tif", "s.companion.ome"}
    assert names("t*.ome.tif") == {"t.ome.tif"}


@pytest.mark.parametrize(("store", "below"), [("a.zarr", True), ("marked", True), ("plain", False)])
def test_a_folder_is_what_is_directly_in_it_and_a_store_is_all(
    tmp_path: Path, store: str, below: bool
) -> None:
    (tmp_path / store / "0" / "c").mkdir(parents=True)
    (tmp_path / store / ("zarr.json" if store == "marked" else "file")).touch()
    (tmp_path / store / "0" / "c" / "1").touch()
    (tmp_path / store / "0" / "loop").symlink_to("..")
    names = [Path(file).name for file, _, _ in fingerprint_of(tmp_path / store)]
    assert len(names) == (2 if below else 1)
    before = fingerprint_of(tmp_path / store)
    (tmp_path / store / "0" / "c" / "1").write_bytes(b"1")
    assert (fingerprint_of(tmp_path / store) != before) == below


def forbid(path: Path) -> None:
    path.chmod(0)


def dangle(path: Path) -> None:
    shutil.rmtree(path, ignore_errors=True)
    path.unlink(missing_ok=True)
    path.symlink_to("nowhere")


def go_round(path: Path) -> None:
    dangle(path)
    path.unlink()
    path.symlink_to(path.name)


FAULTS = [
    ("raw/a_t0.tif", dangle, "is a link to nowhere, where nothing is"),
    ("raw/a_t0.tif", go_round, "is a link to a_t0.tif, where nothing is"),
    ("raw", dangle, "no file that matches"),
    ("raw/a_t0.tif", Path.unlink, "no file that matches"),
    ("raw", shutil.rmtree, "no file that matches"),
]
FORBIDDEN = [("raw/a_t0.tif", forbid, "'Permission denied' for"), ("raw", forbid, "'Permission denied' for")]


def test_whatever_is_wrong_with_a_file_is_a_state_and_a_message(tmp_path: Path) -> None:
    for number, (name, harm, words) in enumerate(FAULTS):
        try_fault(tmp_path / str(number), name, harm, words)


def test_a_file_that_may_not_be_read_is_a_state_and_a_message(tmp_path: Path) -> None:
    """In a process of its own where the tests are run as root, who may read everything."""
    tmp_path.chmod(0o777)
    for parent in tmp_path.parents[:3]:
        parent.chmod(parent.stat().st_mode | 0o111)
    child = os.fork()
    if child == 0:
        status = 1
        try:
            if os.geteuid() == 0:
                os.setuid(65534)
            for number, (name, harm, words) in enumerate(FORBIDDEN):
                try_fault(tmp_path / str(number), name, harm, words)
            status = 0
        finally:
            os._exit(status)
    assert os.waitpid(child, 0)[1] == 0


def try_fault(folder: Path, name: str, harm: Callable[[Path], object], words: str) -> None:
    """A movie of one file changes state, is refused for the right reason, and is as before once mended."""
    path = folder / "raw" / "a_t0.tif"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"1")
    for pattern in (path, path.with_name("a_t*.tif")):
        sound = [state([row(pattern)]), places([row(pattern)])]
        check_files([row(pattern)])
        with_fault = folder / name
        kept = with_fault.with_name("kept")
        with_fault.rename(kept)
        shutil.copytree(kept, with_fault) if kept.is_dir() else shutil.copy2(kept, with_fault)
        harm(with_fault)
        assert [state([row(pattern)]), places([row(pattern)])] != sound
        with pytest.raises(BadInputError, match=words) as caught:
            check_files([row(pattern)])
        assert register_movie([row(pattern)], ReadingParameters(), "fail")[0].problem == str(caught.value)
        if with_fault.is_symlink() or with_fault.is_file():
            with_fault.unlink()
        elif with_fault.exists():
            with_fault.chmod(0o700)
            shutil.rmtree(with_fault)
        kept.rename(with_fault)
        assert [state([row(pattern)]), places([row(pattern)])] == sound


def test_one_bad_file_of_many_is_the_business_of_its_frame(tmp_path: Path) -> None:
    (tmp_path / "a_t0.tif").symlink_to("nowhere")
    (tmp_path / "a_t1.tif").write_bytes(b"1")
    check_files([row(tmp_path / "a_t*.tif")])
    assert [size for _, size, _ in fingerprint_of(tmp_path / "a_t*.tif")] == [-1, 1]


def test_names_that_no_file_can_have(tmp_path: Path) -> None:
    for name in ("a" * 300 + ".tif", "a" * 300 + "*.tif", "a" * 300 + "/x.tif", "x/" * 3000 + "y"):
        assert fingerprint_of(tmp_path / name) == []
        with pytest.raises(BadInputError, match=r"File name too long|no file that matches"):
            check_files([row(tmp_path / name)])
    assert fingerprint([row(tmp_path / "a.tif", dark=str(tmp_path / ("d" * 300)))])[0][1] == -1


def test_whatever_a_reader_raises_is_the_problem_of_its_movie(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a.tif").write_bytes(b"1")
    for error in (
        MemoryError("4 PiB"),
        RecursionError("deep"),
        ZeroDivisionError("by zero"),
        OSError(5, "I/O"),
    ):

        def fail(*_: object, raised: Exception = error) -> None:
            raise raised

        monkeypatch.setattr("spatialdino_core.movies.register.resolve", fail)
        problem = register_movie([row(tmp_path / "a.tif")], ReadingParameters(), "fail")[0].problem
        assert problem is not None
        assert f"({type(error).__name__}: {error})" in problem
        assert "movie 'm'" in problem
        assert "Traceback" in capfd.readouterr().err


def test_brackets_that_match_in_two_ways_are_refused(tmp_path: Path) -> None:
    for name in ("cell1_t0.tif", "cell[1]_t0.tif"):
        (tmp_path / name).touch()
    own = row(tmp_path / "cell[1]_t*.tif")
    with pytest.raises(BadInputError, match=re.escape("Write cell[[]1]_t*.tif for names with brackets")):
        check_files([own])
    meant = own.model_copy(update={"path": str(tmp_path / "cell[[]1]_t*.tif")})
    check_files([meant])
    assert [path.name for path in meant.files()] == ["cell[1]_t0.tif"]


def test_two_stars_stand_for_any_number_of_folders(tmp_path: Path) -> None:
    for name in ("a.tif", "one/a.tif", "one/two/a.tif"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert len(row(tmp_path / "**" / "*.tif").files()) == 3


@pytest.mark.parametrize(
    ("path", "found"),
    [
        (r"raw\c_t*.tif", "write / in place of "),
        (r"D:\raw\c_t*.tif", "where a drive or server of Windows is found here"),
        (r"\\server\share\c_t*.tif", "where a drive or server of Windows is found here"),
        ("D:/raw/c_t*.tif", "where a drive or server of Windows is found here"),
        ("~/raw/c_t*.tif", "~ is no home folder here"),
        ("https://a.org/c_t*.tif", "in place of the address"),
        ("raw/other_*.tif", "nothing like other_*.tif in it)"),
    ],
)
def test_paths_of_other_systems_are_named(tmp_path: Path, path: str, found: str) -> None:
    (tmp_path / "raw").mkdir()
    for t in range(2):
        tifffile.imwrite(tmp_path / "raw" / f"c_t{t}.tif", np.ones((3, 4, 5), np.uint16))
    assert found in raw.problem([raw.sheet_row(tmp_path / path)])
    if path.startswith("raw\\"):
        assert raw.problem([raw.sheet_row(tmp_path / path.replace("\\", "/"))]) == "none"
