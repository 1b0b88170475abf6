"""Series of TIFF files: one plane per file, parts of a movie, files that differ, against what was written."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import raw
import tifffile
from raw import SHAPE, movie, row

from spatialdino_core.movies.acquisition import AcquisitionTable

PLAIN: dict[str, Any] = dict(photometric="minisblack", metadata=None)


def assert_reads(rows: Sequence[Any], expected: np.ndarray, left_out: Sequence[int] = ()) -> None:
    """Every frame of the first channel, whole and in part, as the table on disk says."""
    record = raw.registered(rows, "skip" if left_out else "fail")
    assert (record.problem, record.frames, list(record.skipped)) == (None, len(expected), list(left_out))
    source = raw.sources(rows)[0]
    part = (slice(1, 4), slice(2, 7), slice(3, None))
    for frame in sorted(set(range(len(expected))) - set(left_out)):
        np.testing.assert_array_equal(source.read(frame), expected[frame])
        np.testing.assert_array_equal(source.read(frame, part), expected[frame][part])


def write(folder: Path, names: Sequence[str], stacks: Sequence[np.ndarray]) -> None:
    for name, stack in zip(names, stacks, strict=True):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        tifffile.imwrite(folder / name, stack, **PLAIN)


def planes(
    folder: Path,
    name: str,
    data: np.ndarray,
    first: int = 0,
    lost: Sequence[tuple[int, int]] = (),
) -> None:
    for t, stack in enumerate(data):
        for z, plane in enumerate(stack):
            if (t, z) not in lost:
                write(folder, [name.format(t=t, z=z + first, nm=200 * z)], [plane])


PLANES = {
    "zeiss": ("Cell_t{t:02d}_z{z:03d}.tif", 0),
    "micro-manager": ("img_channel000_position000_time{t:09d}_z{z:03d}.tif", 0),
    "micro-manager 1.4": ("img_{t:09d}_488_{z:03d}.tif", 0),
    "from 1": ("a_T{t}_Z{z}.tif", 1),
    "slices, not padded": ("a_{t}_slice{z}.tif", 1),
    "folder per time point": ("t{t}/plane_{z}.tif", 0),
    "plane before time": ("z{z}_frame{t}.tif", 0),
    "depths in nm": ("a_t{t}_z{nm:05d}.tif", 0),
}


@pytest.mark.parametrize("kind", PLANES)
def test_planes_in_files_of_their_own(tmp_path: Path, kind: str) -> None:
    name, first = PLANES[kind]
    data = movie(11)
    planes(tmp_path, name, data, first)
    path = tmp_path / ("t*/*.tif" if "/" in name else "*.tif")
    assert_reads([row(path)], data)
    record = raw.registered([row(path)])
    assert (record.reading["files"], record.shape_zyx) == ("55", SHAPE)
    assert record.reading["order"].endswith("one plane in each file")


def test_a_single_stack_of_planes(tmp_path: Path) -> None:
    planes(tmp_path, "z{z:03d}.tif", movie(1))
    assert_reads([row(tmp_path / "z*.tif", interval_s=None)], movie(1))


def test_a_time_point_that_lacks_planes_is_a_bad_frame(tmp_path: Path) -> None:
    data = movie(5)
    planes(tmp_path, "a_t{t}_z{z}.tif", data, lost=[(1, 2), (1, 3), (3, 4)])
    assert "a_t1_z*.tif: no file for planes 2-3 (of 0-4)" in raw.problem([row(tmp_path / "*.tif")])
    assert_reads([row(tmp_path / "*.tif")], data, left_out=[1, 3])
    (tmp_path / "a_t2_z0.tif").write_bytes(b"II*")
    write(tmp_path, ["a_t0_z1.tif"], [data[0, 1, :4]])
    assert_reads([row(tmp_path / "*.tif")], data, left_out=[0, 1, 2, 3])
    reasons = raw.registered([row(tmp_path / "*.tif")], "skip").skipped
    assert "a_t0_z1.tif: 1 channels of (1, 4, 9)" in reasons[0]
    assert "a_t2_z0.tif: a file that cannot" in reasons[2]
    (tmp_path / "a_t4_z4.tif").unlink()
    assert "no stack that is whole" in raw.problem([row(tmp_path / "*.tif")], "skip")


def test_planes_of_two_channels_are_taken_apart(tmp_path: Path) -> None:
    one, other = movie(4), movie(4, seed=1)
    planes(tmp_path, "a_t{t}_z{z}_ch00.tif", one)
    planes(tmp_path, "a_t{t}_z{z}_ch01.tif", other)
    assert_reads([row(tmp_path / "*.tif", channel="GFP", file_channel="ch01")], other)
    message = raw.problem([row(tmp_path / "*.tif")])
    assert globs_in(message) == ["a_t*_z*_ch00.tif", "a_t*_z*_ch01.tif"]
    for glob, data in zip(globs_in(message), (one, other), strict=True):
        assert_reads([row(tmp_path / glob)], data)


@pytest.mark.parametrize(
    ("name", "first"),
    [("{t}_{z}.tif", 0), ("a_t{t}_z{z}.tif", 5), ("z{z}_z{t}.tif", 0), ("a_t{t}_p{z}.tif", 0)],
)
def test_planes_without_a_number_that_says_so(tmp_path: Path, name: str, first: int) -> None:
    planes(tmp_path, name, movie(2), first)
    message = raw.problem([row(tmp_path / "*.tif")])
    assert "10 files of one plane each" in message
    assert "a_t000_z000.tif" in message
    # The remedy: the names that it asks for.
    for file in tmp_path.glob("*.tif"):
        t, z = (int(number) for number in re.findall(r"\d+", file.stem))
        (t, z) = (z, t) if name.startswith("z") else (t, z)
        file.rename(tmp_path / f"new_t{t:03d}_z{z - first:03d}.tif")
    assert_reads([row(tmp_path / "new_*.tif")], movie(2))


def test_two_files_for_one_plane(tmp_path: Path) -> None:
    planes(tmp_path, "a_t{t}_z{z}.tif", movie(2))
    write(tmp_path, ["a_t0_z01.tif"], [movie(4)[0, 0]])
    assert "two of them plane 1" in raw.problem([row(tmp_path / "*.tif")])


def globs_in(message: str) -> list[str]:
    found = re.search(r"[Mm]ake 'path' end in one of these: (.+?)\.( If| Rename|$)", message)
    assert found is not None, message
    return found[1].split("; ")


def pattern_in(message: str) -> str:
    found = re.search(r"say (?:so )?in the column 'time_point'(?: that these go on)?: (\S+)", message)
    assert found is not None, message
    return found[1]


THINGS = {
    "cells": [[f"cell1_t{t}.tif" for t in range(3)], [f"cell2_t{t}.tif" for t in range(3, 6)]],
    "positions": [[f"pos0/t{t}.tif" for t in range(3)], [f"pos1/t{t}.tif" for t in range(3, 6)]],
    "wells": [[f"A{n}.tif"] for n in range(4)],
    "wells with frames": [[f"B1_{t:03d}.tif" for t in range(3)], [f"B2_{t:03d}.tif" for t in range(3, 6)]],
    "alternating": [[f"cell{c}_t{t}.tif" for t in range(c, 6, 2)] for c in range(2)],
    "one of each": [[f"cell{n}_t{n}.tif"] for n in range(3)],
    "hundreds in folders": [[f"{n}/img_{t:04d}.tif" for t in range(3 * n, 3 * n + 3)] for n in range(2)],
    "days apart": [["20240110_t0.tif", "20240110_t1.tif"], ["20240131_t2.tif", "20240131_t3.tif"]],
    "by the clock": [[f"cell{n}_{2 * t}s.tif" for t in range(3 * n, 3 * n + 3)] for n in range(2)],
}


@pytest.mark.parametrize("kind", THINGS)
def test_what_changes_beside_the_time_is_another_thing(tmp_path: Path, kind: str) -> None:
    names = THINGS[kind]
    every = [name for group in names for name in group]
    data = dict(zip(every, movie(len(every)), strict=True))
    write(tmp_path, every, list(data.values()))
    path = tmp_path / ("*/*.tif" if "/" in every[0] else "*.tif")
    message = raw.problem([row(path)])
    # Both remedies work: a movie for each of them, and one movie that goes on.
    globs = globs_in(message)
    assert len(globs) == len(names)
    for glob, group in zip(globs, names, strict=True):
        record = raw.registered([row(tmp_path / glob)], "skip")
        source = raw.sources([row(tmp_path / glob)])[0]
        there = [frame for frame in range(record.frames) if frame not in record.skipped]
        for frame, name in zip(there, group, strict=True):
            np.testing.assert_array_equal(source.read(frame), data[name])
    in_time = sorted(every, key=lambda name: int(re.findall(r"\d+", name)[-1]))
    expected = np.array([data[name] for name in in_time])
    assert_reads([row(path, time_point=pattern_in(message))], expected)


def test_channels_and_positions_in_names_are_listed_as_globs(tmp_path: Path) -> None:
    names = [f"Exp_w{w}_s{s}_t{t}.TIF" for w in ("1488", "2560") for s in (1, 2) for t in range(1, 4)]
    data = movie(len(names))
    write(tmp_path, names, list(data))
    message = raw.problem([row(tmp_path / "*.TIF")])
    globs = globs_in(message)
    assert globs[0] == "Exp_w1488_s1_t*.TIF"
    for number, glob in enumerate(globs):
        assert_reads([row(tmp_path / glob)], data[3 * number : 3 * number + 3])
    assert "time_point" not in message


def test_times_of_day_over_midnight_need_a_date(tmp_path: Path) -> None:
    data = movie(4)
    times = ("235956", "235958", "000000", "000002")
    write(tmp_path / "a", [f"c_{time}.tif" for time in times], list(data))
    message = raw.problem([row(tmp_path / "a" / "*.tif")])
    assert "it can be read c_000000.tif, c_000002.tif, c_235956.tif, … or c_235956.tif, c_235958" in message
    # The remedy: the date before the time, beside it or apart; or numbers.
    dates = ("20240131", "20240131", "20240201", "20240201")
    for name in ("{date}_{time}.tif", "{date}_c_{time}.tif", "c_t000{n}_{time}.tif"):
        folder = tmp_path / name[1:5]
        names = [name.format(date=d, time=t, n=n) for n, (d, t) in enumerate(zip(dates, times, strict=True))]
        write(folder, names, list(data))
        assert_reads([row(folder / "*.tif")], data)
        if "date" in name:
            assert raw.registered([row(folder / "*.tif", interval_s=None)]).times_s == [0, 2, 4, 6]
        for file in folder.iterdir():
            file.unlink()


def test_two_makes_of_names_are_listed_as_globs(tmp_path: Path) -> None:
    names = [f"Cam{c}_stack{t:04d}_{20 * t + n}ms.tif" for n, c in enumerate("AB") for t in range(3)]
    write(tmp_path, names, list(movie(6)))
    globs = globs_in(raw.problem([row(tmp_path / "*.tif")]))
    assert globs == ["CamA_stack*_*.tif", "CamB_stack*_*.tif"]
    assert_reads([row(tmp_path / globs[1])], movie(6)[3:])


def parts(folder: Path, names: Sequence[str], data: np.ndarray, step_s: float = 0, **options: Any) -> None:
    """A movie in files of two frames each; with a step, its clock goes on over all of them."""
    for number, name in enumerate(names):
        own = data[2 * number : 2 * number + 2]
        metadata: dict[str, Any] = dict(axes="TZYX")
        if step_s:
            times = [step_s * (2 * number + plane // 5) for plane in range(5 * len(own))]
            metadata["Plane"] = dict(DeltaT=times)
        kind = dict(ome=True) if name.endswith(".ome.tif") else dict(imagej=True)
        tifffile.imwrite(folder / name, own, metadata=metadata, photometric="minisblack", **kind, **options)


@pytest.mark.parametrize("name", ["m_part{}.tif", "part_{}.ome.tif", "x-file00{}.tif"])
def test_parts_of_a_movie_are_read_one_after_the_other(tmp_path: Path, name: str) -> None:
    data = movie(5)
    parts(tmp_path, [name.format(n) for n in (1, 2, 3)], data)
    rows = [row(tmp_path / name.format("*"))]
    assert_reads(rows, data)
    record, table = raw.table_of(rows)
    assert record.reading["order"].endswith("3 parts, one after the other")
    table.write(tmp_path / "acquisition.tsv", {})
    again = AcquisitionTable.read(tmp_path / "acquisition.tsv")
    assert [again.stacks[f, 0][0].file.name for f in (1, 2, 4)] == [name.format(n) for n in (1, 2, 3)]


def test_a_clock_that_goes_on_shows_that_files_are_parts(tmp_path: Path) -> None:
    data = movie(4)
    parts(tmp_path, ["m_1.ome.tif", "m_2.ome.tif"], data, step_s=3)
    assert_reads([row(tmp_path / "*.tif", interval_s=None)], data)
    assert raw.registered([row(tmp_path / "*.tif", interval_s=None)]).times_s == [0, 3, 6, 9]


def test_a_clock_that_begins_again_is_not_taken(tmp_path: Path) -> None:
    data = movie(4)
    for number in (1, 2):
        parts(tmp_path, [f"part{number}.ome.tif"], data[2 * number - 2 : 2 * number], step_s=3)
    record = raw.registered([row(tmp_path / "*.tif")])
    assert record.times_s == [0, 2, 4, 6]
    assert "begins again in each part" in record.warnings[0]


def test_files_that_may_be_movies_of_their_own_are_not_joined(tmp_path: Path) -> None:
    data = movie(4)
    parts(tmp_path, ["movie_1.tif", "movie_2.tif"], data)
    message = raw.problem([row(tmp_path / "*.tif")])
    assert "movies of their own, or parts of one that goes on" in message
    for number, glob in enumerate(globs_in(message)):
        assert_reads([row(tmp_path / glob)], data[2 * number : 2 * number + 2])
    assert_reads([row(tmp_path / "*.tif", time_point=pattern_in(message))], data)


def test_parts_that_are_missing_or_differ(tmp_path: Path) -> None:
    data = movie(6)
    parts(tmp_path, ["part1.tif", "part2.tif", "part3.tif"], data)
    (tmp_path / "part2.tif").write_bytes(b"II*")
    assert "part2.tif: a file that cannot be read" in raw.problem([row(tmp_path / "*.tif")])
    (tmp_path / "part2.tif").unlink()
    message = raw.problem([row(tmp_path / "*.tif")])
    assert "2 parts with the numbers 1, 3: others are missing" in message
    pattern = pattern_in(message)
    assert_reads([row(tmp_path / "*.tif", time_point=pattern)], data[[0, 1, 4, 5]])
    parts(tmp_path, ["part2.tif"], data[:2, :, :4])
    assert "parts that differ" in raw.problem([row(tmp_path / "*.tif")])


def test_the_only_movie_of_a_channel_stands_alone(tmp_path: Path) -> None:
    data = movie(2)
    parts(tmp_path, ["a_488.tif"], data)
    parts(tmp_path, ["a_642.tif"], movie(2, seed=1))
    assert_reads([row(tmp_path / "a_*.tif")], data)


def ome_series(folder: Path, metadata: Sequence[dict[str, Any]]) -> np.ndarray:
    data = movie(len(metadata))
    for t, own in enumerate(metadata):
        path = folder / f"a_t{t}.ome.tif"
        tifffile.imwrite(path, data[t], ome=True, metadata=dict(axes="ZYX") | own, photometric="minisblack")
    return data


def test_files_of_one_series_with_other_sizes(tmp_path: Path) -> None:
    sizes = [dict(PhysicalSizeX=x, PhysicalSizeY=x, PhysicalSizeZ=0.25) for x in (0.104, 0.104, 0.13)]
    data = ome_series(tmp_path, sizes)
    message = raw.problem([row(tmp_path / "*.tif", pixel_um=None)])
    assert "different pixel_um: 0.104 µm (a_t0.ome.tif), 0.13 µm (a_t2.ome.tif)" in message
    assert_reads([row(tmp_path / "*.tif", pixel_um=0.104)], data)
    assert any("differ in their pixel_um" in w for w in raw.registered([row(tmp_path / "*.tif")]).warnings)


def test_files_of_one_series_that_call_themselves_otherwise(tmp_path: Path) -> None:
    data = ome_series(tmp_path, [dict(Name=name) for name in ("left", "left", "right", "right")])
    message = raw.problem([row(tmp_path / "*.tif")])
    assert "files whose images have 2 names: 'left' (a_t0.ome.tif), 'right' (a_t2.ome.tif)" in message
    assert_reads([row(tmp_path / "a_t[01].ome.tif")], data[:2])
    pattern = message.rpartition(" ")[2]
    assert_reads([row(tmp_path / "*.tif", time_point=pattern)], data)
    assert "different names" in raw.registered([row(tmp_path / "*.tif", time_point=pattern)]).warnings[0]


@pytest.mark.parametrize(("name", "odd"), [("a_t{}", False), ("Image:{}", False), ("Pos{}", True)])
def test_names_that_count_with_the_files_are_usual(tmp_path: Path, name: str, odd: bool) -> None:
    data = ome_series(tmp_path, [dict(Name=name.format(t)) for t in range(3)])
    assert_reads([row(tmp_path / "*.tif")], data)
    assert bool(raw.registered([row(tmp_path / "*.tif")]).warnings) == odd


def with_clock(folder: Path, first: Sequence[float], plane_s: float, dates: Sequence[str]) -> np.ndarray:
    """A file for each time point, whose planes were taken at times that its XML says."""
    data = movie(len(first))
    for t, begin in enumerate(first):
        planes = "".join(
            f'<Plane TheT="0" TheC="0" TheZ="{z}" DeltaT="{begin + plane_s * z}"/>' for z in range(SHAPE[0])
        )
        before = f"<AcquisitionDate>{dates[t]}</AcquisitionDate>" if dates else ""
        image = raw.ome_image("x", 1, planes=planes, before=before)
        raw.write_ome(folder / f"a_t{t}.ome.tif", data[t], image)
    return data


EVERY_3_S = [f"2024-01-31T12:00:{3 * t:02d}" for t in range(6)]


@pytest.mark.parametrize(
    ("first", "plane_s", "dates"),
    [
        ([0.01, 0.012, 0.013, 0.014, 0.02, 0.03], 0.0, EVERY_3_S),  # rising by chance
        ([0.01, 0.012, 0.013, 0.014, 0.02, 0.03], 0.1, []),  # the next begins before the last plane
        ([0.0, 0.1, 0.2, 0.3, 0.4, 0.5], 0.0, ["yesterday", *"abcde"]),
    ],
)
def test_clocks_that_begin_with_each_file_are_none_of_the_movie(
    tmp_path: Path, first: Sequence[float], plane_s: float, dates: Sequence[str]
) -> None:
    data = with_clock(tmp_path, first, plane_s, dates)
    assert "interval_s" in raw.problem([row(tmp_path / "*.tif", interval_s=None)])
    record = raw.registered([row(tmp_path / "*.tif", interval_s=3.0)])
    assert (record.problem, list(record.times_s)) == (None, [0, 3, 6, 9, 12, 15])
    assert "begins with the file" in record.warnings[0]
    assert_reads([row(tmp_path / "*.tif", interval_s=3.0)], data)


@pytest.mark.parametrize("dates", [[], EVERY_3_S[:1] * 6, EVERY_3_S])
def test_a_clock_that_runs_through_all_files_is_the_movies(tmp_path: Path, dates: Sequence[str]) -> None:
    with_clock(tmp_path, [0.0, 3.1, 6.0, 9.0, 12.2, 15.0], 0.1, dates)
    record = raw.registered([row(tmp_path / "*.tif", interval_s=None)])
    assert (record.problem, list(record.times_s)) == (None, [0, 3.1, 6.0, 9.0, 12.2, 15.0])
    assert record.warnings == []
