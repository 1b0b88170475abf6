"""Readers and register: real containers written by other libraries, and every way they can be bad."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import raw
import tifffile
import zarr

from spatialdino_core.errors import BadInputError
from spatialdino_core.movies.record import MovieRecord
from spatialdino_core.movies.register import check_content
from workflow_scripts.arguments import Arguments
from workflow_scripts.register import main

SHAPE = (4, 5, 6)
row = raw.sheet_row


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
    record = raw.registered([row(series, **changes)], "fail")
    assert record.problem is not None
    return record.problem


def test_a_series_is_read_in_order_of_time(series: Path) -> None:
    record = raw.registered([row(series)], "fail")
    assert record.problem is None
    assert (record.frames, record.shape_zyx, record.dtype) == (4, SHAPE, "uint16")
    source = raw.sources([row(series)])[0]
    for frame in range(4):
        np.testing.assert_array_equal(source.read(frame), stack(frame))


def test_unpadded_time_points_are_ordered_by_number(tmp_path: Path) -> None:
    for point in (1, 2, 10, 3, 4, 5, 6, 7, 8, 9):
        tifffile.imwrite(tmp_path / f"cell_T{point}.tif", stack(point), photometric="minisblack")
    source = raw.sources([row(tmp_path / "cell_T*.tif")])[0]
    np.testing.assert_array_equal(source.read(9), stack(10))


def test_the_record_survives_its_file(series: Path, tmp_path: Path) -> None:
    file_of(series, 2).unlink()
    record = raw.registered([row(series)], "skip")
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
    blank: dict[str, Any] = dict(scan="none", angle_deg=None, step_um=None, pixel_um=None, interval_s=None)
    blank |= dict(file_channel="1") if "C" in axes else {}
    record = raw.registered([row(tmp_path / "m.ome.tif", **blank)], "fail")
    assert record.problem is None
    assert record.acquisition is not None
    assert record.acquisition.pixel_um == pytest.approx(0.104)
    assert record.acquisition.step_um == pytest.approx(0.25)
    assert record.acquisition.interval_s == pytest.approx(1.5)
    assert record.acquisition.sources["pixel_um"] == "OME-XML of m.ome.tif"
    source = raw.sources([row(tmp_path / "m.ome.tif", **blank)])[0]
    expected = np.moveaxis(data, axes.index("T"), 0)[1]
    np.testing.assert_array_equal(source.read(1), expected[0] if "C" in axes else expected)


def test_a_channel_without_a_name_is_taken_by_its_number_and_never_by_its_place(tmp_path: Path) -> None:
    data = stack(0, (2, 3, 4, 5, 6))
    tifffile.imwrite(tmp_path / "m.ome.tif", data, ome=True, metadata=dict(axes="CTZYX"))
    names = ("488nm", "560nm")
    rows = [row(tmp_path / "m.ome.tif", channel=name) for name in names]
    assert "column 'file_channel'" in raw.problem(rows)
    numbered = [
        row(tmp_path / "m.ome.tif", channel=name, file_channel=number)
        for name, number in zip(names, "21", strict=True)
    ]
    np.testing.assert_array_equal(raw.sources(numbered)[0].read(2), data[1, 2])
    np.testing.assert_array_equal(raw.sources(numbered)[1].read(2), data[0, 2])


def test_channels_in_files_of_their_own_may_have_any_name(tmp_path: Path) -> None:
    for name in ("green", "red"):
        data = stack(len(name), (3, 4, 5, 6))
        tifffile.imwrite(
            tmp_path / f"{name}.ome.tif", data, ome=True, metadata=dict(axes="TZYX", Channel=dict(Name="C1"))
        )
    rows = [row(tmp_path / f"{name}.ome.tif", channel=name) for name in ("green", "red")]
    np.testing.assert_array_equal(raw.sources(rows)[1].read(2), stack(3, (3, 4, 5, 6))[2])


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
    record = raw.registered([row(tmp_path / "m.zarr", **blank)], "fail")
    assert record.problem is None
    assert record.acquisition is not None
    assert (record.acquisition.pixel_um, record.acquisition.step_um, record.acquisition.interval_s) == (
        0.1,
        0.25,
        3.0,
    )
    np.testing.assert_array_equal(raw.sources([row(tmp_path / "m.zarr")])[0].read(1), data[1, 0])


def test_missing_geometry_is_one_error_that_lists_everything(series: Path) -> None:
    message = problem(series, angle_deg=None, step_um=None, skew_axis=None)
    assert "no value for step_um, angle_deg, skew_axis" in message
    assert "Fill in these columns" in message


def test_the_plane_spacing_of_a_file_is_not_taken_for_a_stage_step(tmp_path: Path) -> None:
    tifffile.imwrite(
        tmp_path / "m.ome.tif", stack(0), ome=True, metadata=dict(axes="ZYX", PhysicalSizeZ=0.25)
    )
    assert "no value for step_um" in problem(tmp_path / "m.ome.tif", step_um=None)


def settings(series: Path, motion: str = "Sample piezo", interval: str = "-0.4", name: str = "cell") -> None:
    """Settings file beside the series: 31.5°, and 6.5 µm camera pixels magnified 62.5 times (0.104 µm)."""
    lines = ["***** *****   Waveform   ***** *****", f"Z motion :\t{motion}"]
    lines += [f"S PZT Offset, Interval (um), # of Pixels for Excitation (0) :\t50\t{interval}\t141"]
    lines += ["***** *****   Camera   ***** *****", "Model :\tC11440-22C"]
    lines += ["***** *****   .ini File   ***** *****", "[Detection optics]", "Magnification = 62.5"]
    lines += ["[Sample stage]", "Angle between stage and bessel beam (deg) = 31.5"]
    (series.parent / f"{name}_Settings.txt").write_text("\n".join(lines), encoding="latin-1")


BLANK: dict[str, Any] = dict(scan=None, angle_deg=None, step_um=None, pixel_um=None, interval_s=None)
BLANK |= dict(scan_sign=None)


def test_a_series_with_a_settings_file_needs_only_the_skew_axis(series: Path) -> None:
    settings(series)
    record = raw.registered([row(series, **BLANK)], "fail")
    assert record.problem is None
    acquisition = record.acquisition
    assert acquisition is not None
    assert (acquisition.scan, acquisition.angle_deg, acquisition.step_um) == ("stage", 31.5, 0.4)
    assert acquisition.pixel_um == pytest.approx(0.104)
    assert (acquisition.interval_s, acquisition.scan_sign) == (2.0, -1)
    origin = "settings file cell_Settings.txt"
    expected = dict.fromkeys(("scan", "angle_deg", "step_um", "pixel_um", "scan_sign"), origin)
    expected |= dict(skew_axis="sample sheet", interval_s="clock in the file names")
    assert acquisition.sources == expected
    assert record.warnings == []
    assert "no value for skew_axis in the sample sheet or the settings" in problem(
        series, **BLANK, skew_axis=None
    )


def test_without_a_scan_everything_missing_is_listed(series: Path) -> None:
    message = problem(series, **(BLANK | dict(skew_axis=None)))
    assert "no value for scan, pixel_um, step_um, angle_deg, skew_axis, scan_sign in" in message


def test_the_sheet_wins_and_every_disagreement_is_a_warning(series: Path) -> None:
    settings(series)
    record = raw.registered([row(series, step_um=0.5, angle_deg=31.501, interval_s=3.0)], "fail")
    assert record.acquisition is not None
    assert (record.acquisition.step_um, record.acquisition.interval_s) == (0.5, 3.0)
    assert record.acquisition.scan_sign == 1
    assert record.warnings == [
        "interval_s: 3.0 (sample sheet) is used, not 2.0 (clock in the file names)",
        "step_um: 0.5 (sample sheet) is used, not 0.4 (settings file cell_Settings.txt)",
        "scan_sign: 1 (sample sheet) is used, not -1 (settings file cell_Settings.txt)",
    ]


def test_a_scan_that_the_file_contradicts(series: Path) -> None:
    """The settings' stage step is no plane spacing of an objective scan."""
    settings(series)
    record = raw.registered([row(series, scan="objective", scan_sign=None)], "fail")
    assert record.warnings == [
        "scan: objective (sample sheet) is used, not stage (settings file cell_Settings.txt)"
    ]
    assert "no value for step_um" in problem(series, scan="objective", step_um=None)


