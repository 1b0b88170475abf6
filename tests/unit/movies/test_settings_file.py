"""Settings files of lattice light-sheet instruments: each value, and which file belongs to which movie."""

from __future__ import annotations

from pathlib import Path

import pytest

from spatialdino_core.errors import BadInputError
from spatialdino_core.movies.formats.settings_file import read_settings, settings_beside


def settings_text(
    motion: str = "Sample piezo",
    device: str = "S PZT",
    interval: str = "0.4",
    angle: str = "31.500000",
    model: str = "C11440-22C",
    other_interval: str | None = None,
) -> str:
    """Text in the layout of the control software: two channels, Waveform, Camera and .ini part."""
    stars = "***** ***** *****"
    return f"""{stars}   General   {stars}
Date :\t6/29/2016 7:21:44 PM
Acq Mode :\tZ stack
Comment :\tcaf\u00e9, 37 \u00b0C

{stars}   Waveform   {stars}
Waveform type :\tLinear

X Galvo Offset, Interval (um), # of Pixels for Excitation (0) :\t0\t0.1\t51
X Galvo Offset, Interval (um), # of Pixels for Excitation (1) :\t0\t0.1\t51

Z PZT Offset, Interval (um), # of Pixels for Excitation (0) :\t50\t{"0.25" if "galvo" in motion else "0"}\t141
Z PZT Offset, Interval (um), # of Pixels for Excitation (1) :\t50\t{"0.25" if "galvo" in motion else "0"}\t141

{device} Offset, Interval (um), # of Pixels for Excitation (0) :\t50.5\t{interval}\t141
{device} Offset, Interval (um), # of Pixels for Excitation (1) :\t50.5\t{other_interval or interval}\t141

# of stacks (0) :\t300
Excitation Filter, Laser, Power (%), Exp(ms) (0) :\tN/A\t488\t10\t10
Cycle lasers :\tper Z
Z motion :\t{motion}

{stars}   Camera   {stars}
Model :\t{model}
Exp(s) :\t0.00999
ROI :\tLeft=897 Top=769 Right=1152 Bot=1280

{stars}   Advanced Timing   {stars}
{stars}   .ini File   {stars}
[SLM]
Magnification from SLM to back pupil = 0.5
Magnification = 2
[Detection optics]
Magnification = 62.5
[Sample stage]
Angle between stage and bessel beam (deg) = {angle}
"""


def written(path: Path, **changes: str) -> Path:
    path.write_bytes(settings_text(**changes).replace("\n", "\r\n").encode("latin-1"))
    return path


def test_a_sample_scan(tmp_path: Path) -> None:
    """Pixel: the 6.5 µm of this camera over the detection magnification of 62.5, by hand 0.104 µm."""
    said = read_settings([written(tmp_path / "cell1_Settings.txt")])[0]
    assert (said.scan, said.angle_deg, said.step_um, said.scan_sign) == ("stage", 31.5, 0.4, 1)
    assert said.pixel_um == pytest.approx(0.104)
    assert said.plane_spacing_um is None
    assert said.skew_axis is None
    assert said.interval_s is None
    assert said.origin == "settings file cell1_Settings.txt"


@pytest.mark.parametrize(
    ("motion", "device", "interval", "expected"),
    [
        ("Sample piezo", "S Piezo", "0.5", ("stage", 0.5, None, 1)),
        ("Sample piezo", "S PZT", "-0.3", ("stage", 0.3, None, -1)),
        ("Sample piezo", "S PZT", "-.3", ("stage", 0.3, None, -1)),
        ("X Stage", "X Stage", "-0.4", ("stage", 0.4, None, -1)),
        ("", "X Stage", "0.4", ("stage", 0.4, None, 1)),
        ("", "XZ stage", "0.4", ("objective", None, 0.4, 1)),
        ("Z galvo & piezo", "S PZT", "0", ("objective", None, 0.25, 1)),
        ("X galvo", "S PZT", "0.4", (None, None, None, None)),
        ("Sample piezo", "S PZT", "0", ("stage", None, None, None)),
    ],
)
def test_what_moves_and_which_way(
    tmp_path: Path, motion: str, device: str, interval: str, expected: tuple[object, ...]
) -> None:
    path = written(tmp_path / "a_Settings.txt", motion=motion, device=device, interval=interval)
    said = read_settings([path])[0]
    assert (said.scan, said.step_um, said.plane_spacing_um, said.scan_sign) == expected


def test_channels_with_different_steps_state_none(tmp_path: Path) -> None:
    said = read_settings([written(tmp_path / "a_Settings.txt", other_interval="0.5")])[0]
    assert (said.scan, said.step_um, said.scan_sign) == ("stage", None, None)


@pytest.mark.parametrize(("angle", "expected"), [("-32.45", (32.45, None)), ("147.55", (None, 1))])
def test_odd_angles(tmp_path: Path, angle: str, expected: tuple[float | None, int | None]) -> None:
    said = read_settings([written(tmp_path / "a_Settings.txt", angle=angle)])[0]
    assert (said.angle_deg, said.scan_sign) == expected


def test_an_unknown_camera_states_no_pixel_size(tmp_path: Path) -> None:
    assert read_settings([written(tmp_path / "a_Settings.txt", model="Prime95B")])[0].pixel_um is None


def test_the_longest_name_that_fits_wins(tmp_path: Path) -> None:
    for name in ("cell1", "cell1_Iter_0000", "cell2"):
        written(tmp_path / f"{name}_Settings.txt")
    assert settings_beside([tmp_path / "cell1_Iter_0000_ch0_stack0000.tif"]) == [
        tmp_path / "cell1_Iter_0000_Settings.txt"
    ]
    # cell10 begins with cell1, but is another cell.
    assert settings_beside([tmp_path / "cell10_ch0_stack0000.tif"]) == []
    assert len(settings_beside([tmp_path / "embryo_ch0_stack0000.tif"])) == 3
    assert settings_beside([tmp_path / "cell2_ch0.czi"]) == []


def test_a_single_settings_file_needs_no_name(tmp_path: Path) -> None:
    only = written(tmp_path / "x_Settings.txt")
    assert settings_beside([tmp_path / "cell1_ch0_stack0000.tif"]) == [only]


def test_several_files_must_agree(tmp_path: Path) -> None:
    """A looped acquisition writes one per iteration, all the same."""
    paths = [written(tmp_path / f"a_Iter_000{n}_Settings.txt") for n in range(3)]
    assert len(read_settings(paths)) == 1
    written(paths[2], interval="0.5")
    with pytest.raises(
        BadInputError, match=r"a_Iter_0000_Settings\.txt and a_Iter_0002_Settings\.txt, which differ"
    ):
        read_settings(paths)
