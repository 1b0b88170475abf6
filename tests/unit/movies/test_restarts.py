"""An acquisition that was begun again into the same folder is two runs, until the user says otherwise."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
import raw
from raw import assert_is, frames_of, movie, row
from test_series import globs_in, pattern_in, write

from spatialdino_core.movies.number_columns import UncertainOrderError
from spatialdino_core.movies.order import series_of

LLSM = "c_ch0_stack{0:04d}_488nm_{1:07d}msec_{2:010d}msecAbs_000x_0000t.tif"
ITER = "c_Iter_{0:04d}_ch0_stack0000_488nm_0000000msec_{2:010d}msecAbs_000x_0000t.tif"
STAMP = "c_t{0:03d}_20240131_{2:06d}.tif"
BARE = "c_{0:03d}_20240131_{2:06d}.tif"


def runs(
    *frames: int, gap: int = 600_000, step: int = 2000, first: int = 20_931_273
) -> list[tuple[int, ...]]:
    """Counter, time since the start of the run and of the computer, of runs of so many frames."""
    return [
        (n, step * n, first + gap * run + step * n) for run, count in enumerate(frames) for n in range(count)
    ]


RESTARTED = {
    "aborted after two": (LLSM, runs(2, 4)),
    "aborted after one": (LLSM, runs(1, 4)),
    "of one length": (LLSM, runs(3, 3)),
    "iterations": (ITER, runs(2, 3)),
    "time stamps": (STAMP, runs(2, 3, gap=1500, step=2, first=100_000)),
    "time stamps, after one": (STAMP, runs(1, 3, gap=1500, step=2, first=100_000)),
    "a bare number": (BARE, runs(2, 3, gap=1500, step=2, first=100_000)),
}


@pytest.mark.parametrize("kind", RESTARTED)
def test_a_run_that_was_begun_again_is_a_movie_of_its_own(tmp_path: Path, kind: str) -> None:
    scheme, taken = RESTARTED[kind]
    data = movie(len(taken))
    write(tmp_path, [scheme.format(*own) for own in taken], list(data))
    message = raw.problem([row(tmp_path / "*.tif")])
    assert "2 runs, of which the second begins with" in message
    # All remedies work: a movie for each run, and one of both.
    second = [n for n, own in enumerate(taken) if own[0] == 0][1]
    globs = globs_in(message)
    assert len(globs) == 2
    for glob, own in zip(globs, (data[:second], data[second:]), strict=True):
        assert_is(frames_of([row(tmp_path / glob)]), own)
    rows = [row(tmp_path / "*.tif", time_point=pattern_in(message))]
    assert_is(frames_of(rows), data)
    assert raw.registered(rows).times_s[second] > 100


def test_things_in_turn_or_runs_of_one_length(tmp_path: Path) -> None:
    taken = runs(3, 3, gap=1500, step=2, first=100_000)
    names = [BARE.format(*own) for own in taken]
    write(tmp_path, names, list(movie(6)))
    message = raw.problem([row(tmp_path / "*.tif")])
    assert "3 movies or channels, one for each of them or as 2 runs" in message
    for glob in message.partition("each run: ")[2].partition(". If")[0].split("; "):
        first = 3 * glob.endswith("10150*.tif")
        assert_is(frames_of([row(tmp_path / glob)]), movie(6)[first : first + 3])


def test_runs_that_no_glob_takes_apart_are_to_be_moved(tmp_path: Path) -> None:
    times = ("100000", "100958", "100959", "101000")
    names = [f"c_t{n}_20240131_{time}.tif" for n, time in zip((0, 1, 0, 1), times, strict=True)]
    write(tmp_path, names, list(movie(4)))
    message = raw.problem([row(tmp_path / "*.tif")])
    assert "move its files into a folder of their own" in message
    assert "make 'path' end" not in message.lower()


def test_a_number_of_one_digit_has_not_come_to_its_end() -> None:
    names = [f"c_t{n}_{s}s.tif" for n, _, s in runs(10, 10, gap=600, step=2, first=0)]
    with pytest.raises(UncertainOrderError, match=r"c_t0_600s.* was taken after c_t9_18s"):
        series_of(names)


ONE_RUN = {
    "a slower loop": [f"Iter{i}_stack{n}_{7 * i + n}s.tif" for i in range(2) for n in range(3)],
    "a slow loop alone": [f"iter{n // 3}_20240131_1200{n:02d}.tif" for n in range(7)],
    "a counter that came to its end": [
        f"c_stack{(9998 + n) % 10000:04d}_{2000 * n}msec.tif" for n in range(5)
    ],
    "elapsed time in each iteration": [
        f"Iter{i}_stack{n}_{1000 * n}msec_{9000 * i + 1000 * n}msecAbs.tif"
        for i in range(2)
        for n in range(3)
    ],
}


@pytest.mark.parametrize("kind", ONE_RUN)
def test_loops_within_loops_are_one_run(kind: str) -> None:
    names: Sequence[str] = ONE_RUN[kind]
    assert series_of(names).point == tuple(range(len(names)))
