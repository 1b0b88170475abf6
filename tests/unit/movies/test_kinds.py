"""What lies beside the files of a movie, called nearly alike, is named, with a glob that leaves it out."""

from __future__ import annotations

from pathlib import Path

import pytest
import raw
from raw import assert_is, frames_of, movie, row
from test_series import globs_in, write

LLSM = "c_stack{0:04d}_488nm_{1:07d}msec_{2:010d}msecAbs"
BESIDE = {
    "a copy of Windows": ("c_t{0:03d}", [3], "{} (1)"),
    "a copy of Mac": ("c_t{0:03d}", [3], "{} copy"),
    "a copy, not padded": ("c_t{0}", [3, 10], "{} - Copy"),
    "of a cloud": ("c_t{0}", [10], "{} (Ann's conflicted copy 2024-01-31)"),
    "an old one": ("c_t{0}", [5], "{}_old"),
    "copies before the name": ("c_t{0:03d}", [3, 4], "Copy of {}"),
    "deconvolved": (LLSM, range(12), "{}_decon"),
    "masks": ("c_t{0}", range(12), "{}_mask"),
    "projections": (LLSM, range(12), "{}_MIP_z"),
    "numbered": ("c_t{0:02d}", range(12), "{}_1"),
}


@pytest.mark.parametrize("kind", BESIDE)
def test_what_lies_beside_is_named_and_left_out_by_a_glob(tmp_path: Path, kind: str) -> None:
    scheme, which, suffix = BESIDE[kind]
    names = [scheme.format(n, 2000 * n, 90_000 + 2000 * n) for n in range(12)]
    data, others = movie(12), movie(12, seed=1)
    write(tmp_path, [f"{name}.tif" for name in names], list(data))
    odd = [suffix.format(names[n]) for n in which]
    write(tmp_path, [f"{name}.tif" for name in odd], [others[n] for n in which])
    message = raw.problem([row(tmp_path)])
    assert f"{odd[0]}.tif" in message
    assert "lies beside" in message
    assert "rename" not in message
    globs = globs_in(message)
    assert_is(frames_of([row(tmp_path / globs[0])]), data)
    if len(odd) == len(names):
        assert_is(frames_of([row(tmp_path / globs[1])]), others)
    else:
        assert len(globs) == 1 or len(odd) > 1


def test_something_else_beside_is_named(tmp_path: Path) -> None:
    data = movie(12)
    write(tmp_path, [f"c_t{n}.tif" for n in range(12)], list(data))
    write(tmp_path, ["background.tif"], [data[0]])
    message = raw.problem([row(tmp_path)])
    assert "12 as c_t0.tif; background.tif" in message
    assert_is(frames_of([row(tmp_path / globs_in(message)[0])]), data)


def test_a_glob_that_cannot_leave_it_out_is_not_offered(tmp_path: Path) -> None:
    data = movie(12)
    write(tmp_path, [f"c_t{n}.tif" for n in range(12)], list(data))
    write(tmp_path, ["c_t3_1.tif"], [data[0]])
    message = raw.problem([row(tmp_path)])
    assert "c_t3_1.tif lies beside c_t3.tif" in message
    assert message.endswith("Move those that are no part of it elsewhere.")
    (tmp_path / "c_t3_1.tif").unlink()
    assert_is(frames_of([row(tmp_path)]), data)


def test_both_endings_of_a_tiff_are_one_series(tmp_path: Path) -> None:
    data = movie(4)
    write(tmp_path, ["c_t0.tif", "c_t1.tiff", "c_t2.TIF", "c_t3.tif"], list(data))
    assert_is(frames_of([row(tmp_path)]), data)
    write(tmp_path, ["d_t0.tif", "d_t1.tiff"], list(data[:2]))
    globs = globs_in(raw.problem([row(tmp_path)]))
    assert_is(frames_of([row(tmp_path / globs[0])]), data)
    assert_is(frames_of([row(tmp_path / globs[1])]), data[:2])


@pytest.mark.parametrize("second", ["c_t001.tif", "c_t1.TIF", "c_t1.tiff"])
def test_two_files_for_one_time_point(tmp_path: Path, second: str) -> None:
    data = movie(3)
    write(tmp_path, [*(f"c_t{n}.tif" for n in range(3)), second], [*data, data[0]])
    message = raw.problem([row(tmp_path)])
    assert "two files for one time point: " in message
    assert second in message
    assert "time_point" not in message
    if "make 'path' end" in message.lower():
        assert_is(frames_of([row(tmp_path / globs_in(message)[0])]), data)
    (tmp_path / second).unlink()
    assert_is(frames_of([row(tmp_path)]), data)


def test_every_time_point_with_both_endings(tmp_path: Path) -> None:
    data, others = movie(3), movie(3, seed=1)
    write(tmp_path, [f"c_t{n}.tif" for n in range(3)], list(data))
    write(tmp_path, [f"c_t{n}.tiff" for n in range(3)], list(others))
    for glob, own in zip(globs_in(raw.problem([row(tmp_path)])), (data, others), strict=True):
        assert_is(frames_of([row(tmp_path / glob)]), own)
