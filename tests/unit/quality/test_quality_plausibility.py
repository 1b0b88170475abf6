"""What the preview refuses and warns of in the content of movies on disk, and that the sheet is believed."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from test_quality_planes import SHAPE, movie

from spatialdino_core.movies.parameters import ReadingParameters
from spatialdino_core.movies.record import MovieRecord
from spatialdino_core.movies.register import register_movie
from spatialdino_core.movies.sheet import SheetRow
from spatialdino_core.optics import OpticsParameters
from spatialdino_core.quality.plausibility import check_plausible, frames_in_a_row
from spatialdino_core.quality.preview import preview_movie

READING = ReadingParameters()
SKEWED = {"scan": "stage", "angle_deg": 31.5, "step_um": 0.39, "skew_axis": "x", "scan_sign": 1}


def previewed(folder: Path, stacks: np.ndarray, *, one_file: bool = False, **cells: Any) -> dict[str, Any]:
    """Preview of a movie (t, z, y, x) in one file or one for each time point; cells of its row."""
    folder.mkdir(parents=True, exist_ok=True)
    if one_file:
        tifffile.imwrite(folder / "all.tif", stacks, imagej=True, metadata={"axes": "TZYX"})
    else:
        for t, stack in enumerate(stacks):
            tifffile.imwrite(folder / f"a_t{t:03}.tif", stack, photometric="minisblack")
    values: dict[str, Any] = {"movie": "m", "channel": "488nm", "path": str(folder / "*.tif"), "scan": "none"}
    values |= {"step_um": 0.25, "pixel_um": 0.1, "interval_s": 2.0}
    rows = [SheetRow(**(values | cells))]
    # Without ``axes``, which change how files are read: here they only say that the stacks are right.
    record, table = register_movie([row.model_copy(update={"axes": None}) for row in rows], READING, "fail")
    assert record.problem is None
    how: dict[str, Any] = {"optics": OpticsParameters(), "frames": 5, "skip_bad": False, "state": ""}
    preview_movie(rows, record, table, folder / "m.json", folder / "m.png", **how)
    found: dict[str, Any] = json.loads((folder / "m.json").read_text())
    return found


@pytest.mark.parametrize("interval_s", [2.0, None])
def test_time_points_in_one_stack_are_refused_unless_the_sheet_says_so(
    tmp_path: Path, interval_s: float | None
) -> None:
    flat = movie(1).reshape(1, -1, *SHAPE[1:])
    problem = previewed(tmp_path, flat, interval_s=interval_s)["problem"]
    assert "movie 'm', channel '488nm'" in problem
    assert "4 time points of 24 planes" in problem
    assert "t4z24yx" in problem
    assert previewed(tmp_path, flat, interval_s=interval_s, axes="z96yx")["problem"] is None


def test_an_incomplete_time_point_at_the_end_is_named(tmp_path: Path) -> None:
    flat = movie(1).reshape(1, -1, *SHAPE[1:])[:, :90]
    problem = previewed(tmp_path, flat)["problem"]
    assert "t3z24yx (slowest first) once the last 18 planes" in problem


def test_channels_that_take_turns_are_refused_unless_the_sheet_says_so(tmp_path: Path) -> None:
    turns = np.stack([movie(1, frames=3), movie(2, frames=3)], 2).reshape(3, -1, *SHAPE[1:])
    found = previewed(tmp_path, turns)
    assert "2 channels that take turns" in found["problem"]
    assert "z24c2yx" in found["problem"]
    assert "file_channel" in found["problem"]
    assert found["looked_at"] == [0, 1, 2]  # the contact sheet shows it all the same
    assert previewed(tmp_path, turns, axes="z48yx")["problem"] is None


def test_exchanged_planes_and_time_points_are_refused_with_a_remedy_that_fits_the_files(
    tmp_path: Path,
) -> None:
    swapped = np.swapaxes(movie(200, particles=60), 0, 1)
    assert "z24t4yx" in previewed(tmp_path / "one", swapped, one_file=True)["problem"]
    problem = previewed(tmp_path / "many", swapped)["problem"]
    assert "one file per time point" in problem
    assert "z4yx" in problem
    assert previewed(tmp_path / "one", swapped, one_file=True, axes="t24z4yx")["problem"] is None


def test_exchanged_planes_and_time_points_of_a_skewed_scan_are_refused(tmp_path: Path) -> None:
    swapped = np.swapaxes(movie(200, frames=12, shear=3.3), 0, 1)
    problem = previewed(tmp_path, swapped, one_file=True, **SKEWED)["problem"]
    assert "24 frames of 12 planes, where frames differ as neighbouring planes do" in problem
    assert "z24t12yx" in problem
    assert previewed(tmp_path, swapped, one_file=True, axes="t24z12yx", **SKEWED)["problem"] is None


@pytest.mark.parametrize("shear", [0.0, 3.3])
def test_an_ordinary_movie_is_neither_refused_nor_warned_of(tmp_path: Path, shear: float) -> None:
    found = previewed(tmp_path, movie(3, shear=shear), **(SKEWED if shear else {}))
    assert (found["problem"], found["warnings"]) == (None, [])


def test_one_time_point_with_an_interval_is_warned_of(tmp_path: Path) -> None:
    one = movie(4, frames=1)
    (line,) = previewed(tmp_path, one)["warnings"]
    assert "an interval of 2 s is given (sample sheet)" in line
    assert "axes" in line
    assert previewed(tmp_path, one, axes="z24yx")["warnings"] == []
    assert previewed(tmp_path, one, interval_s=None)["warnings"] == []
    assert previewed(tmp_path, movie(4, frames=2))["warnings"] == []


@pytest.mark.parametrize("factor", [2, 4, 16])
def test_counts_that_were_stretched_are_warned_of(tmp_path: Path, factor: int) -> None:
    stacks = movie(5, frames=2)
    (line,) = previewed(tmp_path, stacks * factor)["warnings"]
    assert f"488nm: all counts are multiples of {factor}:" in line
    stacks[1, 0, 0, 0] = 101
    assert previewed(tmp_path, np.where(stacks == 101, 101, stacks * factor))["warnings"] == []


def test_fractions_that_rounding_destroys_are_refused_with_a_factor_that_helps(tmp_path: Path) -> None:
    stacks = movie(6, frames=3).astype(np.float64)
    small = ((stacks - 100) / 40).clip(0).astype(np.float32)  # noise of 0.1, particles of 5
    problem = previewed(tmp_path / "small", small)["problem"]
    assert "rounding to whole counts would destroy" in problem
    assert "levels" in problem
    factor = int(problem.split("Multiply all frames by ")[1].split()[0])
    saved = np.rint(small * factor)
    assert saved.max() <= 65535
    assert previewed(tmp_path / "saved", saved.astype(np.uint16))["problem"] is None
    unit = (stacks / 65535).astype(np.float32)
    assert "rounding" in previewed(tmp_path / "unit", unit)["problem"]


def test_normalised_values_below_0_are_scaled_before_they_are_made_positive(tmp_path: Path) -> None:
    stacks = movie(6, frames=3)
    scores = ((stacks - stacks.mean()) / stacks.std()).astype(np.float32)
    problem = previewed(tmp_path / "scores", scores)["problem"]
    told = re.search(r"Multiply all frames of the movie by (\d+), then add (\d+) or more", problem)
    assert told is not None, problem
    saved = np.rint(scores * int(told[1])) + int(told[2]) + 10
    found = previewed(tmp_path / "saved", saved.astype(np.uint16))
    assert (found["problem"], found["warnings"]) == (None, [])
    snr = previewed(tmp_path / "counts", stacks)["channels"]["488nm"]["snr"]
    assert found["channels"]["488nm"]["snr"] == pytest.approx(snr, rel=0.2)
    # Counts less an offset lose nothing: they are only moved.
    assert "Add 149 or more" in previewed(tmp_path / "moved", (stacks - stacks.min() - 149.5))["problem"]


@pytest.mark.parametrize("change", ["whole", "counts with fractions", "signed", "big-endian", "32 bits"])
def test_what_16_bits_hold_is_taken(tmp_path: Path, change: str) -> None:
    stacks = movie(6, frames=2)
    # Through the check alone: which types are read is settled elsewhere.
    from spatialdino_core.movies.register import as_counts

    changed = {
        "whole": stacks.astype(np.float32),
        "counts with fractions": (stacks + np.float32(0.3)).astype(np.float32),
        "signed": stacks.astype(np.int16),
        "big-endian": stacks.astype(">u2"),
        "32 bits": stacks.astype(np.int32),
    }[change]
    counts = as_counts(changed, "here")
    assert counts.dtype == np.uint16
    assert np.array_equal(counts, stacks)
    if changed.dtype.kind == "f":
        assert previewed(tmp_path, changed)["problem"] is None


def test_one_dark_frame_among_fractions_is_warned_of_not_refused(tmp_path: Path) -> None:
    stacks = ((movie(7, frames=4, peak=4000).astype(np.float64) - 100) / 10).astype(np.float32)
    stacks[2] = np.random.default_rng(0).normal(0.5, 0.02, SHAPE)
    found = previewed(tmp_path, stacks)
    assert found["problem"] is None
    (line,) = found["warnings"]
    assert "some frames" in line


@pytest.mark.parametrize(
    ("seen", "refused"),
    [([12, None, None, None], False), ([12, 8, 6, 5], False), ([12, 12, None, 6], True), ([12], True)],
    ids=str,
)
def test_a_chance_in_a_single_frame_refuses_nothing(seen: list[int | None], refused: bool) -> None:
    from spatialdino_core.errors import BadInputError
    from spatialdino_core.quality.plausibility import Evidence

    row = SheetRow(movie="m", channel="c", path="p")
    record = MovieRecord(movie="m", channels=["c"], paths=["p"], train=False, frames=4, shape_zyx=(48, 9, 9))
    looks = [
        Evidence(
            returning=period,
            ends=np.zeros((2, 1)),
            occupied=np.ones(65536, bool),
            rounding=None,
        )
        for period in seen
    ]
    if refused:
        with pytest.raises(BadInputError, match="t4z12yx"):
            check_plausible(row, record, looks, lambda number: [])
    else:
        check_plausible(row, record, looks, lambda number: [])


def test_frames_in_a_row_are_in_the_middle_and_without_a_gap() -> None:
    assert frames_in_a_row(range(24)) == list(range(7, 17))
    assert frames_in_a_row(range(9)) == []
    assert frames_in_a_row([n for n in range(24) if n != 10]) == []


def test_a_channel_that_is_a_copy_of_another_is_warned_of(tmp_path: Path) -> None:
    stacks = movie(5, frames=3)
    other = stacks.copy()
    other[2, 0, 0, 0] += 1
    for name, own in (("488nm", stacks), ("561nm", stacks), ("640nm", other)):
        for t, stack in enumerate(own):
            (tmp_path / name).mkdir(exist_ok=True)
            tifffile.imwrite(tmp_path / name / f"a_t{t}.tif", stack, photometric="minisblack")
    cells: dict[str, Any] = {"scan": "none", "step_um": 0.25, "pixel_um": 0.1, "interval_s": 2.0}
    rows = [
        SheetRow(movie="m", channel=c, path=str(tmp_path / c), **cells) for c in ("488nm", "561nm", "640nm")
    ]
    record, table = register_movie(rows, READING, "fail")
    files = tmp_path / "m.json", tmp_path / "m.png"
    preview_movie(rows, record, table, *files, frames=3, skip_bad=False, state="", optics=OpticsParameters())
    (line,) = json.loads(files[0].read_text())["warnings"]
    assert line.startswith("561nm: the same voxels as 488nm")
