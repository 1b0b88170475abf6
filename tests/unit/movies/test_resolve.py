"""What the files of a movie mean: sets, positions, channels, clocks, sizes, against what was written."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import raw
import tifffile
import zarr
from raw import assert_is, frames_of, movie, row

from spatialdino_core.movies.acquisition import AcquisitionTable
from spatialdino_core.movies.record import MovieRecord

OME = "http://www.openmicroscopy.org/Schemas/OME/2016-06"
PLAIN = dict(photometric="minisblack", metadata=None)


def uuid(number: int) -> str:
    return f"urn:uuid:00000000-0000-0000-0000-{number:012d}"


def write_set(
    folder: Path, data: np.ndarray, names: list[str], planes: list[tuple[int, int, str, int]]
) -> None:
    """An OME-TIFF set as Micro-Manager writes it: every file holds the XML of all.

    ``planes``: time, z, file and page of every plane.
    """
    numbers = {name: uuid(n) for n, name in enumerate(names)}
    blocks = "".join(
        f'<TiffData FirstT="{t}" FirstZ="{z}" FirstC="0" IFD="{page}" PlaneCount="1">'
        f'<UUID FileName="{name}">{numbers[name]}</UUID></TiffData>'
        for t, z, name, page in planes
    )
    clock = "".join(
        f'<Plane TheT="{t}" TheC="0" TheZ="{z}" DeltaT="{3 * t + z / 10}"/>' for t, z, _, _ in planes
    )
    for name in names:
        own = [data[t, z] for t, z, file, _ in planes if file == name]
        xml = (
            f'<?xml version="1.0" encoding="UTF-8"?><OME xmlns="{OME}" UUID="{numbers[name]}">'
            '<Image ID="Image:0" Name="Pos0"><Pixels ID="Pixels:0" DimensionOrder="XYZCT" '
            f'Type="uint16" SizeX="9" SizeY="8" SizeZ="5" SizeC="1" SizeT="{len(data)}">'
            f'<Channel ID="Channel:0:0" SamplesPerPixel="1"/>{blocks}{clock}</Pixels></Image></OME>'
        )
        tifffile.imwrite(
            folder / name, np.array(own), photometric="minisblack", description=xml, metadata=None
        )


@pytest.fixture
def micro_manager(tmp_path: Path) -> tuple[Path, np.ndarray]:
    """Four time points in three files; the second frame lies across two of them, as at a 4 GB boundary."""
    data = movie(4)
    names = ["c_MMStack_Pos0.ome.tif", "c_MMStack_Pos0_1.ome.tif", "c_MMStack_Pos0_2.ome.tif"]
    planes, filled = [], dict.fromkeys(names, 0)
    for number in range(20):
        name = names[number // 8]
        planes.append((number // 5, number % 5, name, filled[name]))
        filled[name] += 1
    write_set(tmp_path, data, names, planes)
    return tmp_path, data


@pytest.mark.parametrize("path", ["c_MMStack_*.ome.tif", "c_MMStack_Pos0.ome.tif", "."])
def test_a_set_of_ome_tiffs_is_one_movie(micro_manager: tuple[Path, np.ndarray], path: str) -> None:
    folder, data = micro_manager
    rows = [row(folder / path)]
    assert_is(frames_of(rows, "fail"), data)
    part = (slice(1, 5), slice(2, 7), slice(3, None))
    np.testing.assert_array_equal(raw.sources(rows)[0].read(1, part), data[1][part])
    # DeltaT of the first plane of each frame; the sheet's interval of 2 s is another one.
    record = raw.registered([row(folder / path, interval_s=None)])
    assert record.times_s == [0, 3, 6, 9]


def test_a_set_whose_files_were_renamed(micro_manager: tuple[Path, np.ndarray]) -> None:
    folder, data = micro_manager
    for number, file in enumerate(sorted(folder.glob("*.tif"))):
        file.rename(folder / f"x{number}.tif")
    assert_is(frames_of([row(folder / "x*.tif")], "fail"), data)


def test_a_file_of_a_set_that_is_not_there(micro_manager: tuple[Path, np.ndarray]) -> None:
    folder, _ = micro_manager
    (folder / "c_MMStack_Pos0_1.ome.tif").unlink()
    rows = [row(folder / "c_MMStack_*.ome.tif")]
    assert "no file c_MMStack_Pos0_1.ome.tif" in raw.problem(rows)
    found = frames_of(rows)
    assert [frame is None for frame in found] == [False, True, True, True]


def test_files_that_point_to_a_companion(tmp_path: Path) -> None:
    data = movie(3)
    names = [f"a_t{t}.ome.tif" for t in range(3)]
    write_set(tmp_path, data, names, [(t, z, names[t], z) for t in range(3) for z in range(5)])
    with tifffile.TiffFile(tmp_path / names[0]) as tif:
        (tmp_path / "a.companion.ome").write_text(tif.pages.first.description)
    for t, name in enumerate(names):
        pointer = (
            f'<?xml version="1.0"?><OME xmlns="{OME}" '
            f'UUID="{uuid(t)}"><BinaryOnly MetadataFile="a.companion.ome" UUID="{uuid(9)}"/></OME>'
        )
        tifffile.imwrite(tmp_path / name, data[t], description=pointer, **PLAIN)
    for path in ("a_t*.ome.tif", "a.companion.ome", "."):
        assert_is(frames_of([row(tmp_path / path)], "fail"), data)
    # Without it nobody knows whether the planes of a file are depths, channels or time points.
    (tmp_path / "a.companion.ome").unlink()
    for path in ("a_t*.ome.tif", "a_t1.ome.tif"):
        message = raw.problem([row(tmp_path / path)])
        assert "5 planes that a.companion.ome describes, which is not there" in message
        assert "z5yx if they are one stack" in message
    assert_is(frames_of([row(tmp_path / "a_t*.ome.tif", axes="z5yx")], "fail"), data)


def test_single_planes_that_point_to_a_companion_are_what_their_names_say(tmp_path: Path) -> None:
    data = movie(2)
    pointer = '<?xml version="1.0"?><OME><BinaryOnly MetadataFile="a.companion.ome" UUID="urn:x"/></OME>'
    for t, z in np.ndindex(2, 5):
        tifffile.imwrite(tmp_path / f"a_t{t}_z{z}.ome.tif", data[t, z], description=pointer, **PLAIN)
    assert_is(frames_of([row(tmp_path)], "fail"), data)


def announced(path: Path, data: np.ndarray, times: int, planes: int) -> None:
    """An OME-TIFF that announces more time points than it holds."""
    tifffile.imwrite(path, data, ome=True, metadata=dict(axes="TZYX"), photometric="minisblack")
    with tifffile.TiffFile(path) as tif:
        xml = tif.pages.first.description.replace(f'SizeT="{len(data)}"', f'SizeT="{times}"')
    xml = xml.replace(f'PlaneCount="{len(data) * 5}"', f'PlaneCount="{times * 5}"')
    tifffile.imwrite(path, data.reshape(-1, 8, 9)[:planes], description=xml.encode(), **PLAIN)


def test_an_acquisition_that_was_stopped(tmp_path: Path) -> None:
    data = movie(4)
    announced(tmp_path / "a.ome.tif", data, 10, 17)
    rows = [row(tmp_path / "a.ome.tif")]
    assert "a.ome.tif: 2 of 5 planes" in raw.problem(rows)
    refused = raw.table_of(rows, "fail")[1]
    assert (list(refused.left_out), sorted(refused.announced)) == ([(3, 0)], [4, 5, 6, 7, 8, 9])
    record, table = raw.table_of(rows, "skip")
    assert (record.frames, list(record.skipped)) == (4, [3])
    assert sorted(table.announced) == [4, 5, 6, 7, 8, 9]
    assert_is(frames_of(rows)[:3], data[:3])
    table.write(tmp_path / "acquisition.tsv", record.skipped)
    text = (tmp_path / "acquisition.tsv").read_text()
    assert text.count("is announced, but was never recorded") == 6


def test_several_positions_are_refused_until_one_is_named(tmp_path: Path) -> None:
    one, other = movie(3), movie(3, seed=1)
    with tifffile.TiffWriter(tmp_path / "a.ome.tif", ome=True) as writer:
        for name, data in (("left", one), ("right", other)):
            writer.write(data, photometric="minisblack", metadata=dict(axes="TZYX", Name=name))
    message = raw.problem([row(tmp_path / "a.ome.tif")])
    assert "2 images (positions): 0 'left' (3 time points of 1 channels); 1 'right'" in message
    for position in ("right", "1"):
        assert_is(frames_of([row(tmp_path / "a.ome.tif", position=position)]), other)
    assert raw.table_of([row(tmp_path / "a.ome.tif", position="1")])[1].position == "right"


def test_axes_of_the_sheet_say_what_planes_are(tmp_path: Path) -> None:
    data = movie(4)
    tifffile.imwrite(tmp_path / "flat.tif", data.reshape(-1, 8, 9), **PLAIN)
    tifffile.imwrite(tmp_path / "turned.tif", data.swapaxes(0, 1), imagej=True, metadata=dict(axes="TZYX"))
    for axes in ("t4z5yx", "tz5yx", "t4zyx"):
        assert_is(frames_of([row(tmp_path / "flat.tif", axes=axes)]), data)
    assert_is(frames_of([row(tmp_path / "turned.tif", axes="z5t4yx")]), data)
    assert "found 20 planes; expected planes as 'axes'" in raw.problem(
        [row(tmp_path / "flat.tif", axes="t3zyx")]
    )
    for t in range(4):
        interleaved = np.stack([data[t], data[t] + 1], 1).reshape(-1, 8, 9)
        tifffile.imwrite(tmp_path / f"two_t{t}.tif", interleaved, **PLAIN)
    rows = [
        row(tmp_path / "two_t*.tif", channel=c, file_channel=n, axes="z5c2yx")
        for c, n in (("488nm", "2"), ("642nm", "1"))
    ]
    assert_is(frames_of(rows), data + 1)
    assert "another channel for each row" in raw.problem(
        [row(tmp_path / "two_t*.tif", channel=c) for c in "ab"]
    )


def series(folder: Path, data: np.ndarray, name: str, points: Sequence[int]) -> None:
    folder.mkdir(exist_ok=True)
    for point, stack in zip(points, data, strict=True):
        tifffile.imwrite(folder / name.format(n=point, ms=2000 * point), stack, **PLAIN)


def test_channels_go_together_by_their_numbers(tmp_path: Path) -> None:
    """The first stack of one channel is lost: by place in a list all pairs would be wrong."""
    one, other = movie(4), movie(3, seed=1)
    series(tmp_path, one, "a_ch0_stack{n:04d}.tif", range(4))
    series(tmp_path, other, "a_ch1_stack{n:04d}.tif", range(1, 4))
    rows = [row(tmp_path / "a_ch0*.tif"), row(tmp_path / "a_ch1*.tif", channel="642nm")]
    record = raw.registered(rows, "skip")
    assert (record.frames, list(record.skipped)) == (4, [0])
    np.testing.assert_array_equal(raw.sources(rows)[1].read(2), other[1])


def test_channels_that_count_differently_need_a_clock(tmp_path: Path) -> None:
    one, other = movie(4), movie(4, seed=1)
    series(tmp_path, one, "CamA_stack{n:04d}.tif", range(4))
    series(tmp_path, other, "CamB_stack{n:04d}.tif", range(1, 5))
    rows = [row(tmp_path / "CamA*.tif"), row(tmp_path / "CamB*.tif", channel="642nm")]
    message = raw.problem(rows)
    assert "time points 0–3 in channel '488nm' and 1–4 in '642nm'" in message
    for file in tmp_path.glob("*.tif"):
        camera, number = file.stem.split("_stack")
        at = 2000 * (int(number) - (camera == "CamB")) + 300 * (camera == "CamB") + 5000
        file.rename(file.with_name(f"{file.stem}_{at:010d}msecAbs.tif"))
    assert raw.problem(rows) == "none"
    for frame in range(4):
        np.testing.assert_array_equal(raw.sources(rows)[1].read(frame), other[frame])


def test_one_counter_for_two_channels_is_read_where_the_sheet_says_so(tmp_path: Path) -> None:
    one, other = movie(4), movie(4, seed=1)
    series(tmp_path, one, "a_488nm_stack{n:04d}.tif", range(0, 8, 2))
    series(tmp_path, other, "a_560nm_stack{n:04d}.tif", range(1, 8, 2))
    rows = [row(tmp_path / f"a_{c}_*.tif", channel=c) for c in ("488nm", "560nm")]
    pattern = raw.problem(rows).rpartition(" ")[2]
    assert pattern == r"stack(?P<order>\d+)"
    said = [own.model_copy(update=dict(time_point=pattern)) for own in rows]
    assert raw.registered(said).frames == 4
    for frame in range(4):
        for source, data in zip(raw.sources(said), (one, other), strict=True):
            np.testing.assert_array_equal(source.read(frame), data[frame])
    # Where a file is lost, nobody knows which go together.
    (tmp_path / "a_488nm_stack0000.tif").unlink()
    assert "by other values in each" in raw.problem(said)


@pytest.mark.parametrize("name", ["a_{c}_{n:03d}.tif", "a_{c}_{n}ms.tif", "a_{c}_20240101T1200{n:02d}.tif"])
def test_channels_that_lost_different_files_stay_together(tmp_path: Path, name: str) -> None:
    data = movie(6)
    lost = {"488": 2, "561": 4}
    for colour, without in lost.items():
        for t in range(6):
            if t != without:
                tifffile.imwrite(tmp_path / name.format(c=colour, n=10 * t), data[t], **PLAIN)
    rows = [row(tmp_path / f"a_{colour}_*.tif", channel=colour) for colour in lost]
    record = raw.registered(rows, "skip")
    assert (record.frames, list(record.skipped)) == (6, [2, 4])
    for source in raw.sources(rows):
        np.testing.assert_array_equal(source.read(3), data[3])
    assert "frame 2" in raw.problem(rows)


@pytest.mark.parametrize(("channel", "numbers"), [("2", range(4)), ("488nm", range(486, 490))])
def test_frames_are_not_taken_for_channels(tmp_path: Path, channel: str, numbers: range) -> None:
    series(tmp_path, movie(4), "a_{n}.tif", numbers)
    assert_is(frames_of([row(tmp_path / "a_*.tif", channel=channel)], "fail"), movie(4))


def test_formats_and_folders_that_are_not_read_say_so(tmp_path: Path) -> None:
    (tmp_path / "a.nd2").write_bytes(b"x")
    assert "a .nd2 file, which is not read" in raw.problem([row(tmp_path / "a.nd2")])
    series(tmp_path / "cell", movie(2), "a_t{n}.tif", range(2))
    (tmp_path / "cells").mkdir()
    (tmp_path / "cell").rename(tmp_path / "cells" / "488")
    assert "488: folder that is no Zarr store" in raw.problem([row(tmp_path / "cells")])


def test_file_channel_names_a_channel_of_file_names(tmp_path: Path) -> None:
    data = movie(3)
    series(tmp_path, data, "a_t{n:02d}_ch00.tif", range(3))
    series(tmp_path, data + 1, "a_t{n:02d}_ch01.tif", range(3))
    rows = [
        row(tmp_path / "a_*.tif", channel=c, file_channel=f) for c, f in (("GFP", "ch01"), ("RFP", "ch00"))
    ]
    assert_is(frames_of(rows, "fail"), data + 1)


def test_channels_in_names_are_no_time_points(tmp_path: Path) -> None:
    for number, colour in enumerate((405, 488, 561)):
        tifffile.imwrite(tmp_path / f"a_{colour}.tif", movie(1, seed=number)[0], **PLAIN)
    assert_is(frames_of([row(tmp_path / "a_*.tif", interval_s=None)]), movie(1, seed=1))


def test_more_planes_than_the_metadata_count(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.ome.tif", movie(3), ome=True, metadata=dict(axes="TZYX"))
    with tifffile.TiffFile(tmp_path / "a.ome.tif") as tif:
        xml = tif.pages.first.description.replace('SizeT="3"', 'SizeT="2"').replace(
            'PlaneCount="15"', 'PlaneCount="10"'
        )
    tifffile.imwrite(tmp_path / "a.ome.tif", movie(3).reshape(-1, 8, 9), description=xml.encode(), **PLAIN)
    assert "found 15 planes, of which its metadata count 10" in raw.problem([row(tmp_path / "a.ome.tif")])
    twice = xml.replace("</Pixels>", '<TiffData IFD="5" FirstZ="0" PlaneCount="1"/></Pixels>').replace(
        'SizeT="2"', 'SizeT="3"'
    )
    tifffile.imwrite(tmp_path / "b.ome.tif", movie(3).reshape(-1, 8, 9), description=twice.encode(), **PLAIN)
    assert "found page 5 for (1, 0, 0) and (0, 0, 0)" in raw.problem([row(tmp_path / "b.ome.tif")])
    twice = twice.replace('IFD="5"', 'IFD="12"')
    tifffile.imwrite(tmp_path / "b.ome.tif", movie(3).reshape(-1, 8, 9), description=twice.encode(), **PLAIN)
    assert "two planes for time point 0" in raw.problem([row(tmp_path / "b.ome.tif")])


def test_files_of_a_series_that_name_their_channels_otherwise(tmp_path: Path) -> None:
    for t in range(3):
        names = ["GFP", "mCherry"] if t != 1 else ["mCherry", "GFP"]
        data = np.stack([movie(3)[t]] * 2)
        tifffile.imwrite(
            tmp_path / f"a_t{t}.ome.tif", data, ome=True, metadata=dict(axes="CZYX", Channel=dict(Name=names))
        )
    record = raw.registered([row(tmp_path / "a_t*.ome.tif", channel="GFP")], "skip")
    assert list(record.skipped) == [1]


def test_colours_of_imagej_are_no_stack(tmp_path: Path) -> None:
    data = np.zeros((4, 8, 9, 3), np.uint8)
    tifffile.imwrite(tmp_path / "a.tif", data, imagej=True, metadata=dict(axes="ZYXS"))
    assert "pictures in colour" in raw.problem([row(tmp_path / "a.tif")])


def test_one_path_for_two_channels_whose_names_tell(tmp_path: Path) -> None:
    one, other = movie(3), movie(3, seed=1)
    series(tmp_path, one, "a_stack{n:04d}_488nm.tif", range(3))
    series(tmp_path, other, "a_stack{n:04d}_642nm.tif", range(3))
    rows = [row(tmp_path / "a_*.tif", channel="642 nm"), row(tmp_path / "a_*.tif", channel="488nm")]
    assert_is(frames_of(rows, "fail"), other)
    single = raw.table_of([row(tmp_path / "a_*.tif")])[1]
    assert_is(frames_of([row(tmp_path / "a_*.tif")], "fail"), one)
    assert list(single.unused.values()) == ["another channel, by its name"] * 3


@pytest.mark.parametrize("wanted", ["488nm", "488 nm", "488"])
def test_channels_of_a_file_are_found_by_their_names(tmp_path: Path, wanted: str) -> None:
    one, other = movie(3), movie(3, seed=1)
    metadata = dict(axes="TCZYX", Channel=dict(Name=["647 nm", "AF488-T1"]))
    tifffile.imwrite(tmp_path / "a.ome.tif", np.stack([other, one], 1), ome=True, metadata=metadata)
    if wanted == "488":
        assert_is(frames_of([row(tmp_path / "a.ome.tif", channel=wanted, file_channel="AF488-T1")]), one)
    else:
        metadata["Channel"] = dict(Name=["647 nm", "488 nm"])
        tifffile.imwrite(tmp_path / "a.ome.tif", np.stack([other, one], 1), ome=True, metadata=metadata)
        assert_is(frames_of([row(tmp_path / "a.ome.tif", channel=wanted)]), one)
    message = raw.problem([row(tmp_path / "a.ome.tif", channel="560nm")])
    assert "found the channels ['647 nm'" in message
    assert "column 'file_channel'" in message


def test_a_single_channel_of_another_wavelength_is_worth_a_word(tmp_path: Path) -> None:
    metadata = dict(axes="TZYX", Channel=dict(Name="647 nm"))
    tifffile.imwrite(tmp_path / "a.ome.tif", movie(2), ome=True, metadata=metadata)
    assert "calls its only channel '647 nm'" in raw.registered([row(tmp_path / "a.ome.tif")]).warnings[0]


@pytest.mark.parametrize(
    ("channel", "said", "odd"),
    [
        ("membrane", "DAPI", True),
        ("membrane", "Membrane (far red)", False),
        ("membrane", "Default", False),
        ("membrane", "Channel:0:0", False),
        ("488nm", "EGFP", False),
        ("488nm", "Laser 640", True),
        ("GFP", "561 nm", False),
    ],
)
def test_what_the_file_calls_its_only_channel(tmp_path: Path, channel: str, said: str, odd: bool) -> None:
    metadata = dict(axes="TZYX", Channel=dict(Name=said))
    tifffile.imwrite(tmp_path / "a.ome.tif", movie(2), ome=True, metadata=metadata)
    assert bool(raw.registered([row(tmp_path / "a.ome.tif", channel=channel)]).warnings) == odd


@pytest.mark.parametrize(
    ("names", "channels"),
    [
        (("a_488nm_t{n}.tif", "a_560nm_t{n}.tif"), ("488", "560")),
        (("a_GFP_{n}.tif", "a_RFP_{n}.tif"), ("GFP", "RFP")),
        (("a_EGFP_{n}.tif", "a_mRFP_{n}.tif"), ("GFP", "RFP")),
        (("a_w1488_s1_t{n}.tif", "a_w2561_s1_t{n}.tif"), ("488nm", "561nm")),
        (("a_Laser488_t{n}.tif", "a_Laser561_t{n}.tif"), ("488", "561")),
        (("488/t{n}.tif", "560/t{n}.tif"), ("488 nm", "560nm")),
    ],
)
def test_rows_whose_paths_are_exchanged(
    tmp_path: Path, names: tuple[str, str], channels: tuple[str, str]
) -> None:
    data = [movie(3), movie(3, seed=1)]
    for name, own in zip(names, data, strict=True):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        series((tmp_path / name).parent, own, Path(name).name, range(3))
    globs = [tmp_path / name.format(n="*") for name in names]
    right = [row(glob, channel=channel) for glob, channel in zip(globs, channels, strict=True)]
    assert_is(frames_of(right, "fail"), data[0])
    assert raw.registered(right).warnings == []
    exchanged = [row(glob, channel=channel) for glob, channel in zip(globs[::-1], channels, strict=True)]
    message = raw.problem(exchanged)
    assert f"channel '{channels[0]}'" in message
    assert f"files whose names say '{channels[1]}'" in message
    # The other remedy: the names are wrong.
    said = [
        raw.problem(rows).partition("write '")[2].partition("'")[0] for rows in (exchanged, exchanged[::-1])
    ]
    meant = [r.model_copy(update=dict(file_channel=c)) for r, c in zip(exchanged, said, strict=True)]
    assert_is(frames_of(meant, "fail"), data[1])


def test_a_word_in_all_names_is_no_other_row(tmp_path: Path) -> None:
    series(tmp_path, movie(3), "cell_a_t{n}.tif", range(3))
    series(tmp_path, movie(3, seed=1), "cell_b_t{n}.tif", range(3))
    rows = [row(tmp_path / "cell_a*.tif", channel="cell"), row(tmp_path / "cell_b*.tif", channel="nuclei")]
    assert raw.problem(rows) == "none"


def test_names_that_say_another_wavelength_are_worth_a_word(tmp_path: Path) -> None:
    series(tmp_path, movie(3), "a_560nm_t{n}.tif", range(3))
    warnings = raw.registered([row(tmp_path / "a_*.tif", channel="488nm")]).warnings
    assert warnings == ["channel '488nm': the names of its files say '560'"]
    assert raw.registered([row(tmp_path / "a_*.tif", channel="GFP")]).warnings == []


@pytest.mark.parametrize("how", ["link to the folder", "links", "hard links", "spelling"])
def test_the_same_files_by_another_path_are_the_same_channel(tmp_path: Path, how: str) -> None:
    series(tmp_path / "raw", movie(3), "a_t{n}.tif", range(3))
    other = tmp_path / "other"
    if how == "link to the folder":
        other.symlink_to(tmp_path / "raw")
    elif how == "spelling":
        other = tmp_path / "raw" / ".." / "raw"
    else:
        other.mkdir()
        for file in (tmp_path / "raw").iterdir():
            make = (other / file.name).symlink_to if how == "links" else (other / file.name).hardlink_to
            make(file)
    rows = [row(tmp_path / "raw" / "*.tif", channel="a"), row(other / "*.tif", channel="b")]
    assert "the same one for the rows 'a' and 'b'" in raw.problem(rows)


def test_globs_that_share_a_file_are_no_two_channels(tmp_path: Path) -> None:
    series(tmp_path, movie(3), "a_t{n}.tif", range(3))
    rows = [row(tmp_path / "a_t[01].tif", channel="a"), row(tmp_path / "a_t[12].tif", channel="b")]
    assert "the same one for the rows 'a' and 'b'" in raw.problem(rows)


def test_numbers_as_spreadsheets_write_them(tmp_path: Path) -> None:
    one, other = movie(3), movie(3, seed=1)
    with tifffile.TiffWriter(tmp_path / "a.ome.tif", ome=True) as writer:
        for data in (one, other):
            metadata = dict(axes="TCZYX", Channel=dict(Name=["x", "y"]))
            writer.write(np.stack([data, data + 1], 1), photometric="minisblack", metadata=metadata)
    rows = [row(tmp_path / "a.ome.tif", position="1.0", file_channel="2.0")]
    assert_is(frames_of(rows, "fail"), other + 1)
    assert "channel '1.5' among them" in raw.problem(
        [row(tmp_path / "a.ome.tif", position="0", file_channel="1.5")]
    )


@pytest.mark.parametrize("numbers", [(3, 40, 41, 120), (0, 1, 6, 7)])
def test_numbers_that_may_count_no_frames_say_how_to_say_so(tmp_path: Path, numbers: Sequence[int]) -> None:
    series(tmp_path, movie(4), "x2_t{n}.tif", numbers)
    message = raw.problem([row(tmp_path / "*.tif")])
    assert "no file for time point" in message
    pattern = message.partition("'time_point': ")[2].split(" ")[0].rstrip(";")
    assert_is(frames_of([row(tmp_path / "*.tif", time_point=pattern)], "fail"), movie(4))


def test_the_hint_changes_a_pattern_of_the_user(tmp_path: Path) -> None:
    series(tmp_path, movie(4), "x2_t{n}.tif", (0, 10, 20, 30))
    message = raw.problem([row(tmp_path / "*.tif", time_point=r"_t(\d+)\.tif$")])
    assert r"_t(?P<order>\d+)\.tif$" in message


def test_times_of_a_long_movie_are_written_out(tmp_path: Path) -> None:
    for n in range(3):
        tifffile.imwrite(tmp_path / f"a_t{n}_{1234567890 * n}msec.tif", movie(3)[n], **PLAIN)
    record, table = raw.table_of([row(tmp_path / "*.tif", interval_s=None)])
    table.write(tmp_path / "acquisition.tsv", {})
    lines = (tmp_path / "acquisition.tsv").read_text().splitlines()[1:]
    assert [float(line.split("\t")[2]) for line in lines] == record.times_s == [0, 1234567.89, 2469135.78]


def test_large_numbers_are_written_out(tmp_path: Path) -> None:
    for position in (20240131, 20240207):
        series(tmp_path, movie(2), f"a_{position}_pos{{n}}.tif", range(2))
    assert "20240131, 20240207" in raw.problem([row(tmp_path / "*.tif")])


def test_a_folder_of_tiffs_with_other_things_in_it(tmp_path: Path) -> None:
    data = movie(3)
    series(tmp_path / "day", data, "a_t{n}.tif", range(3))
    for name in ("notes.txt", ".hidden.tif", "._a_t0.tif"):
        (tmp_path / "day" / name).write_text("x")
    (tmp_path / "day" / "MIPs").mkdir()
    rows = [row(tmp_path / "day")]
    assert_is(frames_of(rows, "fail"), data)
    unused = {Path(file).name: why for file, why in raw.table_of(rows)[1].unused.items()}
    assert unused == {"notes.txt": "not an image file", "MIPs": "folder that is no Zarr store"}


def imagej(path: Path, per_um: float, unit_tag: int | None = None, **metadata: object) -> MovieRecord:
    options: dict[str, Any] = dict(resolutionunit=unit_tag) if unit_tag else {}
    metadata = dict(axes="TZYX", finterval=2.0) | metadata
    tifffile.imwrite(path, movie(2), imagej=True, resolution=(per_um, per_um), metadata=metadata, **options)
    return raw.registered([row(path, pixel_um=None, step_um=None, interval_s=None)])


@pytest.mark.parametrize(
    ("per_um", "tag", "metadata"),
    [
        (1 / 0.104, None, dict(unit="um", spacing=0.25)),
        (1 / 104, None, dict(unit="nm", spacing=250)),
        (1 / 0.104e-4, None, dict(unit="cm", spacing=0.25e-4)),
        (1 / 0.104e-4, 3, dict(unit="um", spacing=0.25)),
        (1 / 0.104, None, dict(unit="micron", zunit="nm", spacing=250)),
        (25400 / 0.104, None, dict(unit="inch", zunit="mm", spacing=0.25e-3)),
    ],
)
def test_units_of_imagej(tmp_path: Path, per_um: float, tag: int | None, metadata: dict[str, object]) -> None:
    record = imagej(tmp_path / "a.tif", per_um, tag, **metadata)
    assert record.acquisition is not None, record.problem
    assert (record.acquisition.pixel_um, record.acquisition.step_um) == pytest.approx((0.104, 0.25))


def sizes(path: Path, **changes: object) -> dict[str, Any]:
    metadata = dict(
        axes="TZYX", PhysicalSizeX=0.104, PhysicalSizeY=0.104, PhysicalSizeZ=0.25, TimeIncrement=2.0
    )
    tifffile.imwrite(path, movie(2), ome=True, metadata=metadata | changes)
    return dict(pixel_um=None, step_um=None, interval_s=None)


def test_sizes_of_one_are_placeholders(tmp_path: Path) -> None:
    path = tmp_path / "a.ome.tif"
    ones = dict.fromkeys(("PhysicalSizeX", "PhysicalSizeY", "PhysicalSizeZ", "TimeIncrement"), 1.0)
    blank = sizes(path, **ones)
    message = raw.problem([row(path, **blank)])
    assert "no value for pixel_um, step_um, interval_s" in message
    assert "are placeholders" in message
    assert raw.registered([row(path)]).warnings == []
    sizes(path, TimeIncrement=1.0)
    assert "exactly 1 s" in raw.registered([row(path, **blank)]).warnings[0]


@pytest.mark.parametrize(
    ("name", "um"), [("PhysicalSizeZ", 0.01), ("PhysicalSizeX", 104), ("PhysicalSizeX", 0.004)]
)
def test_sizes_that_no_light_sheet_has_must_be_confirmed(tmp_path: Path, name: str, um: float) -> None:
    path = tmp_path / "a.ome.tif"
    both = {"PhysicalSizeY": um} if name == "PhysicalSizeX" else {}
    blank = sizes(path, **{name: um}, **both)
    assert f"= {um:g} µm (OME-XML of a.ome.tif)" in raw.problem([row(path, **blank)])


@pytest.mark.parametrize(
    ("column", "value", "remedy"),
    [
        ("step_um", 400, "400 nm are 0.4"),
        ("pixel_um", 104, "104 nm are 0.104"),
        ("step_um", 4e-4, "0.0004 mm"),
    ],
)
def test_slips_of_units_in_the_sheet(tmp_path: Path, column: str, value: float, remedy: str) -> None:
    sizes(tmp_path / "a.ome.tif")
    assert remedy in raw.problem([row(tmp_path / "a.ome.tif", **{column: value})])
    assert "unusual" in raw.registered([row(tmp_path / "a.ome.tif", pixel_um=3.0)]).warnings[-1]


CLOCK = "c_stack{n:04d}_{ms:010d}msecAbs.tif"


@pytest.mark.parametrize(
    ("interval", "times"), [(None, [0, 2, 4, 64]), (2.05, [0, 2, 4, 64]), (5.0, [0, 5, 10, 15])]
)
def test_frames_have_the_times_of_the_clock(
    tmp_path: Path, interval: float | None, times: list[float]
) -> None:
    for point, seconds in enumerate((0, 2, 4, 64)):
        tifffile.imwrite(tmp_path / CLOCK.format(n=point, ms=9000 + 1000 * seconds), movie(1)[0], **PLAIN)
    record = raw.registered([row(tmp_path / "c_*.tif", interval_s=interval)])
    assert record.times_s == times
    assert record.acquisition is not None
    assert record.acquisition.interval_s == (interval or 2.0)
    assert any("is used, not 2.0" in warning for warning in record.warnings) == (interval == 5.0)


def test_times_of_frames_that_are_missing(tmp_path: Path) -> None:
    """Between two frames in proportion; before the first and after the last by the interval."""
    for point in (1, 2, 4):
        tifffile.imwrite(
            tmp_path / CLOCK.format(n=point, ms=2000 * point + (point == 4)), movie(1)[0], **PLAIN
        )
    series(tmp_path, movie(6), "d_stack{n:04d}.tif", range(6))
    rows = [
        row(tmp_path / "c_*.tif", interval_s=None),
        row(tmp_path / "d_*.tif", channel="b", interval_s=None),
    ]
    record = raw.registered(rows, "skip")
    assert list(record.skipped) == [0, 3, 5]
    assert record.times_s == pytest.approx([0, 2, 4, 6.0005, 8.001, 10.001])


def test_the_table_is_read_as_it_was_written(tmp_path: Path) -> None:
    folder = tmp_path / "a\tb\\n ü"
    folder.mkdir()
    data = movie(3)
    series(folder, data, "a_t{n}.tif", range(3))
    (folder / "a_t1.tif").write_bytes(b"II*")
    record, table = raw.table_of([row(folder / "a_t*.tif")], "skip")
    table.write(tmp_path / "acquisition.tsv", record.skipped)
    again = AcquisitionTable.read(tmp_path / "acquisition.tsv")
    assert (again.stacks, again.frames, again.channels) == (table.stacks, 3, ("488nm",))
    assert list(again.left_out) == [(1, 0)]
    (tmp_path / "acquisition.tsv").write_text("frame\tchannel\n0\ta\n")
    with pytest.raises(ValueError, match="table that cannot be read"):
        AcquisitionTable.read(tmp_path / "acquisition.tsv")


def test_a_digit_that_is_a_name_and_a_number_is_refused_with_both(tmp_path: Path) -> None:
    data = np.stack([movie(2, seed=s) for s in range(3)], axis=1)
    tifffile.imwrite(
        tmp_path / "a.ome.tif",
        data,
        ome=True,
        photometric="minisblack",
        metadata={"axes": "TCZYX", "Channel": {"Name": ["0", "1", "2"]}},
    )
    path = tmp_path / "a.ome.tif"
    assert "its number from #1 to #3" in raw.problem([row(path)])
    message = raw.problem([row(path, file_channel="1")])
    assert "Write '#2' for the one that is called so, '#1' for the other" in message
    for cell, channel in (("0", 0), ("#1", 0), ("#2", 1), ("#3", 2)):
        assert_is(frames_of([row(path, file_channel=cell)], "fail"), data[:, channel])


def test_images_that_are_time_points_are_offered_as_such_where_axes_can_say_so(tmp_path: Path) -> None:
    data = movie(4)
    for stack in data:
        tifffile.imwrite(tmp_path / "grown.tif", stack, append=True, photometric="minisblack")
    assert "say so in 'axes': t4z5yx." in raw.problem([row(tmp_path / "grown.tif")])
    assert_is(frames_of([row(tmp_path / "grown.tif", axes="t4z5yx")]), data)
    # The planes of two images that lie between each other are not cut into time points.
    planes = data[:2].swapaxes(0, 1)
    images = "".join(
        raw.ome_image(f"{n}", 1, "".join(f'<TiffData FirstZ="{z}" IFD="{2 * z + n}"/>' for z in range(5)))
        for n in range(2)
    )
    raw.write_ome(tmp_path / "a.ome.tif", planes, images)
    message = raw.problem([row(tmp_path / "a.ome.tif")])
    assert "2 images (positions)" in message
    assert "axes" not in message
    assert_is(frames_of([row(tmp_path / "a.ome.tif", position="1")]), data[1:2])
    # Nor are arrays of a Zarr store, of which axes say what each is.
    group = zarr.open_group(tmp_path / "a.zarr", mode="w")
    for t, stack in enumerate(data):
        group.create_array(f"t{t}", data=stack).attrs["_ARRAY_DIMENSIONS"] = ["z", "y", "x"]
    message = raw.problem([row(tmp_path / "a.zarr")])
    assert "join them into one image with a time axis" in message
    assert "axes" not in message
