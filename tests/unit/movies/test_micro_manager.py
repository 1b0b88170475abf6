"""Micro-Manager files without OME-XML against what was written: only their lists say which plane is which."""

from __future__ import annotations

import random
import struct
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import raw
from raw import SHAPE, assert_is, frames_of, movie, row, write_mm_stack, write_ndtiff

from spatialdino_core.movies.raw_files import fingerprint

Z = SHAPE[0]
Planes = list[tuple[dict[str, int | str], np.ndarray]]
Order = Callable[[Planes], Planes]


def planes_of(data: np.ndarray, **other: int | str) -> Planes:
    """Each plane of (t, z, y, x) with its time and z."""
    return [({"time": t, "z": z} | other, data[t, z]) for t in range(len(data)) for z in range(Z)]


def to_and_fro(planes: Planes) -> Planes:
    stacks = [planes[n : n + Z] for n in range(0, len(planes), Z)]
    return [plane for n, stack in enumerate(stacks) for plane in stack[:: -1 if n % 2 else 1]]


def shuffled(planes: Planes) -> Planes:
    return random.Random(0).sample(planes, len(planes))


ORDERS: Sequence[Order] = (list, to_and_fro, shuffled)


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("per_file", [1000, 7, 3])
def test_planes_of_an_ndtiff_by_its_index(tmp_path: Path, order: Order, per_file: int) -> None:
    data = movie(4)
    files = write_ndtiff(tmp_path, order(planes_of(data)), per_file)
    # Any of its files, a glob of some, and the folder stand for the whole acquisition.
    for path in (files[0], files[-1], tmp_path / "*.tif", tmp_path / "*Stack*[0-9].tif", tmp_path):
        if path.suffix or files[1:]:
            rows = [row(path)] if row(path).files() else [row(tmp_path)]
            assert_is(frames_of(rows), data)
            assert raw.table_of(rows)[1].unused == {}


def test_two_cameras_whose_planes_arrive_in_changing_order(tmp_path: Path) -> None:
    one, other = movie(3), movie(3, seed=1)
    planes = shuffled(planes_of(one, channel="488nm") + planes_of(other, channel="Cy3"))
    write_ndtiff(tmp_path, planes, 11)
    assert_is(frames_of([row(tmp_path)]), one)
    assert_is(frames_of([row(tmp_path, channel="561nm", file_channel="Cy3")]), other)
    assert "the channels" in raw.problem([row(tmp_path, channel="561nm")])


def test_positions_of_an_ndtiff(tmp_path: Path) -> None:
    data = [movie(2, seed=n) for n in range(3)]
    planes = [plane for n, own in zip((4, 1, 2), data, strict=True) for plane in planes_of(own, position=n)]
    write_ndtiff(tmp_path, planes, 8)
    assert "3 images (positions): 0 '1'" in raw.problem([row(tmp_path)])
    for position, own in zip(("#2", "#0", "#1"), data, strict=True):
        assert_is(frames_of([row(tmp_path, position=position)]), own)
    assert_is(frames_of([row(tmp_path, position="4")]), data[0])
    assert "'1', the name of number 0 and the number of another" in raw.problem([row(tmp_path, position="1")])
    tiles = [p for n, own in enumerate(data) for p in planes_of(own, row=n, column=2 - n, well="B")]
    write_ndtiff(tmp_path / "tiles", tiles)
    assert_is(frames_of([row(tmp_path / "tiles", position="row 1, column 1")]), data[1])


@pytest.mark.parametrize("per_file", [1000, 6])
def test_planes_that_an_ndtiff_lacks(tmp_path: Path, per_file: int) -> None:
    """Stopped in the last stack; a time point that was never taken; a single plane."""
    data = movie(6)
    lost = {(5, 3), (5, 4), (1, 2), *((3, z) for z in range(Z))}
    planes = [p for p in planes_of(data) if (p[0]["time"], p[0]["z"]) not in lost]
    files = write_ndtiff(tmp_path, planes, per_file)
    assert "4 of 5 planes" in raw.problem([row(tmp_path)])
    found = frames_of([row(files[0])])
    assert [t for t, stack in enumerate(found) if stack is None] == [1, 3, 5]
    assert_is([found[t] for t in (0, 2, 4)], data[[0, 2, 4]])


