"""CZI files: planes, skew, scenes, and every way they can be unfit."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import raw
from czi_files import metadata_xml, write_czi

from spatialdino_core.movies.sheet import SheetRow

DATA = np.random.default_rng(0).integers(90, 4000, (2, 2, 3, 40, 52)).astype(np.uint16)
PLANES = {(t, c, z): DATA[t, c, z] for t in range(2) for c in range(2) for z in range(3)}


def rows(path: Path, **changes: object) -> list[SheetRow]:
    return [SheetRow(movie="a", channel=c, path=str(path), **changes) for c in ("488nm", "560nm")]  # type: ignore[arg-type]


def problem(path: Path) -> str:
    return raw.problem(rows(path))


def test_without_the_extra_the_message_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "czifile", None)
    write_czi(tmp_path / "a.czi", PLANES, metadata_xml())
    assert "pip install 'spatialdino-workflow[czi]'" in problem(tmp_path / "a.czi")


@pytest.fixture
def czi(tmp_path: Path) -> Path:
    """A lattice light-sheet file as ZEN marks it: 2 time points, 2 channels, 3 planes."""
    pytest.importorskip("czifile")
    write_czi(tmp_path / "a.czi", PLANES, metadata_xml("Skew60"))
    return tmp_path / "a.czi"


def test_every_channel_and_time_point_whole_and_in_part(czi: Path) -> None:
    part = (slice(1, 3), slice(4, 30), slice(None, 9))
    for channel, frames in enumerate(raw.sources(rows(czi))):
        for frame in range(2):
            assert frames.read(frame).dtype == np.dtype("uint16")
            np.testing.assert_array_equal(frames.read(frame), DATA[frame, channel])
            np.testing.assert_array_equal(frames.read(frame, part), DATA[frame, channel][part])


def test_channels_are_found_by_name(czi: Path) -> None:
    frames = raw.sources(rows(czi)[1:])[0]
    np.testing.assert_array_equal(frames.read(0), DATA[0, 1])


def test_a_skewed_stack_brings_its_whole_geometry(czi: Path) -> None:
    """60° to the vertical is 30° to the cover glass, and z is the step of the stage (ZEISS, warpaffine)."""
    record = raw.registered(rows(czi), "fail")
    assert record.problem is None
    acquisition = record.acquisition
    assert acquisition is not None
    assert (acquisition.scan, acquisition.angle_deg) == ("stage", 30.0)
    assert (acquisition.skew_axis, acquisition.scan_sign) == ("y", 1)
    assert (acquisition.step_um, acquisition.pixel_um) == pytest.approx((0.2, 0.1))
    assert acquisition.interval_s == 2.5
    assert set(acquisition.sources.values()) == {"CZI metadata of a.czi"}


def test_without_the_mark_the_scan_must_be_in_the_sheet(czi: Path) -> None:
    write_czi(czi, PLANES, metadata_xml("None"))
    assert "no value for scan, step_um" in problem(czi)
    record = raw.registered(rows(czi, scan="none"), "fail")
    assert record.acquisition is not None
    assert record.acquisition.step_um == pytest.approx(0.2)


def test_several_scenes_are_refused_by_name(czi: Path) -> None:
    xml = metadata_xml("Skew60", scenes=("P1", "P2"))
    write_czi(czi, PLANES, xml, scene_of={place: place[0] for place in PLANES})
    message = problem(czi)
    assert "found 2 images (positions): 0 'P1' (1 time points of 2 channels); 1 'P2'" in message
    assert "column 'position'" in message
    for position, frame in (("P2", 1), ("1", 1), ("p1", 0)):
        first = raw.sources(rows(czi, position=position))[0]
        np.testing.assert_array_equal(first.read(0), DATA[frame, 0])
    assert "position 'P3' among them" in raw.problem(rows(czi, position="P3"))


def test_a_last_frame_that_was_not_finished(czi: Path) -> None:
    write_czi(czi, {p: v for p, v in PLANES.items() if p != (1, 0, 2)}, metadata_xml("Skew60"))
    assert "2 of 3 planes of time 1" in problem(czi)
    assert list(raw.registered(rows(czi), "skip").skipped) == [1]


@pytest.mark.parametrize(
    ("lost", "found"),
    [
        ([(0, 0, 2)], "a.czi: 2 of 3 planes of time 0; plane 2 of channel 0 missing (the file has no such"),
        ([(1, 0, 0)], "a.czi: 2 of 3 planes of time 1; plane 0 of channel 0 missing (the file has no such"),
        (
            [(1, 0, 1), (1, 0, 2)],
            "1 of 3 planes of time 1; plane 1-2 of channel 0 missing (the acquisition was",
        ),
        ([(0, 1, z) for z in range(3)], "0 of 3 planes of time 0; all of channel 1 missing (the file has no"),
    ],
)
def test_holes_say_what_is_missing(czi: Path, lost: list[tuple[int, int, int]], found: str) -> None:
    write_czi(czi, {p: v for p, v in PLANES.items() if p not in lost}, metadata_xml("Skew60"))
    assert found in problem(czi)
    assert list(raw.registered(rows(czi), "skip").skipped) == [lost[0][0]]


@pytest.mark.parametrize("kept", [0.99, 0.5, 0.01])
def test_a_cut_file(czi: Path, kept: float) -> None:
    czi.write_bytes(czi.read_bytes()[: int(kept * czi.stat().st_size)])
    assert "a.czi: found a file that cannot be read" in problem(czi)


@pytest.mark.parametrize(
    "compression",
    [
        None,
        "zstd0:ExplicitLevel=2",
        "zstd1:ExplicitLevel=2",
        "zstd1:ExplicitLevel=2;PreProcess=HiLoByteUnpack",
    ],
)
def test_files_of_the_makers_own_library(tmp_path: Path, compression: str | None) -> None:
    pytest.importorskip("czifile")
    maker = pytest.importorskip("pylibCZIrw.czi")
    with maker.create_czi(str(tmp_path / "a.czi"), compression_options=compression) as writer:
        for (t, c, z), plane in PLANES.items():
            writer.write(plane[..., None], plane=dict(T=t, C=c, Z=z))
        writer.write_metadata("a", channel_names={0: "488nm", 1: "560nm"}, scale_x=1e-7, scale_y=1e-7)
    for channel, frames in enumerate(
        raw.sources(rows(tmp_path / "a.czi", scan="none", step_um=0.2, interval_s=1.0))
    ):
        np.testing.assert_array_equal(frames.read(1), DATA[1, channel])
    record = raw.registered(rows(tmp_path / "a.czi", scan="none", step_um=0.2, interval_s=1.0))
    assert record.acquisition is not None
    assert record.acquisition.pixel_um == pytest.approx(0.1)


def test_the_makers_own_library_reads_the_files_of_these_tests(tmp_path: Path) -> None:
    maker = pytest.importorskip("pylibCZIrw.czi")
    write_czi(tmp_path / "a.czi", PLANES, metadata_xml())
    with maker.open_czi(str(tmp_path / "a.czi")) as reader:
        for (t, c, z), plane in PLANES.items():
            np.testing.assert_array_equal(reader.read(plane=dict(T=t, C=c, Z=z))[..., 0], plane)


def test_a_channel_that_recorded_nothing_leaves_the_others_their_names(czi: Path) -> None:
    write_czi(czi, {place: plane for place, plane in PLANES.items() if place[1] == 1}, metadata_xml("Skew60"))
    np.testing.assert_array_equal(raw.sources(rows(czi)[1:])[0].read(0), DATA[0, 1])
    assert "no frame that is whole" in raw.problem(rows(czi)[:1])


def test_a_file_that_was_split_is_refused_by_its_first_part_and_by_every_other(czi: Path) -> None:
    """ZEN writes ``a.czi``, ``a(1).czi``: with one directory for all planes, or with one in each."""
    late = {place: plane for place, plane in PLANES.items() if place[0] == 1}
    elsewhere = dict.fromkeys(late, 1)
    write_czi(czi, PLANES, metadata_xml("Skew60"), parts_of=elsewhere)
    assert f"{len(late)} of {len(PLANES)} planes in other files" in problem(czi)
    early = {place: plane for place, plane in PLANES.items() if place[0] == 0}
    write_czi(czi, early, metadata_xml("Skew60"))
    write_czi(czi.with_name("a(1).czi"), late, metadata_xml("Skew60"), part=1)
    assert "parts lie beside it: a(1).czi; expected the whole movie in one CZI file" in problem(czi)
    assert "part 1 of a movie that was split" in problem(czi.with_name("a(1).czi"))
    # A copy that is a file of its own is no part.
    write_czi(czi.with_name("a(1).czi"), PLANES, metadata_xml("Skew60"))
    assert problem(czi) == "none"
