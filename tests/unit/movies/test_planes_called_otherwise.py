"""Files of programs that call planes channels or frames, and time points planes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import raw
import tifffile
from raw import assert_is, frames_of, movie, problem, row

KINDS: dict[str, dict[str, Any]] = {"m.ome.tif": {}, "m.tif": {"imagej": True}}
CHANNELS = (("488", "1"), ("561", "2"))


def two_channels() -> np.ndarray:
    """(t, c, z, y, x)"""
    return np.stack([movie(4), movie(4, seed=1)], axis=1)


@pytest.mark.parametrize("name", KINDS)
def test_time_points_and_planes_are_asked_for_and_no_channel_is_taken(tmp_path: Path, name: str) -> None:
    data = movie(4)
    tifffile.imwrite(tmp_path / name, data, **KINDS[name])
    asked = problem([row(tmp_path / name)])
    assert "5 channels without names, which are rather the planes" in asked
    assert "t4z5yx or c4z5yx" in asked
    assert "if they are channels all the same, z4c5yx" in asked
    for axes in ("t4z5yx", "tzyx"):
        assert_is(frames_of([row(tmp_path / name, axes=axes)]), data)
    assert "t4z5yx" in problem([row(tmp_path / name, file_channel="1")])
    meant = frames_of([row(tmp_path / name, axes="z4c5yx", file_channel="2")])
    np.testing.assert_array_equal(meant[0], data[:, 1])


@pytest.mark.parametrize("name", KINDS)
def test_with_time_points_its_planes_are_channels(tmp_path: Path, name: str) -> None:
    data = two_channels()
    tifffile.imwrite(tmp_path / name, data, **KINDS[name])
    rows = [row(tmp_path / name, channel=channel) for channel, _ in CHANNELS]
    assert "t4c2z5yx (c: channels, each a row with its number in 'file_channel')" in problem(rows)
    exchanged = problem([one.model_copy(update={"axes": "tczyx"}) for one in rows])
    assert "40 planes (t4z2c5yx, by the file's own account)" in exchanged
    assert "t4c2z5yx" in exchanged
    for k, (channel, number) in enumerate(CHANNELS):
        told = row(tmp_path / name, channel=channel, axes="t4c2z5yx", file_channel=number)
        assert_is(frames_of([told]), data[:, k])


@pytest.mark.parametrize("name", KINDS)
def test_many_channels_of_one_plane_are_a_stack(tmp_path: Path, name: str) -> None:
    data = movie(3)
    for t, stack in enumerate(data):
        tifffile.imwrite(tmp_path / name.replace("m", f"m_t{t}", 1), stack, **KINDS[name])
    assert_is(frames_of([row(tmp_path)]), data)
    assert_is(frames_of([row(tmp_path / name.replace("m", "m_t2", 1))]), data[2:])


@pytest.mark.parametrize("name", KINDS)
def test_a_series_of_which_each_file_has_channels_and_planes(tmp_path: Path, name: str) -> None:
    data = two_channels()
    for t, stacks in enumerate(data):
        tifffile.imwrite(tmp_path / name.replace("m", f"m_t{t}", 1), stacks, **KINDS[name])
    assert "slowest first: c2z5yx (c: channels" in problem([row(tmp_path)])
    rows = [row(tmp_path, channel=c, axes="c2z5yx", file_channel=number) for c, number in CHANNELS]
    for k, source in enumerate(raw.sources(rows)):
        np.testing.assert_array_equal(source.read(3), data[3, k])


def test_few_channels_may_be_channels(tmp_path: Path) -> None:
    data = movie(6)[:, :3]
    tifffile.imwrite(tmp_path / "m.tif", data, imagej=True)
    asked = problem([row(tmp_path / "m.tif")])
    assert "its number from 1 to 3. If they are planes, say in the column 'axes': t6z3yx." in asked
    assert_is(frames_of([row(tmp_path / "m.tif", axes="t6z3yx")]), data)


def test_frames_with_an_interval_in_files_of_a_series_are_not_taken_for_planes(tmp_path: Path) -> None:
    data = movie(4)
    metadata = dict(axes="TYX", finterval=2.0, tunit="sec")
    for z in range(data.shape[1]):
        tifffile.imwrite(tmp_path / f"a_{z:03d}.tif", data[:, z], imagej=True, metadata=metadata)
    asked = problem([row(tmp_path)])
    assert "4 frames that are 2 s apart" in asked
    assert "z4yx" in asked
    joined = np.concatenate([tifffile.imread(file) for file in sorted(tmp_path.glob("*.tif"))])
    tifffile.imwrite(tmp_path / "one.tif", joined)
    assert "zt4yx" in asked
    assert_is(frames_of([row(tmp_path / "one.tif", axes="zt4yx")]), data)
    # Planes that a program called frames: then the files are time points.
    assert_is(frames_of([row(tmp_path / "a_*.tif", axes="z4yx")]), data.swapaxes(0, 1))