def test_files_of_an_ndtiff_that_are_not_there_or_cut(tmp_path: Path) -> None:
    data = movie(6)
    files = write_ndtiff(tmp_path, planes_of(data), 10)
    whole = files[2].read_bytes()
    files[2].write_bytes(whole[: len(whole) // 2])
    found = frames_of([row(tmp_path)])
    assert [t for t, stack in enumerate(found) if stack is None] == [4, 5]
    # Room for more, which was never written: the last page leads to nothing.
    link = len(whole) - movie(1)[0, 0].nbytes - len(raw.NOTHING_SAID) - 4
    files[2].write_bytes(whole[:link] + struct.pack("<I", len(whole)) + whole[link + 4 :] + bytes(5000))
    assert_is(frames_of([row(tmp_path)]), data)
    files[0].unlink()
    assert "no file acq_NDTiffStack.tif" in raw.problem([row(tmp_path)])
    found = frames_of([row(tmp_path)])
    assert [t for t, stack in enumerate(found) if stack is None] == [0, 1]
    assert_is(found[2:], data[2:])


def test_an_ndtiff_without_its_index(tmp_path: Path) -> None:
    data = movie(3)
    (file,) = write_ndtiff(tmp_path, planes_of(data))
    (tmp_path / "NDTiff.index").rename(tmp_path / "other.index")
    message = raw.problem([row(file)])
    assert "no NDTiff.index beside it" in message
    assert "Copy it again" not in message
    # Both remedies.
    assert_is(frames_of([row(file, axes=f"t3z{Z}yx")]), data)
    (tmp_path / "other.index").rename(tmp_path / "NDTiff.index")
    assert_is(frames_of([row(file)]), data)


def test_an_ndtiff_whose_files_were_renamed(tmp_path: Path) -> None:
    data = movie(4)
    files = write_ndtiff(tmp_path, planes_of(data), 10)
    for number, file in enumerate(files):
        file.rename(tmp_path / f"p_t{number}.tif")
    message = raw.problem([row(tmp_path / "*.tif")])
    assert "other files: acq_NDTiffStack.tif, acq_NDTiffStack_1.tif" in message
    assert message == raw.problem([row(tmp_path / "*.tif", time_point="t(?P<order>[0-9]+)")])
    for number, file in enumerate(files):
        (tmp_path / f"p_t{number}.tif").rename(file)
    assert_is(frames_of([row(tmp_path / "*.tif")]), data)


def test_an_ndtiff_for_each_time_point(tmp_path: Path) -> None:
    """Each in a folder of its own, as Micro-Manager makes them, of whatever it takes."""
    data = movie(3)
    for t, stack in enumerate(data):
        write_ndtiff(tmp_path / f"acq_{t + 1}", to_and_fro(planes_of(stack[None])))
    assert "no word says that it counts time" in raw.problem([row(tmp_path / "acq_*" / "*.tif")])
    assert_is(frames_of([row(tmp_path / "acq_*" / "*.tif", time_point=r"acq_(\d+)")]), data)


def test_an_index_whose_planes_have_different_axes(tmp_path: Path) -> None:
    data = movie(2)
    planes = planes_of(data)
    planes[3] = ({"time": 0}, planes[3][1])
    write_ndtiff(tmp_path, planes)
    assert "different axes in its list" in raw.problem([row(tmp_path)])
    assert_is(frames_of([row(tmp_path, axes=f"t2z{Z}yx")]), data)


def test_an_index_of_a_million_million_time_points(tmp_path: Path) -> None:
    planes = planes_of(movie(2))
    planes[-1][0]["time"] = 10**12
    write_ndtiff(tmp_path, planes)
    assert "time runs from 0 to 1000000000000" in raw.problem([row(tmp_path)])


def mm_planes(data: np.ndarray, c: int = 0, p: int = 0) -> list[tuple[tuple[int, int, int, int], np.ndarray]]:
    return [((c, z, t, p), data[t, z]) for t in range(len(data)) for z in range(Z)]


@pytest.mark.parametrize("order", ORDERS)
def test_planes_of_an_mmstack_by_its_index_map(tmp_path: Path, order: Order) -> None:
    one, other = movie(3), movie(3, seed=1)
    planes = order(mm_planes(one) + mm_planes(other, c=1))  # type: ignore[arg-type]
    path = tmp_path / "m_MMStack.tif"
    write_mm_stack(path, planes, Frames=3, Slices=Z, Channels=2, ChNames=["488", "561"])  # type: ignore[arg-type]
    assert_is(frames_of([row(path)]), one)
    assert_is(frames_of([row(path, channel="561nm")]), other)


@pytest.mark.parametrize("cut", [7, 10])
def test_an_mmstack_in_several_files(tmp_path: Path, cut: int) -> None:
    data = movie(4)
    planes, said = mm_planes(data), dict(Frames=4, Slices=Z, Channels=1, Positions=1)
    names = ["m_MMStack.tif", "m_MMStack_1.tif"]
    write_mm_stack(tmp_path / names[0], planes[:cut], **said)
    write_mm_stack(tmp_path / names[1], planes[cut:], **said)
    for path in (*names, "*.tif", "."):
        assert_is(frames_of([row(tmp_path / path)]), data)
    before = fingerprint([row(tmp_path / names[0])])
    (tmp_path / names[1]).unlink()
    assert fingerprint([row(tmp_path / names[0])]) != before
    record = raw.registered([row(tmp_path / names[0])], "skip")
    assert (record.frames, list(record.skipped)) == (2, [1] if cut == 7 else [])
    assert raw.problem([row(tmp_path / names[0])]) != "none"
    # A plane in two of them.
    write_mm_stack(tmp_path / names[1], planes[cut - 1 :], **said)
    assert "a plane that m_MMStack.tif has, too" in raw.problem([row(tmp_path)])


def test_positions_of_an_mmstack(tmp_path: Path) -> None:
    data = [movie(2, seed=n) for n in range(2)]
    said = dict(Frames=2, Slices=Z, Channels=1, Positions=2)
    for p, own in enumerate(data):
        write_mm_stack(tmp_path / f"m_MMStack_Pos{p}.tif", mm_planes(own, p=p), **said)
    assert "2 images (positions)" in raw.problem([row(tmp_path)])
    for p, own in enumerate(data):
        assert_is(frames_of([row(tmp_path, position=str(p))]), own)


def test_an_mmstack_that_was_not_finished(tmp_path: Path) -> None:
    data = movie(3)
    write_mm_stack(tmp_path / "m_MMStack.tif", mm_planes(data), finished=False, Frames=3, Slices=Z)
    message = raw.problem([row(tmp_path)])
    assert "no index map in it (it was not finished)" in message
    assert_is(frames_of([row(tmp_path, axes=f"t3z{Z}yx")]), data)


def test_mmstacks_of_different_acquisitions_in_one_folder(tmp_path: Path) -> None:
    """Of one name but for its end, and each whole."""
    data = movie(3)
    for t, stack in enumerate(data):
        path = tmp_path / f"m_MMStack_{t}.tif"
        write_mm_stack(path, mm_planes(stack[None]), Frames=1, Slices=Z, Channels=1, Positions=1)
    assert_is(frames_of([row(tmp_path / "*.tif")]), data)
    assert_is(frames_of([row(tmp_path / "m_MMStack_1.tif", interval_s=None)]), data[1:2])
