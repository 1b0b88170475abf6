"""TIFF files of every kind that laboratories have: containers, compressions, names, parts of a stack."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import raw
import tifffile

from spatialdino_core.errors import BadInputError
from spatialdino_core.movies.formats.image import Region
from spatialdino_core.movies.record import MovieRecord
from spatialdino_core.movies.register import check_content
from spatialdino_core.movies.source import FrameSource

SHAPE = (5, 40, 72)
PART: Region = (slice(1, 4), slice(8, 31), slice(None, 17))
row = raw.sheet_row


def source(path: Path, **changes: object) -> FrameSource:
    return raw.sources([row(path, **changes)])[0]


def registered(path: Path, **changes: object) -> MovieRecord:
    return raw.registered([row(path, **changes)])


def frames_of(path: Path, **changes: object) -> int:
    return raw.registered([row(path, **changes)], "skip").frames


def problem(path: Path) -> str:
    return registered(path).problem or "none"


def stack(frame: int, shape: tuple[int, ...] = SHAPE) -> np.ndarray:
    return np.random.default_rng(frame).integers(90, 200, shape).astype(np.uint16)


KINDS: dict[str, dict[str, Any]] = {
    "plain": dict(metadata=None),
    "bigtiff": dict(bigtiff=True),
    "big-endian": dict(byteorder=">"),
    "strips": dict(rowsperstrip=8, metadata=None),
    "tiles": dict(tile=(16, 32)),
    "zlib": dict(compression="zlib"),
    "zlib with predictor": dict(compression="zlib", predictor=True, rowsperstrip=16),
    "lzw": dict(compression="lzw"),
    "zstd": dict(compression="zstd", byteorder=">"),
    "imagej": dict(imagej=True, metadata=dict(axes="ZYX")),
    "ome": dict(ome=True, metadata=dict(axes="ZYX")),
}


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_tiff_is_read_whole_and_in_part(tmp_path: Path, kind: str) -> None:
    for frame in range(2):
        tifffile.imwrite(tmp_path / f"a_t{frame}.tif", stack(frame), photometric="minisblack", **KINDS[kind])
    assert registered(tmp_path / "a_t*.tif").problem is None
    # A series, and a single file (whose time axis has one point).
    for path in (tmp_path / "a_t*.tif", tmp_path / "a_t1.tif"):
        record, frames = registered(path), source(path)
        last = record.frames - 1
        assert (record.shape_zyx, record.dtype) == (SHAPE, "uint16")
        np.testing.assert_array_equal(frames.read(last), stack(1))
        np.testing.assert_array_equal(frames.read(last, PART), stack(1)[PART])
        assert frames.read(last).dtype == np.dtype("uint16")


@pytest.mark.parametrize("axes", ["TZCYX", "TCZYX", "CTZYX", "ZTCYX"])
@pytest.mark.parametrize("kind", [dict(), dict(compression="zlib")])
def test_parts_of_a_movie_in_one_file(tmp_path: Path, axes: str, kind: dict[str, Any]) -> None:
    counts = dict(T=3, Z=4, C=2, Y=40, X=72)
    data = stack(0, tuple(counts[axis] for axis in axes))
    tifffile.imwrite(tmp_path / "m.ome.tif", data, ome=True, metadata=dict(axes=axes), **kind)
    rows = [row(tmp_path / "m.ome.tif", channel=f"c{number}", file_channel=number) for number in "12"]
    expected = data.transpose([axes.index(axis) for axis in "TCZYX"])
    for channel, frames in enumerate(raw.sources(rows)):
        np.testing.assert_array_equal(frames.read(2), expected[2, channel])
        np.testing.assert_array_equal(frames.read(1, PART), expected[1, channel][PART])


def test_an_imagej_hyperstack_with_time_and_channels(tmp_path: Path) -> None:
    data = stack(0, (3, 4, 2, 40, 72))
    metadata = dict(axes="TZCYX", unit="\\u00B5m", spacing=0.25, finterval=1.5)
    tifffile.imwrite(tmp_path / "m.tif", data, imagej=True, resolution=(1 / 0.1, 1 / 0.1), metadata=metadata)
    blank = dict(pixel_um=None, step_um=None, interval_s=None)
    rows = [
        row(tmp_path / "m.tif", channel=c, file_channel=n, scan="none", **blank)
        for c, n in (("a", "1"), ("b", "2"))
    ]
    record = raw.registered(rows)
    assert record.problem is None
    assert record.acquisition is not None
    assert (record.frames, record.shape_zyx) == (3, (4, 40, 72))
    assert record.acquisition.pixel_um == pytest.approx(0.1)
    assert (record.acquisition.step_um, record.acquisition.interval_s) == (0.25, 1.5)
    np.testing.assert_array_equal(raw.sources(rows)[1].read(2), data[2, :, 1])


def test_a_series_whose_files_hold_two_channels(tmp_path: Path) -> None:
    for frame in range(2):
        data = stack(frame, (5, 2, 40, 72))
        tifffile.imwrite(tmp_path / f"m_t{frame}.tif", data, imagej=True, metadata=dict(axes="ZCYX"))
    rows = [row(tmp_path / "m_t*.tif", channel=f"c{number}", file_channel=number) for number in "12"]
    np.testing.assert_array_equal(raw.sources(rows)[1].read(1), stack(1, (5, 2, 40, 72))[:, 1])


@pytest.mark.parametrize("axes", ["TYX", "CYX"])
def test_the_only_axis_of_a_stack_in_a_series_is_z(tmp_path: Path, axes: str) -> None:
    """ImageJ calls the planes of a stack frames or channels, unless it was told what they are."""
    for frame in range(2):
        tifffile.imwrite(tmp_path / f"m_t{frame}.tif", stack(frame), imagej=True, metadata=dict(axes=axes))
    assert registered(tmp_path / "m_t*.tif").shape_zyx == SHAPE
    np.testing.assert_array_equal(source(tmp_path / "m_t*.tif").read(1), stack(1))


def test_122_unpadded_time_points_with_a_gap(tmp_path: Path) -> None:
    for point in range(1, 123):
        if point != 57:
            tifffile.imwrite(tmp_path / f"Cell1 T{point}.tif", stack(point, (2, 4, 5)))
    frames = source(tmp_path / "Cell1 T*.tif")
    assert frames_of(tmp_path / "Cell1 T*.tif") == 122
    assert [n for n in range(122) if frames.stamp(n) is None] == [56]
    for frame in (0, 8, 9, 98, 99, 121):
        np.testing.assert_array_equal(frames.read(frame), stack(frame + 1, (2, 4, 5)))


@pytest.mark.parametrize("folder", ["with space", "Zellkörper µm", "exp [1] (new)", "a*b", "細胞"])
def test_folders_with_any_name(tmp_path: Path, folder: str) -> None:
    place = tmp_path / folder
    place.mkdir()
    for frame in range(2):
        tifffile.imwrite(place / f"cell [x]_t{frame}.tif", stack(frame))
    for path in (place / "cell*_t*.tif", place / "cell [x]_t*.tif"):
        assert registered(path).frames == 2
        np.testing.assert_array_equal(source(path).read(1), stack(1))
    np.testing.assert_array_equal(source(place / "cell [x]_t1.tif").read(0), stack(1))


def test_brackets_still_choose_between_letters(tmp_path: Path) -> None:
    folder = tmp_path / "day [1]"
    folder.mkdir()
    (tmp_path / "day 1").mkdir()
    for letter in "abc":
        (folder / f"cell_{letter}.tif").touch()
        (tmp_path / "day 1" / f"cell_{letter}.tif").touch()
    assert row(folder / "cell_[ac].tif").files() == [folder / "cell_a.tif", folder / "cell_c.tif"]


def test_frames_of_different_dtypes(tmp_path: Path) -> None:
    for frame in range(3):
        tifffile.imwrite(
            tmp_path / f"a_t{frame}.tif", stack(frame).astype("uint8" if frame == 1 else "uint16")
        )
    message = problem(tmp_path / "a_t*.tif")
    assert "frame 1" in message
    assert "uint8" in message
    assert "uint16" in message


def test_a_float_movie_with_nan_is_refused_where_it_is_read(tmp_path: Path) -> None:
    for frame in range(2):
        data = stack(frame).astype(np.float32)
        data[2, 3, 4] = np.nan if frame else 1
        tifffile.imwrite(tmp_path / f"a_t{frame}.tif", data)
    frames = source(tmp_path / "a_t*.tif")
    assert registered(tmp_path / "a_t*.tif").dtype == "float32"
    check_content(0, frames.read(0), "movie a")
    with pytest.raises(BadInputError, match="movie a, frame 1: found 1 voxels that are NaN"):
        check_content(1, frames.read(1), "movie a")


@pytest.mark.parametrize("dtype", ["int16", ">i2", "int32", "uint32", "float32", "float64", ">f4"])
@pytest.mark.parametrize("compression", [None, "zlib"])
def test_every_type_of_number_is_read_in_native_order(
    tmp_path: Path, dtype: str, compression: str | None
) -> None:
    kind = np.dtype(dtype)
    tifffile.imwrite(
        tmp_path / "a_t0.tif",
        stack(0).astype(kind),
        byteorder=">" if dtype[0] == ">" else "<",
        compression=compression,
        photometric="minisblack",
    )
    voxels = source(tmp_path / "a_t0.tif").read(0)
    assert voxels.dtype == kind.newbyteorder("=")
    np.testing.assert_array_equal(voxels, stack(0))


def test_complex_numbers_are_no_counts(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a_t0.tif", stack(0).astype(np.complex64), photometric="minisblack")
    assert "voxels of type complex64" in problem(tmp_path / "a_t0.tif")


@pytest.mark.parametrize("shape", [(40, 72), (1, 40, 72)])
def test_a_stack_of_one_plane(tmp_path: Path, shape: tuple[int, ...]) -> None:
    tifffile.imwrite(tmp_path / "a_t0.tif", stack(0, shape))
    message = problem(tmp_path / "a_t*.tif")
    assert "found stacks of 1 plane; expected at least 2 planes per time point" in message


def test_a_page_of_another_shape_is_not_part_of_the_stack(tmp_path: Path) -> None:
    """Some programs append a thumbnail."""
    for frame in range(2):
        with tifffile.TiffWriter(tmp_path / f"a_t{frame}.tif") as writer:
            writer.write(stack(frame), photometric="minisblack", metadata=None)
            writer.write(stack(frame, (10, 12)), photometric="minisblack", metadata=None)
    assert registered(tmp_path / "a_t*.tif").shape_zyx == SHAPE
    np.testing.assert_array_equal(source(tmp_path / "a_t*.tif").read(1), stack(1))


@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize("colour", [True, False])
@pytest.mark.parametrize("axes", [None, "zyx", "z5yx"])
def test_a_picture_before_or_after_the_planes_is_none_of_them(
    tmp_path: Path, first: bool, colour: bool, axes: str | None
) -> None:
    picture = np.zeros((10, 12, 3), np.uint8) if colour else stack(9, (10, 12))
    for frame in range(2):
        with tifffile.TiffWriter(tmp_path / f"a_t{frame}.tif") as writer:
            for is_picture in (True, False) if first else (False, True):
                if is_picture:
                    kind = "rgb" if colour else "minisblack"
                    writer.write(picture, photometric=kind, metadata=None)
                else:
                    writer.write(stack(frame), photometric="minisblack", metadata=None)
    for frame in range(2):
        found = source(tmp_path / "a_t*.tif", axes=axes).read(frame, PART)
        np.testing.assert_array_equal(found, stack(frame)[PART])
    wrong = raw.problem([row(tmp_path / "a_t*.tif", axes="t2z7yx")])
    assert "found 5 planes, and 1 pages of another shape or type" in wrong


@pytest.mark.parametrize("odd", [(10, 12), (80, 72), (40, 70)])
@pytest.mark.parametrize("places", [(7,), (2, 6), (0, 5), (3, 9)])
@pytest.mark.parametrize("per_page", [dict(), dict(compression="zlib"), dict(tile=(16, 16))])
def test_pictures_in_the_middle_are_left_out(
    tmp_path: Path, odd: tuple[int, int], places: tuple[int, ...], per_page: dict[str, Any]
) -> None:
    data = np.concatenate([stack(0), stack(1)])
    with tifffile.TiffWriter(tmp_path / "a.tif") as writer:
        for number, plane in enumerate(data):
            pictures = [np.ones(odd, np.uint16)] if number in places else []
            for page in [*pictures, plane]:
                writer.write(page, photometric="minisblack", metadata=None, contiguous=False, **per_page)
    np.testing.assert_array_equal(source(tmp_path / "a.tif", axes="t2z5yx").read(1, PART), stack(1)[PART])
    if len(places) == 1:
        np.testing.assert_array_equal(source(tmp_path / "a.tif", interval_s=None).read(0), data)
        return
    # Several could be stacks of their own.
    assert "found 2 images (positions)" in problem(tmp_path / "a.tif")
    number = "1" if 0 in places else "0"
    np.testing.assert_array_equal(source(tmp_path / "a.tif", position=number).read(0), data)


def test_an_rgb_picture_is_no_stack(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", stack(0, (40, 72, 3)).astype(np.uint8), photometric="rgb")
    message = problem(tmp_path / "a.tif")
    assert "pictures in colour (RGB)" in message
    assert "not as RGB" in message
    assert "Copy it again" not in message


@pytest.mark.parametrize("kind", ["imagej", "ome"])
def test_fewer_planes_than_the_metadata_promise(tmp_path: Path, kind: str) -> None:
    """Written plane by plane and never finished, with every directory in order."""
    whole, path = tmp_path / "whole.tif", tmp_path / "a_t0.tif"
    tifffile.imwrite(whole, stack(0), photometric="minisblack", **KINDS[kind])
    with tifffile.TiffFile(whole) as tif:
        description = tif.pages.first.description
    with tifffile.TiffWriter(path) as writer:
        for n, plane in enumerate(stack(0)[:3]):
            writer.write(
                plane,
                contiguous=False,
                photometric="minisblack",
                metadata=None,
                description=description if n == 0 else None,
            )
    message = problem(path)
    assert "a_t0.tif: 3 of 5 planes (" in message


@pytest.mark.parametrize("kind", ["imagej", "plain"])
def test_a_whole_stack_in_one_block_that_is_cut(tmp_path: Path, kind: str) -> None:
    """Big ImageJ files have one directory for all planes: only the metadata know how many there should be."""
    path = tmp_path / "a_t0.tif"
    options = KINDS["imagej"] if kind == "imagej" else dict(photometric="minisblack")
    tifffile.imwrite(path, stack(0), truncate=True, **options)
    with tifffile.TiffFile(path) as tif:
        assert len(tif.pages) == 1
    np.testing.assert_array_equal(source(path).read(0, PART), stack(0)[PART])
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    message = problem(path)
    assert "truncated" in message
    assert path.name in message


@pytest.mark.parametrize("content", [b"", b"not a tiff at all", b"II*\x00\x08\x00\x00\x00"])
def test_what_is_no_tiff(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a_t0.tif").write_bytes(content)
    assert "a_t0.tif: found a file that cannot be read" in problem(tmp_path / "a_t0.tif")


def test_a_wreck_at_the_beginning_is_one_bad_frame_among_others(tmp_path: Path) -> None:
    for frame in range(3):
        tifffile.imwrite(tmp_path / f"a_t{frame}.tif", stack(frame), metadata=None)
    (tmp_path / "a_t0.tif").write_bytes(b"II*")
    record = raw.registered([row(tmp_path / "a_t*.tif")], "skip")
    assert (record.problem, record.frames, list(record.skipped)) == (None, 3, [0])
    assert "a_t0.tif: a file that cannot be read" in problem(tmp_path / "a_t*.tif")


@pytest.mark.parametrize("kind", [dict(), dict(compression="zlib")])
def test_an_empty_part(tmp_path: Path, kind: dict[str, Any]) -> None:
    tifffile.imwrite(tmp_path / "a_t0.tif", stack(0), metadata=None, **kind)
    nothing = (slice(3, 3), slice(None), slice(4))
    assert source(tmp_path / "a_t0.tif").read(0, nothing).shape == (0, 40, 4)


def test_three_planes_that_were_taken_for_colours(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", stack(0, (3, 40, 72)), photometric="rgb", compression="zlib")
    np.testing.assert_array_equal(source(tmp_path / "a.tif").read(0, PART), stack(0, (3, 40, 72))[PART])


def test_reading_a_part_decodes_only_its_planes(tmp_path: Path) -> None:
    path = tmp_path / "a_t0.tif"
    tifffile.imwrite(path, stack(0), compression="zlib", metadata=None)
    frames = source(path)
    with tifffile.TiffFile(path) as tif:
        places = [(page.dataoffsets[0], page.databytecounts[0]) for page in tif.pages]
    content = bytearray(path.read_bytes())
    for offset, count in places[:2] + places[4:]:
        content[offset : offset + count] = bytes(count)
    path.write_bytes(content)
    part: Region = (slice(2, 4), slice(None), slice(None))
    np.testing.assert_array_equal(frames.read(0, part), stack(0)[part])
    with pytest.raises(BadInputError, match="cannot be read"):
        frames.read(0)


def test_thumbnails_between_the_planes_are_no_planes(tmp_path: Path) -> None:
    """Zeiss LSM files hold one after each plane."""
    with tifffile.TiffWriter(tmp_path / "a.tif") as writer:
        for plane in stack(0):
            writer.write(plane, photometric="minisblack", metadata=None, contiguous=False)
            writer.write(
                plane[:8, :8], photometric="minisblack", metadata=None, contiguous=False, subfiletype=1
            )
    assert registered(tmp_path / "a.tif").shape_zyx == SHAPE
    np.testing.assert_array_equal(source(tmp_path / "a.tif").read(0), stack(0))


def test_signed_counts_of_imagej(tmp_path: Path) -> None:
    """Fiji stores them plus 32,768, and says so as a calibration."""
    data = (stack(3) % 3000).astype(np.int16)
    signs = dict(axes="ZYX", cf=0, c0=-32768, c1=1)
    kept = (data.astype(np.int32) + 32768).astype(np.uint16)
    tifffile.imwrite(tmp_path / "a.tif", kept, imagej=True, metadata=signs)
    record = raw.registered([row(tmp_path / "a.tif", interval_s=None)])
    assert record.dtype == "int16"
    np.testing.assert_array_equal(source(tmp_path / "a.tif", interval_s=None).read(0, PART), data[PART])


@pytest.mark.parametrize("compression", [None, "zlib"])
def test_a_page_of_another_type_among_the_planes(tmp_path: Path, compression: str | None) -> None:
    for t in range(3):
        with tifffile.TiffWriter(tmp_path / f"a_t{t}.tif") as writer:
            for z, plane in enumerate(stack(t)):
                odd = plane.astype(np.uint8) if (t, z) == (2, 1) else plane
                writer.write(odd, photometric="minisblack", metadata=None, compression=compression)
    assert "a_t2.tif" in raw.problem([row(tmp_path / "a_t*.tif")])


def test_planes_that_were_appended_one_by_one(tmp_path: Path) -> None:
    for t in range(2):
        for plane in stack(t):
            tifffile.imwrite(tmp_path / f"a_t{t}.tif", plane, append=True, photometric="minisblack")
    for t in range(2):
        np.testing.assert_array_equal(source(tmp_path / "a_t*.tif").read(t), stack(t))


def test_an_acquisition_that_stopped_in_its_last_time_point(tmp_path: Path) -> None:
    flat = np.concatenate([stack(t) for t in range(3)])[:-2]
    tifffile.imwrite(tmp_path / "a.tif", flat, photometric="minisblack", metadata=None)
    planes = len(stack(0))
    rows = [row(tmp_path / "a.tif", axes=f"t3z{planes}yx")]
    assert f"{planes - 2} of {planes} planes" in raw.problem(rows)
    record = raw.registered(rows, "skip")
    assert (record.frames, list(record.skipped)) == (3, [2])
    assert "Correct 'axes'" in raw.problem([row(tmp_path / "a.tif", axes=f"t4z{planes}yx")])


def test_a_link_that_leads_nowhere_is_a_time_point(tmp_path: Path) -> None:
    for t in range(3):
        tifffile.imwrite(tmp_path / f"a_t{t}.tif", stack(t), photometric="minisblack", metadata=None)
    (tmp_path / "a_t3.tif").symlink_to("gone.tif")
    assert "a_t3.tif" in raw.problem([row(tmp_path / "a_t*.tif")])
    assert list(raw.registered([row(tmp_path / "a_t*.tif")], "skip").skipped) == [3]
    (tmp_path / "a_t3.tif").unlink()
    (tmp_path / "a_t3.tif").symlink_to("a_t2.tif")
    assert "the same file under two names" in raw.problem([row(tmp_path / "a_t*.tif")])
    (tmp_path / "a_t3.tif").unlink()
    (tmp_path / "a_t3.tif.part").touch()
    assert "not finished" in raw.problem([row(tmp_path)])
    assert raw.problem([row(tmp_path / "*.tif")]) == "none"


def test_pages_that_are_coded_in_different_ways(tmp_path: Path) -> None:
    """One after the other as a whole would be decoded in the way of the first."""
    data = stack(0)
    with tifffile.TiffWriter(tmp_path / "a.tif") as writer:
        for plane, how in zip(data, ("zlib", "lzw", None, "zstd", "zlib"), strict=True):
            kind = dict(compression=how, predictor=how == "lzw", tile=(16, 16))
            writer.write(plane, metadata=None, contiguous=False, **kind)
    path = tmp_path / "a.tif"
    np.testing.assert_array_equal(source(path, axes="zyx").read(0), data)
    np.testing.assert_array_equal(source(path, axes="zyx").read(0, PART), data[PART])


def test_a_page_of_another_shape_or_type_in_the_middle(tmp_path: Path) -> None:
    """Of the same width and in as many strips: the library takes it for one like the first."""
    for name, odd in (("longer", np.ones((80, 72), np.uint16)), ("type", np.ones((40, 72), np.int16))):
        with tifffile.TiffWriter(tmp_path / f"{name}.tif") as writer:
            for number in range(5):
                writer.write(odd if number == 2 else stack(0)[0], metadata=None, contiguous=False)
        record = registered(tmp_path / f"{name}.tif", axes="z5yx")
        assert "found 4 planes, and 1 pages of another shape or type" in (record.problem or "")


def test_a_page_that_announces_more_tiles_than_it_names(tmp_path: Path) -> None:
    """Those that have no place would be read as zeros."""
    with tifffile.TiffWriter(tmp_path / "a.tif") as writer:
        for plane in stack(0):
            writer.write(plane, metadata=None, contiguous=False, tile=(64, 80), compression="zlib")
    with tifffile.TiffFile(tmp_path / "a.tif", mode="r+b") as tif:
        for page in tif.pages:
            page.tags["ImageLength"].overwrite(100)
    assert "truncated" in (registered(tmp_path / "a.tif", axes="z5yx").problem or "")


def test_tiles_that_are_far_larger_than_the_plane(tmp_path: Path) -> None:
    """They would be decoded as a whole."""
    with tifffile.TiffWriter(tmp_path / "a.tif") as writer:
        for plane in stack(0):
            writer.write(plane, metadata=None, contiguous=False, tile=(64, 80), compression="zlib")
    with tifffile.TiffFile(tmp_path / "a.tif", mode="r+b") as tif:
        for page in tif.pages:
            page.tags["TileLength"].overwrite(60_000)
            page.tags["TileWidth"].overwrite(60_000)
    assert "truncated" in (registered(tmp_path / "a.tif", axes="z5yx").problem or "")


@pytest.mark.parametrize("ending", [".nd2", ".dcimg", ".klb", ".vsi", ".mrc", ".npy", ".raw", ".zip", ".xyz"])
def test_a_file_of_another_format_is_to_be_converted(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"a{ending}"
    if ending == ".vsi":  # its TIFF holds a picture; the planes lie elsewhere
        tifffile.imwrite(path, stack(0), photometric="minisblack")
    else:
        path.write_bytes(b"DCAM" + bytes(3000))
    matched = [path] if ending == ".xyz" else [path, tmp_path, tmp_path / f"*{ending}"]
    for named in matched:
        message = problem(named)
        assert f"{path}: found a {ending} file, which is not read" in message
        assert "Convert it" in message


def test_a_folder_of_another_format_is_to_be_converted(tmp_path: Path) -> None:
    (tmp_path / "a.n5").mkdir()
    (tmp_path / "a.n5" / "attributes.json").touch()
    assert "found a .n5 file, which is not read" in problem(tmp_path / "a.n5")


def test_a_tiff_under_another_ending_is_what_it_holds(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.xyz", stack(0), photometric="minisblack")
    np.testing.assert_array_equal(source(tmp_path / "a.xyz").read(0), stack(0))


@pytest.mark.parametrize("path", ["e_w1488_s1_t*.stk", "."])
def test_a_series_of_metamorph_stacks(tmp_path: Path, path: str) -> None:
    """One directory for all planes, and a list with an entry for each."""
    for t in range(3):
        (tmp_path / f"e_w1488_s1_t{t + 1}.stk").write_bytes(metamorph(stack(t)))
    for t in range(3):
        np.testing.assert_array_equal(source(tmp_path / path).read(t), stack(t))
    np.testing.assert_array_equal(source(tmp_path / "e_w1488_s1_t2.stk", interval_s=None).read(0), stack(1))


def metamorph(planes: np.ndarray) -> bytes:
    """An STK file."""
    depth, height, width = planes.shape
    voxels = planes.astype("<u2").tobytes()
    lists = 8 + len(voxels)
    uic2 = b"".join(struct.pack("<6I", 4, 10, 2460000, 1000 * z, 2460000, 0) for z in range(depth))
    directory = lists + len(uic2) + 8
    tags = [(256, 4, 1, width), (257, 4, 1, height), (258, 3, 1, 16), (259, 3, 1, 1), (262, 3, 1, 1)]
    tags += [(273, 4, 1, 8), (277, 3, 1, 1), (278, 4, 1, height), (279, 4, 1, 2 * height * width)]
    tags += [(33628, 4, depth, lists + len(uic2)), (33629, 5, depth, lists)]
    entries = b"".join(struct.pack("<HHII", *tag) for tag in tags)
    head = struct.pack("<2sHI", b"II", 42, directory)
    return head + voxels + uic2 + bytes(8) + struct.pack("<H", len(tags)) + entries + bytes(4)