def test_settings_files_that_cannot_be_told_apart(series: Path) -> None:
    settings(series, name="one")
    settings(series, name="two", interval="0.3")
    assert "one_Settings.txt and two_Settings.txt, which differ" in problem(series)
    settings(series, name="cell")
    assert raw.registered([row(series)], "fail").problem is None


def test_channels_whose_files_disagree(tmp_path: Path) -> None:
    for name, size in (("green", 0.1), ("red", 0.11)):
        metadata = dict(axes="ZYX", PhysicalSizeX=size, PhysicalSizeY=size)
        tifffile.imwrite(tmp_path / f"{name}.ome.tif", stack(0), ome=True, metadata=metadata)
    rows = [row(tmp_path / f"{name}.ome.tif", channel=name, pixel_um=None) for name in ("green", "red")]
    record = raw.registered(rows, "fail")
    assert record.acquisition is not None
    assert record.acquisition.pixel_um == 0.1
    assert record.warnings == [
        "pixel_um: 0.1 (OME-XML of green.ome.tif) is used, not 0.11 (OME-XML of red.ome.tif)"
    ]


@pytest.mark.parametrize("kind", ["ome", "imagej", "zarr"])
def test_pixels_that_are_not_square(tmp_path: Path, kind: str) -> None:
    path = tmp_path / f"m.{kind}"
    if kind == "ome":
        metadata: dict[str, Any] = dict(axes="ZYX", PhysicalSizeX=0.1, PhysicalSizeY=0.2)
        tifffile.imwrite(path, stack(0), ome=True, metadata=metadata)
    elif kind == "imagej":
        metadata = dict(axes="ZYX", unit="um")
        tifffile.imwrite(path, stack(0), imagej=True, resolution=(1 / 0.1, 1 / 0.2), metadata=metadata)
    else:
        ome_zarr(path, stack(0), "zyx", [0.25, 0.2, 0.1])
    assert "found pixels of 0.1 × 0.2 µm" in problem(path, pixel_um=None)
    record = raw.registered([row(path, pixel_um=0.1)], "fail")
    assert record.problem is None
    assert len(record.warnings) == 1
    assert "(sample sheet) are used, not 0.1 × 0.2 µm (" in record.warnings[0]


