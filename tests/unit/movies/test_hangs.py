"""Files and patterns that lead readers in circles or announce more than there can be: refused, and soon."""

from __future__ import annotations

import json
import shutil
import struct
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import raw
import tifffile
import zarr
from czi_files import metadata_xml, write_czi

from spatialdino_core.movies.formats import image, settings_file, tiff_content
from spatialdino_core.movies.number_columns import UncertainOrderError
from spatialdino_core.movies.order import series_of
from spatialdino_core.time_limit import TimeIsUp, time_limit

pytestmark = pytest.mark.timeout(30)
SECONDS = 5.0
"""In which each of them is refused, on a busy machine."""


@pytest.fixture(autouse=True)
def _soon() -> Iterator[None]:
    started = time.monotonic()
    yield
    assert time.monotonic() - started < SECONDS


def linked_to(path: Path, page: int, back_to: int) -> None:
    """Let the directory of a page of a TIFF file point to that of another page as the next."""
    with tifffile.TiffFile(path) as tif:
        offsets = [tif.pages[number].offset for number in (page, back_to)]
        byteorder = tif.byteorder
    with path.open("r+b") as file:
        file.seek(offsets[0])
        (tags,) = struct.unpack(byteorder + "H", file.read(2))
        file.seek(12 * tags, 1)
        file.write(struct.pack(byteorder + "I", offsets[1]))


@pytest.mark.parametrize("back_to", [1, 120, 129])
def test_directories_in_a_circle(tmp_path: Path, back_to: int) -> None:
    """Beyond the hundredth the library goes round for ever."""
    for frame in range(2):
        data = np.full((130, 4, 5), 7, np.uint16)
        with tifffile.TiffWriter(tmp_path / f"a_t{frame}.tif") as writer:
            for plane in data:
                writer.write(plane, contiguous=False, metadata=None)
    linked_to(tmp_path / "a_t1.tif", 129, back_to)
    assert "go round in a circle" in raw.problem([raw.sheet_row(tmp_path / "a_t*.tif")])
    assert raw.registered([raw.sheet_row(tmp_path / "a_t*.tif")], "skip").skipped.keys() == {1}


def test_many_directories_are_no_circle(tmp_path: Path) -> None:
    with tifffile.TiffWriter(tmp_path / "a.tif", bigtiff=True) as writer:
        for plane in np.arange(130 * 20, dtype=np.uint16).reshape(130, 4, 5):
            writer.write(plane, contiguous=False, metadata=None)
    assert raw.registered([raw.sheet_row(tmp_path / "a.tif")]).shape_zyx == (130, 4, 5)


DIRECTORY_POSITION, METADATA_POSITION = 84, 92
PLANES = {(t, 0, z): np.full((8, 9), 100, np.uint16) for t in range(2) for z in range(3)}


def test_two_damaged_bytes_of_a_czi_file(tmp_path: Path) -> None:
    """The place of what the head points to, and the length of the first segment: the library looks for it
    from segment to segment, and meets the first again and again."""
    pytest.importorskip("czifile")
    path = tmp_path / "a.czi"
    write_czi(path, PLANES, metadata_xml())
    content = bytearray(path.read_bytes())
    struct.pack_into("<q", content, 16, -32)
    struct.pack_into("<q", content, METADATA_POSITION, 0)
    path.write_bytes(content)
    assert raw.problem([raw.sheet_row(path)]) == "none"  # the planes are there, and the sheet has the rest
    struct.pack_into("<q", content, DIRECTORY_POSITION, 0)
    path.write_bytes(content)
    assert "no directory of its images" in raw.problem([raw.sheet_row(path)])


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_czi_file_of_a_thousand_million_time_points(tmp_path: Path, axis: int) -> None:
    pytest.importorskip("czifile")
    far = tuple(10**9 if n == axis else 0 for n in range(3))
    write_czi(tmp_path / "a.czi", PLANES | {far: PLANES[0, 0, 0]}, metadata_xml())
    assert "announced" in raw.problem([raw.sheet_row(tmp_path / "a.czi", file_channel="1")])


@pytest.mark.parametrize("size", ["SizeT", "SizeZ", "SizeC", "PlaneCount"])
def test_an_ome_tiff_of_a_thousand_million_time_points(tmp_path: Path, size: str) -> None:
    path = tmp_path / "a.ome.tif"
    tifffile.imwrite(path, np.ones((2, 3, 4, 5), np.uint16), ome=True, metadata=dict(axes="TZYX"))
    with tifffile.TiffFile(path) as tif:
        xml = tif.pages.first.description
    attribute = next(
        word for word in xml.replace(">", " ").replace("/", " ").split() if word.startswith(f"{size}=")
    )
    tifffile.tiffcomment(path, xml.replace(attribute, f'{size}="1000000000"'))
    problem = raw.problem([raw.sheet_row(path, file_channel="1")])
    assert "announced" in problem or "lists 1000000000 planes" in problem


