"""Stacks of several channels belong together by their clocks where the cameras have counted on."""

from __future__ import annotations

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
