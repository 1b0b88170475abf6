"""Single stacks that people number are things of their own, unless something says that they are a movie."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import raw
from raw import assert_is, frames_of, movie, row
from test_series import globs_in, with_clock, write

THINGS = [
    *(
        "Capture {}",
        "Image {}",
        "Snap-{:02d}",
        "untitled_{}",
        "HeLa_{}",
        "HEK293_{}",
        "clone_{:02d}",
        "siRNA{}",
    ),
    *(
        "movie{}",
        "run{}",
        "day{}",
        "20240131_{:03d}",
        "Untitled{:03d}",
        "cells{}",
        "Stack_{}",
        "AP2-{}",
        "({})",
    ),
    *("{}/stack", "a_{}_512x512"),
]


@pytest.mark.parametrize("scheme", THINGS)
def test_what_people_number_may_be_things(tmp_path: Path, scheme: str) -> None:
    data = movie(3)
    write(tmp_path, [scheme.format(n) + ".tif" for n in (1, 2, 4)], list(data))
    path = tmp_path / ("*/*.tif" if "/" in scheme else "*.tif")
    message = raw.problem([row(path)])
    assert "of which no word says that it counts time" in message
    # Both remedies work: a movie of each, and one of all.
    for glob, stack in zip(globs_in(message), data, strict=True):
        assert_is(frames_of([row(tmp_path / glob, interval_s=None)]), stack[None])
    pattern = message.partition("'time_point': ")[2]
    rows = [row(path, time_point=pattern)]
    assert raw.registered(rows, "skip").skipped.keys() == {2}
    for found, stack in zip(np.array([f for f in frames_of(rows) if f is not None]), data, strict=True):
        np.testing.assert_array_equal(found, stack)


MOVIES = [
    *("t{:03d}", "T={}", "c_t{}", "frame{}", "Iter_{:04d}", "time_{}", "timepoint {}", "tp{}", "cycle{:05d}"),
    *("c_{:04d}", "img_{:09d}", "Image{:04d}", "c_stack{:03d}", "c_{}s", "fish_{}hpf"),
]


@pytest.mark.parametrize("scheme", MOVIES)
def test_what_programs_count_is_a_movie(tmp_path: Path, scheme: str) -> None:
    data = movie(3)
    write(tmp_path, [scheme.format(n) + ".tif" for n in (1, 2, 3)], list(data))
    record = raw.registered([row(tmp_path / "*.tif", interval_s=1.0)])
    assert (record.problem, record.warnings) == (None, [])
    assert_is(frames_of([row(tmp_path / "*.tif")]), data)


@pytest.mark.parametrize("scheme", ["c_{}", "c_{:02d}", "c_{:03d}", "c_stack{}", "c_{:04d}"])
def test_what_begins_with_0_is_a_movie(tmp_path: Path, scheme: str) -> None:
    data = movie(3)
    write(tmp_path, [scheme.format(n) + ".tif" for n in range(3)], list(data))
    assert_is(frames_of([row(tmp_path / "*.tif")]), data)
    assert raw.registered([row(tmp_path / "*.tif")]).warnings == []


def test_many_files_are_a_movie_with_a_warning(tmp_path: Path) -> None:
    data = movie(31)
    write(tmp_path, [f"c_{n}.tif" for n in range(1, 32)], list(data))
    assert_is(frames_of([row(tmp_path / "*.tif")]), data)
    assert "no word says that it counts time" in raw.registered([row(tmp_path / "*.tif")]).warnings[0]


def test_a_clock_that_runs_through_the_files_makes_a_movie(tmp_path: Path) -> None:
    data = with_clock(tmp_path, [0.0, 3.1, 6.0], 0.1, [])
    for file in tmp_path.glob("*.tif"):
        n = int(file.name[3])
        file.rename(tmp_path / f"Capture {n + 1}.ome.tif")
    assert_is(frames_of([row(tmp_path / "*.tif")]), data)
