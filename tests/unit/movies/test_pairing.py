"""Stacks of several channels belong together by their clocks where the cameras have counted on."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import raw
import tifffile
from raw import movie, row

STEP_S = 3.0
COUNTED = {
    "since the start": lambda n, s: f"stack{n:04d}_{1000 * s:07.0f}msec",
    "since the computer's": lambda n, s: f"stack{n:04d}_0000000msec_{9_000_000 + 1000 * s:010.0f}msecAbs",
    "time of day": lambda n, s: f"t{n:03d}_20240131T1200{s:05.2f}",
}
CLOCKS = {
    "seconds": lambda n, s: f"{s:.2f}s",
    "stamp": lambda n, s: f"20240131T1200{s:05.2f}",
}
LOST = {
    "each another": ((0, 1, 3, 4, 5), (0, 1, 2, 3, 5)),
    "one in the middle": ((0, 1, 2, 3, 4, 5), (0, 1, 3, 4, 5)),
    "every second": ((0, 1, 2, 3, 4, 5), (0, 2, 4)),
    "its first": ((0, 1, 2, 3, 4, 5), (1, 2, 3, 4, 5)),
    "the first and the last": ((0, 1, 2, 3, 4), (1, 2, 3, 4, 5)),
    "of the first channel": ((0, 2, 3, 4, 5), (0, 1, 2, 3, 4, 5)),
}
DATA = [movie(6), movie(6, seed=1), movie(6, seed=2)]


def two_cameras(
    folder: Path, name: Callable[[int, float], str], taken: Sequence[Sequence[int]], delay_s: float
) -> list[object]:
    """Rows of cameras that have taken some of six time points, and have counted their own."""
    for camera, points in enumerate(taken):
        for number, t in enumerate(points):
            file = folder / f"cam{'ABC'[camera]}_{name(number, STEP_S * t + delay_s * camera)}.tif"
            tifffile.imwrite(file, DATA[camera][t], photometric="minisblack")
    channels = ("488nm", "561nm", "642nm")[: len(taken)]
    return [
        row(folder / f"cam{camera}_*.tif", channel=channel, interval_s=None)
        for camera, channel in zip("ABC", channels, strict=False)
    ]


def assert_together(rows: list[object], taken: Sequence[Sequence[int]]) -> None:
    """What all have taken is one frame; every other time point is left out."""
    record = raw.registered(rows, "skip")
    every = sorted(set().union(*taken))
    whole = set.intersection(*map(set, taken))
    assert record.frames == len(every)
    assert set(record.skipped) == {n for n, t in enumerate(every) if t not in whole}
    assert record.times_s == pytest.approx([STEP_S * (t - every[0]) for t in every])
    for channel, source in enumerate(raw.sources(rows, "skip")):
        for n, t in enumerate(every):
            if t in whole:
                np.testing.assert_array_equal(source.read(n), DATA[channel][t])


@pytest.mark.parametrize("delay_s", [0.0, 0.2, 1.2])
@pytest.mark.parametrize("lost", LOST)
@pytest.mark.parametrize("clock", [*COUNTED, *CLOCKS])
def test_what_was_taken_together_is_one_frame(tmp_path: Path, clock: str, lost: str, delay_s: float) -> None:
    rows = two_cameras(tmp_path, (COUNTED | CLOCKS)[clock], LOST[lost], delay_s)
    assert_together(rows, LOST[lost])


def test_three_cameras_each_of_which_lost_another_stack(tmp_path: Path) -> None:
    taken = [(0, 1, 2, 4, 5), (0, 1, 3, 4, 5), (0, 2, 3, 4, 5)]
    assert_together(two_cameras(tmp_path, COUNTED["since the start"], taken, 0.1), taken)


def test_numbers_hold_where_channels_take_turns(tmp_path: Path) -> None:
    """The second is taken nearly a whole interval later, and nothing was lost."""
    taken = [range(6), range(6)]
    rows = two_cameras(tmp_path, COUNTED["since the start"], taken, 0.8 * STEP_S)
    assert_together(rows, taken)
    assert raw.registered(rows[::-1]).frames == 6


def test_what_the_sheet_says_comes_first(tmp_path: Path) -> None:
    rows = two_cameras(tmp_path, COUNTED["since the start"], LOST["each another"], 0.0)
    assert "no stack of channel '488nm' at this time, by the clocks" in raw.problem(rows)
    said = [own.model_copy(update={"time_point": r"stack(\d+)"}) for own in rows]  # type: ignore[attr-defined]
    assert raw.problem(said) == "none"


def test_clocks_that_do_not_tell_are_refused(tmp_path: Path) -> None:
    rows = two_cameras(tmp_path, COUNTED["since the start"], [range(6), range(6)], 0.0)
    for number, file in enumerate(sorted(tmp_path.glob("camB*"))):
        at = 1000 * STEP_S * (0, 1.3, 1.7, 3.4, 3.6, 5)[number]
        file.rename(file.with_name(f"camB_stack{number:04d}_{at:07.0f}msec.tif"))
    message = raw.problem(rows)
    assert "of which numbers and clocks disagree, and the clocks do not tell" in message
    pattern = message.rpartition(": ")[2].partition(" (")[0]
    said = [own.model_copy(update={"time_point": pattern}) for own in rows]  # type: ignore[attr-defined]
    assert raw.problem(said) == "none"


def numbered(folder: Path, name: str, *numbers: Sequence[int]) -> list[object]:
    """Rows of channels in folders of their own, whose files have some numbers, each with its own voxels."""
    rows = []
    for camera, own in enumerate(numbers):
        (folder / "ABC"[camera]).mkdir(exist_ok=True)
        for n in own:
            file = folder / "ABC"[camera] / name.format(n)
            tifffile.imwrite(file, NUMBERED[camera][n], photometric="minisblack")
        rows.append(row(folder / "ABC"[camera], channel=("488nm", "561nm", "642nm")[camera]))
    return rows


NUMBERED = [movie(12, seed) for seed in range(3)]


def assert_numbered(rows: list[object], numbers: Sequence[Sequence[int]], frames: int) -> None:
    """By number, what all have is whole, and everything else is left out."""
    whole = set.intersection(*map(set, numbers))
    record = raw.registered(rows, "skip")
    assert (record.problem, record.frames) == (None, frames)
    assert set(record.skipped) == set(range(frames)) - whole
    for channel, source in enumerate(raw.sources(rows, "skip")):
        for n in sorted(whole):
            np.testing.assert_array_equal(source.read(n), NUMBERED[channel][n])


@pytest.mark.parametrize("name", ["c_{:04d}.tif", "c_t{:04d}.tif"])
@pytest.mark.parametrize("second", [(0, 2, 4, 6), (0, 4), (0, 3, 6), (3, 6)])
def test_a_channel_of_every_second_time_point_goes_by_number(
    tmp_path: Path, name: str, second: Sequence[int]
) -> None:
    rows = numbered(tmp_path, name, range(8), second)
    assert "no file for time point " in raw.problem(rows)
    assert_numbered(rows, [range(8), second], 8)


def test_as_many_files_of_other_numbers_are_no_pairs(tmp_path: Path) -> None:
    rows = numbered(tmp_path, "c_{:04d}.tif", range(3), (0, 2, 4))
    assert "no file for time point 1 of channel '561nm'; all go in steps of 2" in raw.problem(rows)
    assert_numbered(rows, [range(3), (0, 2, 4)], 5)


@pytest.mark.parametrize("numbers", [(0, 2), (0, 2, 4, 6), (1, 3, 5)])
@pytest.mark.parametrize("name", ["c_{:04d}.tif", "c_t{:04d}.tif"])
def test_every_second_file_may_be_lost(tmp_path: Path, name: str, numbers: Sequence[int]) -> None:
    rows = numbered(tmp_path, name, numbers)
    message = raw.problem(rows)
    assert "all go in steps of 2; if the numbers count no frames" in message
    # The remedy: they count none.
    pattern = message.partition("'time_point': ")[2].split()[0].rstrip(";")
    said = [row(tmp_path / "A", time_point=pattern)]
    assert raw.registered(said).frames == len(numbers)
    np.testing.assert_array_equal(raw.sources(said)[0].read(1), NUMBERED[0][numbers[1]])


def test_one_channel_in_order_beside_one_that_counts(tmp_path: Path) -> None:
    rows = numbered(tmp_path, "c_{:04d}.tif", (0, 2, 4), (0, 2, 4))
    ordered = [rows[0].model_copy(update={"time_point": r"(?P<order>\d+)"}), rows[1]]  # type: ignore[attr-defined]
    for own in (rows, ordered, ordered[::-1]):
        record = raw.registered(own, "skip")
        frames = [frame for frame in range(record.frames) if frame not in record.skipped]
        for channel, source in zip(own, raw.sources(own), strict=True):
            seen = NUMBERED[channel.channel == "561nm"]  # type: ignore[attr-defined]
            for frame, n in zip(frames, (0, 2, 4), strict=True):
                np.testing.assert_array_equal(source.read(frame), seen[n])


def in_turns(folder: Path, clock: Callable[[int], str], lost: Sequence[int] = ()) -> list[object]:
    """Rows of two channels that one counter goes to and fro between; a stack takes 2 s."""
    for n in range(12):
        if n not in lost:
            file = folder / f"c_ch{n % 2}_stack{n:04d}{clock(2000 * n)}.tif"
            tifffile.imwrite(file, NUMBERED[n % 2][n // 2], photometric="minisblack")
    return [row(folder / f"c_ch{c}_*", channel=("488nm", "561nm")[c], interval_s=None) for c in range(2)]


@pytest.mark.parametrize("lost", [(), (4,), (5, 8)])
def test_one_counter_for_channels_in_turns_with_clocks(tmp_path: Path, lost: Sequence[int]) -> None:
    rows = in_turns(tmp_path, lambda ms: f"_{ms:07d}msec_{90_000 + ms:010d}msecAbs", lost)
    whole = [{t for t in range(6) if 2 * t + c not in lost} for c in range(2)]
    assert_numbered(rows, whole, 6)
    assert raw.registered(rows, "skip").times_s == [4.0 * t for t in range(6)]


def test_one_counter_for_channels_in_turns_without_clocks(tmp_path: Path) -> None:
    rows = in_turns(tmp_path, lambda ms: "")
    message = raw.problem(rows)
    pattern = message.rpartition("of each: ")[2]
    said = [own.model_copy(update=dict(time_point=pattern, interval_s=1.0)) for own in rows]  # type: ignore[attr-defined]
    assert_numbered(said, [range(6), range(6)], 6)


def test_one_counter_for_specimens_in_turns(tmp_path: Path) -> None:
    for n in range(8):
        tifffile.imwrite(tmp_path / f"cell_{n:04d}.tif", NUMBERED[n % 2][n // 2], photometric="minisblack")
    rows = [
        row(tmp_path / f"*[{digits}].tif", channel=channel)
        for digits, channel in (("02468", "488nm"), ("13579", "561nm"))
    ]
    pattern = raw.problem(rows).rpartition("of each: ")[2]
    said = [own.model_copy(update=dict(time_point=pattern)) for own in rows]
    assert_numbered(said, [range(4), range(4)], 4)


def stamped(folder: Path, *seconds: Sequence[int]) -> list[object]:
    """Rows of cameras whose files are called by the second in which they were taken, a stack every 2 s."""
    for camera, own in enumerate(seconds):
        for n, s in enumerate(own):
            file = folder / f"cam{'AB'[camera]}_20240131_1130{s:02d}.tif"
            tifffile.imwrite(file, NUMBERED[camera][n], photometric="minisblack")
    return [
        row(folder / f"cam{c}_*", channel=w, interval_s=None) for c, w in (("A", "488nm"), ("B", "561nm"))
    ]


@pytest.mark.parametrize("second", [(0, 2, 5, 6, 8, 10), (0, 2, 4, 7, 9, 11), (1, 3, 5, 7, 9, 11)])
def test_stamps_that_fall_on_the_next_second(tmp_path: Path, second: Sequence[int]) -> None:
    rows = stamped(tmp_path, range(0, 12, 2), second)
    assert raw.problem(rows) == "none"
    assert_numbered(rows, [range(6), range(6)], 6)


def test_stamps_that_may_be_of_two_others_are_refused(tmp_path: Path) -> None:
    rows = stamped(tmp_path, range(0, 12, 2), (0, 2, 5, 8, 10))
    assert "do not tell what was taken together" in raw.problem(rows, "skip")
    (tmp_path / "camB_20240131_113005.tif").unlink()
    assert raw.registered(rows, "skip").skipped.keys() == {2, 3}


def test_numbers_from_0_and_from_1(tmp_path: Path) -> None:
    rows = numbered(tmp_path, "c_{:04d}.tif", range(6), range(1, 7))
    message = raw.problem(rows)
    alone = message.rpartition("'561nm' alone: ")[2]
    shifted = [rows[0], rows[1].model_copy(update=dict(time_point=alone))]  # type: ignore[attr-defined]
    assert raw.problem(shifted) == "none"
    for n, source in enumerate(raw.sources(shifted)):
        np.testing.assert_array_equal(source.read(2), NUMBERED[n][2 + n])
    patterns = re.findall(r"(\S+) \('(?:488|561)nm'\)", message)
    by_number = [
        own.model_copy(update=dict(time_point=pattern))  # type: ignore[attr-defined]
        for own, pattern in zip(rows, patterns, strict=True)
    ]
    assert "no file for time point 0 of channel '561nm'" in raw.problem(by_number)
    assert_numbered(by_number, [range(6), range(1, 7)], 7)


def test_a_shorter_channel_without_a_clock_is_worth_a_word(tmp_path: Path) -> None:
    rows = numbered(tmp_path, "c_{:04d}.tif", range(6), range(5))
    assert "have 6 and 5 time points; no clock tells" in raw.registered(rows, "skip").warnings[0]
    (tmp_path / "A" / "c_0005.tif").unlink()
    assert raw.registered(rows).warnings == []
