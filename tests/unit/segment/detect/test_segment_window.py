"""The window in time against numpy, whatever the order of the questions; and what it reads."""

from __future__ import annotations

import numpy as np
import pytest

from spatialdino_core.segment.detect.window import SegmentMovie

SHAPE = (4, 5, 6)
VOXEL_UM = (0.2, 0.1, 0.1)
EXISTS = [0, 1, 2, 3, 5, 6, 7, 10, 11, 12, 13, 14, 15, 16, 18, 19]


def _movie(dtype: type) -> dict[int, np.ndarray]:
    rng = np.random.default_rng(0)
    return {t: rng.integers(0, 65536, SHAPE).astype(dtype) for t in EXISTS}


@pytest.mark.parametrize("dtype", [np.uint16, np.float32])
@pytest.mark.parametrize("reach", [0, 1, 2, 5, 30])
@pytest.mark.parametrize("order", ["forward", "backward", "random"])
def test_images_are_the_frame_and_numpys_means(dtype, reach, order):
    frames = _movie(dtype)
    asked = {
        "forward": EXISTS,
        "backward": EXISTS[::-1],
        "random": np.random.default_rng(1).choice(EXISTS, 40).tolist(),
    }[order]
    window = SegmentMovie(lambda t: frames[t].copy(), EXISTS, VOXEL_UM)
    for number in asked:
        groups = window.groups(number, reach)
        images = window.seen(number, groups)
        assert len(images) == len(groups.lags)
        assert images[0].image.dtype == dtype
        assert np.array_equal(images[0].image, frames[number])
        for group, image in zip(groups.lags[1:], (one.image for one in images[1:]), strict=True):
            mean = np.mean([frames[number + lag] for lag in group], axis=0, dtype=np.float64)
            assert image.dtype == np.float32
            # A mean of two frames is summed up in float32, which holds the sum of two uint16 exactly.
            assert np.array_equal(image, mean.astype(np.float32))


def test_whoever_starts_in_the_middle_sees_the_same_bits():
    """Frames whose sums float32 cannot hold."""
    rng = np.random.default_rng(2)
    frames = [rng.integers(0, 65536, SHAPE).astype(np.uint16) for _ in range(40)]
    first, second = (SegmentMovie(lambda t: frames[t], range(40), VOXEL_UM) for _ in range(2))
    for number in range(25):
        before = first.seen(number, first.groups(number, 8))
    after = second.seen(24, second.groups(24, 8))
    for one, other in zip(before, after, strict=True):
        assert one.image.tobytes() == other.image.tobytes()


def test_the_images_are_nobody_elses():
    """What a caller does to an image must not reach the window's own memory."""
    frames = _movie(np.float32)
    window = SegmentMovie(lambda t: frames[t], EXISTS, VOXEL_UM)
    images = window.seen(11, window.groups(11, 5))
    for image in images[1:]:
        image.image[:] += 1e6
    again = window.seen(11, window.groups(11, 5))
    mean = np.mean([frames[t] for t in (6, 7, 14, 15, 16)], axis=0, dtype=np.float64)
    assert np.array_equal(again[3].image, mean.astype(np.float32))


@pytest.mark.parametrize("reach", [5, 8, 15])
def test_going_forward_reads_three_frames_each_whatever_the_reach(reach):
    """One that enters the window, one that leaves it, and the next near one."""
    read: list[int] = []

    def frame(number: int) -> np.ndarray:
        read.append(number)
        return np.full(SHAPE, number, np.uint16)

    window = SegmentMovie(frame, range(60), VOXEL_UM)
    for number in range(40):
        before = len(read)
        window.seen(number, window.groups(number, reach))
        if number > reach:
            assert sorted(read[before:]) == [number - reach - 1, number + 2, number + reach]


def test_a_single_frame_is_read_once():
    read: list[int] = []

    def frame(number: int) -> np.ndarray:
        read.append(number)
        return np.zeros(SHAPE, np.uint16)

    window = SegmentMovie(frame, range(10), VOXEL_UM)
    for _ in range(3):
        window.seen(4, window.groups(4, 0))
    assert read == [4]
