"""Readers and register: real containers written by other libraries, and every way they can be bad."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import tifffile
import zarr

from spatialdino_core.errors import BadInputError
from spatialdino_core.movies.parameters import ReadingParameters
from spatialdino_core.movies.record import MovieRecord
from spatialdino_core.movies.register import check_content, open_channels, register_movie
from spatialdino_core.movies.sheet import SheetRow

SHAPE = (4, 5, 6)

READING = ReadingParameters()


def row(path: Path, **changes: object) -> SheetRow:
    values = dict(movie="a", channel="488nm", path=str(path), scan="stage", angle_deg=31.5, step_um=0.4)
    values |= dict(pixel_um=0.104, interval_s=2.0, skew_axis="x", scan_sign=1, train="no")
    return SheetRow(**(values | changes))  # type: ignore[arg-type]


def stack(frame: int, shape: tuple[int, ...] = SHAPE) -> np.ndarray:
    return np.random.default_rng(frame).integers(90, 200, shape).astype(np.uint16)


@pytest.fixture
def series(tmp_path: Path) -> Path:
    """A TIFF series of four time points with acquisition-style names; returns its glob."""
    for frame in range(4):
        name = f"cell_ch0_stack{frame:04}_488nm_{frame * 2000:07}msec_{frame * 2000:010}msecAbs.tif"
        tifffile.imwrite(tmp_path / name, stack(frame), photometric="minisblack")
    return tmp_path / "cell_ch0_*.tif"


def file_of(series: Path, frame: int) -> Path:
    return next(series.parent.glob(f"*stack{frame:04}*"))


def problem(series: Path, **changes: object) -> str:
    record = register_movie([row(series, **changes)], READING, "fail")
    assert record.problem is not None
    return record.problem


def test_a_series_is_read_in_order_of_time(series: Path) -> None:
    record = register_movie([row(series)], READING, "fail")
    assert record.problem is None
    assert (record.frames, record.shape_zyx, record.dtype) == (4, SHAPE, "uint16")
    source = open_channels([row(series)], READING)[0]
    for frame in range(4):
        np.testing.assert_array_equal(source.read(frame), stack(frame))


def test_unpadded_time_points_are_ordered_by_number(tmp_path: Path) -> None:
    for point in (1, 2, 10, 3, 4, 5, 6, 7, 8, 9):
        tifffile.imwrite(tmp_path / f"cell_T{point}.tif", stack(point), photometric="minisblack")
    source = open_channels([row(tmp_path / "cell_T*.tif")], READING)[0]
    assert len(source) == 10
    np.testing.assert_array_equal(source.read(9), stack(10))


def test_the_record_survives_its_file(series: Path, tmp_path: Path) -> None:
    file_of(series, 2).unlink()
    record = register_movie([row(series)], READING, "skip")
    record.write(tmp_path / "movie.json")
    assert MovieRecord.read(tmp_path / "movie.json") == record
    assert list(record.skipped) == [2]


@pytest.mark.parametrize(
    ("axes", "shape"), [("TZYX", (3, 4, 5, 6)), ("TCZYX", (3, 2, 4, 5, 6)), ("ZTYX", (4, 3, 5, 6))]
)
def test_ome_tiff_frames_and_metadata(tmp_path: Path, axes: str, shape: tuple[int, ...]) -> None:
    data = stack(0, shape)
    metadata = dict(
        axes=axes, PhysicalSizeX=104, PhysicalSizeXUnit="nm", PhysicalSizeY=0.104, PhysicalSizeZ=0.25
    )
    tifffile.imwrite(tmp_path / "m.ome.tif", data, ome=True, metadata=metadata | dict(TimeIncrement=1.5))
    blank = dict(scan="none", angle_deg=None, step_um=None, pixel_um=None, interval_s=None)
    record = register_movie([row(tmp_path / "m.ome.tif", **blank)], READING, "fail")
    assert record.problem is None
    assert record.acquisition is not None
    assert record.acquisition.pixel_um == pytest.approx(0.104)
    assert record.acquisition.step_um == pytest.approx(0.25)
    assert record.acquisition.interval_s == pytest.approx(1.5)
    assert record.acquisition.sources["pixel_um"] == "OME-XML of m.ome.tif"
    source = open_channels([row(tmp_path / "m.ome.tif", **blank)], READING)[0]
    expected = np.moveaxis(data, axes.index("T"), 0)[1]
    np.testing.assert_array_equal(source.read(1), expected[0] if "C" in axes else expected)


def test_the_second_row_of_a_movie_takes_the_second_channel(tmp_path: Path) -> None:
    data = stack(0, (2, 3, 4, 5, 6))
    tifffile.imwrite(tmp_path / "m.ome.tif", data, ome=True, metadata=dict(axes="CTZYX"))
    rows = [row(tmp_path / "m.ome.tif", channel=name) for name in ("488nm", "560nm")]
    np.testing.assert_array_equal(open_channels(rows, READING)[1].read(2), data[1, 2])


def test_channels_in_files_of_their_own_may_have_any_name(tmp_path: Path) -> None:
    for name in ("green", "red"):
        data = stack(len(name), (3, 4, 5, 6))
        tifffile.imwrite(
            tmp_path / f"{name}.ome.tif", data, ome=True, metadata=dict(axes="TZYX", Channel=dict(Name="C1"))
        )
    rows = [row(tmp_path / f"{name}.ome.tif", channel=name) for name in ("green", "red")]
    np.testing.assert_array_equal(open_channels(rows, READING)[1].read(2), stack(3, (3, 4, 5, 6))[2])


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_ome_zarr_frames_and_metadata(tmp_path: Path, version: str) -> None:
    data = stack(0, (2, 1, *SHAPE))
    group = zarr.create_group(tmp_path / "m.zarr", zarr_format=2 if version == "0.4" else 3)
    group.create_array("0", data=data)
    axes = [dict(name="t", type="time", unit="second"), dict(name="c", type="channel")]
    axes += [dict(name=n, type="space", unit="micrometer") for n in "zyx"]
    scale = [dict(type="scale", scale=[3.0, 1.0, 0.25, 0.1, 0.1])]
    ome = dict(
        multiscales=[
            dict(version=version, axes=axes, datasets=[dict(path="0", coordinateTransformations=scale)])
        ]
    )
    group.attrs.update(ome if version == "0.4" else {"ome": ome | {"version": version}})
    blank = dict(scan="none", angle_deg=None, step_um=None, pixel_um=None, interval_s=None)
    record = register_movie([row(tmp_path / "m.zarr", **blank)], READING, "fail")
    assert record.problem is None
    assert record.acquisition is not None
    assert (record.acquisition.pixel_um, record.acquisition.step_um, record.acquisition.interval_s) == (
        0.1,
        0.25,
        3.0,
    )
    np.testing.assert_array_equal(open_channels([row(tmp_path / "m.zarr")], READING)[0].read(1), data[1, 0])


def test_missing_geometry_is_one_error_that_lists_everything(series: Path) -> None:
    message = problem(series, angle_deg=None, step_um=None, skew_axis=None)
    assert "no value for step_um, angle_deg, skew_axis" in message
    assert "Fill in these columns" in message


def test_the_plane_spacing_of_a_file_is_not_taken_for_a_stage_step(tmp_path: Path) -> None:
    tifffile.imwrite(
        tmp_path / "m.ome.tif", stack(0), ome=True, metadata=dict(axes="ZYX", PhysicalSizeZ=0.25)
    )
    assert "no value for step_um" in problem(tmp_path / "m.ome.tif", step_um=None)


def test_a_path_that_matches_nothing(tmp_path: Path) -> None:
    assert "no file that matches" in problem(tmp_path / "none*.tif")


def test_a_missing_time_point_fails_or_is_skipped(series: Path) -> None:
    file_of(series, 2).unlink()
    assert "no file for time point 2" in problem(series)
    record = register_movie([row(series)], READING, "skip")
    assert record.problem is None
    assert record.frames == 4
    assert list(record.skipped) == [2]


def test_a_truncated_tiff_fails_or_is_skipped(series: Path) -> None:
    path = file_of(series, 1)
    path.write_bytes(path.read_bytes()[:-100])
    message = problem(series)
    assert "truncated" in message
    assert path.name in message
    assert list(register_movie([row(series)], READING, "skip").skipped) == [1]


@pytest.mark.parametrize("kept", [0.98, 0.7, 0.4])
@pytest.mark.parametrize("bigtiff", [False, True])
def test_a_tiff_cut_anywhere_is_truncated(series: Path, kept: float, bigtiff: bool) -> None:
    """Also where whole planes are gone, and what is left would pass for a shorter stack."""
    path = file_of(series, 1)
    with tifffile.TiffWriter(path, bigtiff=bigtiff) as writer:
        for plane in stack(1):
            writer.write(plane, contiguous=False, photometric="minisblack", metadata=None)
    assert register_movie([row(series)], READING, "fail").problem is None
    path.write_bytes(path.read_bytes()[: int(kept * path.stat().st_size)])
    message = problem(series)
    assert path.name in message
    assert "truncated" in message or "cannot be read" in message


def test_a_tiff_whose_later_directories_are_lost_is_truncated(series: Path) -> None:
    """Voxels first, directories last: what is left would pass for a shorter stack."""
    path = file_of(series, 1)
    tifffile.imwrite(path, stack(1, (20, 64, 72)), photometric="minisblack", metadata=None)
    path.write_bytes(path.read_bytes()[:-2000])
    with tifffile.TiffFile(path) as tif:
        assert 0 < len(tif.pages) < 20
    assert "truncated" in problem(series)


def test_a_truncated_ome_tiff_is_a_problem(tmp_path: Path) -> None:
    path = tmp_path / "m.ome.tif"
    tifffile.imwrite(path, stack(0, (3, 4, 50, 60)), ome=True, metadata=dict(axes="TZYX"))
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    assert path.name in problem(path)


def test_frames_of_different_shapes(series: Path) -> None:
    tifffile.imwrite(file_of(series, 3), stack(3, (4, 5, 7)), photometric="minisblack")
    message = problem(series)
    assert "(4, 5, 7)" in message
    assert "(4, 5, 6)" in message
    assert list(register_movie([row(series)], READING, "skip").skipped) == [3]


def test_two_files_of_one_time_point(series: Path) -> None:
    shutil.copy(file_of(series, 1), series.parent / "cell_ch0_stack0001_again.tif")
    assert "both time point 1" in problem(series)


def test_channels_with_different_numbers_of_frames(series: Path) -> None:
    for frame in range(3):
        tifffile.imwrite(
            series.parent / f"cell_ch1_stack{frame:04}.tif", stack(frame), photometric="minisblack"
        )
    record = register_movie([row(series), row(series.parent / "cell_ch1*", channel="560nm")], READING, "fail")
    assert record.problem is not None
    assert "{'488nm': 4, '560nm': 3}" in record.problem


def test_zeros_and_nan_are_refused() -> None:
    with pytest.raises(BadInputError, match="movie a, frame 3: found only zeros"):
        check_content(3, np.zeros(SHAPE, np.uint16), "movie a")
    bad = np.ones(SHAPE, np.float32)
    bad[0, 0, 0] = np.nan
    with pytest.raises(BadInputError, match="1 voxels that are NaN"):
        check_content(3, bad, "movie a")
    check_content(3, stack(0), "movie a")


def test_the_real_yeast_movie(real_data: Path) -> None:
    blank = dict(scan="none", angle_deg=None, step_um=None, pixel_um=None, interval_s=None)
    path = real_data / "yeast_mitochondria" / "yeast_3d_mitochondria.ome.tif"
    record = register_movie([row(path, **blank)], READING, "fail")
    assert record.problem is None
    assert record.acquisition is not None
    assert (record.frames, record.shape_zyx) == (30, (17, 192, 279))
    assert (record.acquisition.pixel_um, record.acquisition.step_um) == (0.0655, 0.25)
    assert record.acquisition.interval_s == pytest.approx(4.5356, abs=1e-4)
    np.testing.assert_array_equal(
        open_channels([row(path, **blank)], READING)[0].read(7), tifffile.imread(path)[7]
    )