def ome_zarr(
    path: Path, data: np.ndarray, axes: str, scale: list[float], shared: list[float] | None = None
) -> None:
    group = zarr.create_group(path, zarr_format=3)
    group.create_array("0", data=data, chunks=(*(1,) * (len(axes) - 2), *data.shape[-2:]))
    units = dict(t="second") | dict.fromkeys("zyx", "micrometer")
    image: dict[str, Any] = dict(axes=[dict(name=n, unit=units[n]) for n in axes])
    level = [dict(type="scale", scale=scale)]
    image |= dict(datasets=[dict(path="0", coordinateTransformations=level)])
    if shared:
        image |= dict(coordinateTransformations=[dict(type="scale", scale=shared)])
    group.attrs["ome"] = dict(version="0.5", multiscales=[image])


def test_a_scale_that_all_levels_share_counts(tmp_path: Path) -> None:
    """OME-NGFF 0.5: the transformation of ``multiscales`` is applied after that of the level."""
    ome_zarr(tmp_path / "m.zarr", stack(0, (2, *SHAPE)), "tzyx", [1, 2.5, 1, 1], [1.5, 0.1, 0.1, 0.1])
    record = raw.registered([row(tmp_path / "m.zarr", **(BLANK | dict(scan="none")))], "fail")
    assert record.acquisition is not None
    assert (record.acquisition.step_um, record.acquisition.pixel_um) == (0.25, 0.1)
    assert record.acquisition.interval_s == 1.5


def test_part_of_a_zarr_touches_only_its_chunks(tmp_path: Path) -> None:
    ome_zarr(tmp_path / "m.zarr", stack(0), "zyx", [0.25, 0.1, 0.1])
    source = raw.sources([row(tmp_path / "m.zarr")])[0]
    for plane in (0, 3):
        (tmp_path / f"m.zarr/0/c/{plane}/0/0").write_bytes(b"no chunk")
    part = (slice(1, 3), slice(2, 5), slice(None, 4))
    np.testing.assert_array_equal(source.read(0, part), stack(0)[part])
    with pytest.raises(BadInputError, match="cannot be read"):
        source.read(0)


def test_calibration_files_that_are_not_there(series: Path, tmp_path: Path) -> None:
    (tmp_path / "flat.tif").touch()
    names = dict(dark=str(tmp_path / "dark.tif"), flat=str(tmp_path / "flat.tif"))
    message = problem(series, **names, registration="to_488.json")
    assert f"no file at dark of channel '488nm': {tmp_path / 'dark.tif'}; registration of channel" in message
    assert "flat" not in message
    assert raw.registered([row(series, dark=100.0)], "fail").problem is None