@pytest.mark.parametrize("name", ["frames", "slices"])
def test_an_imagej_stack_of_a_thousand_million_planes(tmp_path: Path, name: str) -> None:
    tifffile.imwrite(tmp_path / "a.tif", np.ones((4, 5), np.uint16), imagej=True)
    tifffile.tiffcomment(tmp_path / "a.tif", f"ImageJ=1.11a\nimages=1000000000\n{name}=1000000000\n")
    assert "announced" in raw.problem([raw.sheet_row(tmp_path / "a.tif")])


@pytest.mark.parametrize(
    "shape", [(10**9, 2, 9, 11), (2, 10**9, 9, 11), (2, 2, 10**9, 11), (2, 2, 10**6, 11)]
)
@pytest.mark.parametrize("whole", [False, True])
def test_a_store_of_a_thousand_million_time_points(
    tmp_path: Path, shape: tuple[int, ...], whole: bool
) -> None:
    """In small chunks, and in chunks that claim as much as the store."""
    array = zarr.create_array(tmp_path / "a.zarr", shape=(2, 2, 9, 11), chunks=(1, 1, 9, 11), dtype="uint16")
    array[:] = 1
    text = json.loads((tmp_path / "a.zarr" / "zarr.json").read_text())
    chunk = [1, *shape[1:]] if whole else [1, 1, 9, 11]
    text |= {"shape": list(shape), "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": chunk}}}
    (tmp_path / "a.zarr" / "zarr.json").write_text(json.dumps(text))
    problem = raw.problem([raw.sheet_row(tmp_path / "a.zarr", axes="tzyx", missing_chunks="zeros")])
    assert "announced" in problem or "not whole" in problem


@pytest.mark.parametrize(
    "text",
    [
        " " * 200_000,
        "a" + "\t" * 200_000 + "Offset",
        "Z motion :" + " " * 200_000 + "x",
        "Z motion" + " " * 200_000 + "x",
        "* " * 100_000,
        "* Camera *" * 20_000,
        "* Camera * \n" + "Model :" + " " * 200_000,
        ("Offset, Interval (um), # of Pixels for Excitation (0) :" + "1" * 50_000) * 4,
        "[" + "]" * 200_000 + "x",
        "[" * 200_000,
    ],
    ids=range(10),
)
def test_a_settings_file_that_a_pattern_takes_quadratic_time_for(tmp_path: Path, text: str) -> None:
    tifffile.imwrite(tmp_path / "a.tif", np.ones((3, 4, 5), np.uint16))
    (tmp_path / "a_Settings.txt").write_text(text, encoding="latin-1")
    assert raw.problem([raw.sheet_row(tmp_path / "a.tif")]) == "none"


def test_a_settings_file_that_is_none(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", np.ones((3, 4, 5), np.uint16))
    with (tmp_path / "a_Settings.txt").open("wb") as file:
        file.truncate(settings_file.MOST_BYTES + 1)
    assert "call it otherwise" in raw.problem([raw.sheet_row(tmp_path / "a.tif")])


def test_a_pattern_that_never_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("spatialdino_core.movies.given_pattern.PATTERN_S", 0.2)
    names = [f"{'a' * 60}{number}" for number in range(3)]
    with pytest.raises(UncertainOrderError, match=r"was still at a+0 after 0\.2 s"):
        series_of(names, r"^(?:a+)+b(\d+)")
    assert series_of(names, r"a+(\d+)").point == (0, 1, 2)


def test_a_pattern_whose_numbers_count_no_frames(tmp_path: Path) -> None:
    for number in (20240131, 170000000000):
        tifffile.imwrite(tmp_path / f"a_{number}.tif", np.ones((3, 4, 5), np.uint16))
    row = raw.sheet_row(tmp_path / "a_*.tif", time_point=r"a_(\d+)")
    assert r"in the column 'time_point': a_(?P<order>\d+)" in raw.problem([row])
    assert raw.registered([raw.sheet_row(tmp_path / "a_*.tif", time_point=r"a_(?P<order>\d+)")]).frames == 2


def test_headers_that_take_for_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever keeps a reader: the movie is refused, with the file and what to do."""
    monkeypatch.setattr(image, "OPENING_S", 0.2)
    tifffile.imwrite(tmp_path / "a.tif", np.ones((3, 4, 5), np.uint16))
    shutil.copy(tmp_path / "a.tif", tmp_path / "other.tif")
    assert raw.problem([raw.sheet_row(tmp_path / "a.tif")]) == "none"

    def endless(tif: object) -> None:
        while True:
            try:
                time.sleep(0.01)
            except Exception:
                continue

    monkeypatch.setattr(tiff_content, "planes_of", endless)
    problem = raw.problem([raw.sheet_row(tmp_path / "a.tif")])
    assert problem.startswith(f"{tmp_path / 'a.tif'}: found headers that were not read within 0 s")
    assert "Look whether the disk answers" in problem


def test_an_alarm_that_was_set_before_goes_on() -> None:
    with pytest.raises(TimeIsUp), time_limit(0.3):  # noqa: PT012
        with time_limit(0.1), pytest.raises(TimeIsUp):
            time.sleep(2)
        with time_limit(10):
            pass
        time.sleep(2)