@pytest.mark.parametrize("size", [0, float("nan"), -1])
def test_values_that_mean_unknown_are_not_taken(tmp_path: Path, size: float) -> None:
    metadata = dict(axes="TZYX", PhysicalSizeX=size, PhysicalSizeZ=size, TimeIncrement=size)
    tifffile.imwrite(tmp_path / "m.ome.tif", stack(0, (2, *SHAPE)), ome=True, metadata=metadata)
    message = problem(tmp_path / "m.ome.tif", **(BLANK | dict(scan="none")))
    assert "no value for pixel_um, step_um, interval_s" in message


def test_a_path_that_matches_nothing(tmp_path: Path) -> None:
    assert "no file that matches" in problem(tmp_path / "none*.tif")


def test_a_missing_time_point_fails_or_is_skipped(series: Path) -> None:
    file_of(series, 2).unlink()
    assert "no file for time point 2" in problem(series)
    record = raw.registered([row(series)], "skip")
    assert record.problem is None
    assert record.frames == 4
    assert list(record.skipped) == [2]


def test_a_truncated_tiff_fails_or_is_skipped(series: Path) -> None:
    path = file_of(series, 1)
    path.write_bytes(path.read_bytes()[:-100])
    message = problem(series)
    assert "truncated" in message
    assert path.name in message
    assert list(raw.registered([row(series)], "skip").skipped) == [1]


@pytest.mark.parametrize("kept", [0.98, 0.7, 0.4])
@pytest.mark.parametrize("bigtiff", [False, True])
def test_a_tiff_cut_anywhere_is_truncated(series: Path, kept: float, bigtiff: bool) -> None:
    """Also where whole planes are gone, and what is left would pass for a shorter stack."""
    path = file_of(series, 1)
    with tifffile.TiffWriter(path, bigtiff=bigtiff) as writer:
        for plane in stack(1):
            writer.write(plane, contiguous=False, photometric="minisblack", metadata=None)
    assert raw.registered([row(series)], "fail").problem is None
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
    message = problem(series)
    assert "truncated" in message
    assert message.count("found") == message.count("expected") == 1


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
    assert list(raw.registered([row(series)], "skip").skipped) == [3]


def test_two_files_of_one_time_point(series: Path) -> None:
    shutil.copy(file_of(series, 1), series.parent / "cell_ch0_stack0001_again.tif")
    message = problem(series)
    assert "5 files without a number that runs through all names" in message
    assert "both time point 1 by" in problem(series, time_point=r"stack(\d+)")


def test_channels_with_different_numbers_of_frames(series: Path) -> None:
    for frame in range(3):
        tifffile.imwrite(
            series.parent / f"cell_ch1_stack{frame:04}.tif", stack(frame), photometric="minisblack"
        )
    rows = [row(series), row(series.parent / "cell_ch1*", channel="560nm")]
    assert "no file for time point 3 of channel '560nm'" in raw.problem(rows)
    record = raw.registered(rows, "skip")
    assert (record.problem, record.frames, list(record.skipped)) == (None, 4, [3])


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
    record = raw.registered([row(path, **blank)], "fail")
    assert record.problem is None
    assert record.acquisition is not None
    assert (record.frames, record.shape_zyx) == (30, (17, 192, 279))
    assert (record.acquisition.pixel_um, record.acquisition.step_um) == (0.0655, 0.25)
    assert record.acquisition.interval_s == pytest.approx(4.5356, abs=1e-4)
    np.testing.assert_array_equal(raw.sources([row(path, **blank)])[0].read(7), tifffile.imread(path)[7])


def test_the_script_prints_the_warnings(series: Path, capsys: pytest.CaptureFixture[str]) -> None:
    settings(series)
    header = ["movie", "channel", "path", "angle_deg", "step_um", "skew_axis"]
    cells = ["a", "488nm", series.name, "30", "0.4", "x"]
    sheet = series.parent / "movies.tsv"
    sheet.write_text("\t".join(header) + "\n" + "\t".join(cells) + "\n")
    output = series.parent / "movie.json"
    chosen = dict(reading={}, on_bad_frame="fail")
    main(
        Arguments(
            sheet=sheet, movie="a", output=output, table=series.parent / "acquisition.tsv", settings=chosen
        )
    )
    assert MovieRecord.read(output).warnings == [
        "angle_deg: 30.0 (sample sheet) is used, not 31.5 (settings file cell_Settings.txt)"
    ]
    assert "a: WARNING: angle_deg: 30.0 (sample sheet) is used" in capsys.readouterr().out


def test_whoever_uses_a_movie_with_a_problem_is_told_which(series: Path) -> None:
    record = raw.registered([row(series, step_um=None)], "fail")
    with pytest.raises(BadInputError, match=r"movie 'a'.*no value for step_um.*qc/decisions\.tsv"):
        record.usable()
