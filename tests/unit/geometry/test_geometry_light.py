"""Which frames of a movie are named as dark, constant or lost to rounding, from what is known of each."""

from __future__ import annotations

from dataclasses import asdict

import numpy as np
import pytest

from spatialdino_core.geometry.light import FrameLight, dark_frames, frame_light, frame_warnings, listed
from spatialdino_core.movies.rounding import Rounding, rounding_of


def raw(seed: int, signal: float = 200, background: float = 10, particles: int = 20) -> np.ndarray:
    rng = np.random.default_rng(seed)
    light = np.full((10, 60, 80), float(background))
    for _ in range(particles):
        z, y, x = (int(rng.integers(1, n - 3)) for n in light.shape)
        light[z, y : y + 2, x : x + 2] += signal
    return np.rint(rng.poisson(light) + rng.normal(100, 1.5, light.shape)).astype(np.uint16)


DARK = np.rint(np.random.default_rng(99).normal(100, 1.5, (10, 60, 80))).astype(np.uint16)


def lights(stacks: list[np.ndarray]) -> dict[int, FrameLight]:
    return {frame: frame_light(stack) for frame, stack in enumerate(stacks)}


def test_light_of_a_known_frame() -> None:
    rng = np.random.default_rng(0)
    stack = np.rint(rng.normal(300, 8, (20, 100, 100))).astype(np.uint16)
    stack.ravel()[:100] = 5000  # 5e-4 of the voxels
    stack[10:] = 0
    found = frame_light(stack[:10])
    assert found.background == pytest.approx(300, abs=1)
    assert found.width == pytest.approx(8, rel=0.15)
    assert found.bright == pytest.approx(4700, abs=1)
    assert found.has_signal
    assert frame_light(stack).background == pytest.approx(300, abs=1)
    noise = frame_light(np.rint(rng.normal(300, 8, (20, 100, 100))).astype(np.uint16))
    assert noise.bright == pytest.approx(3.72 * 8, rel=0.1)
    assert not noise.has_signal
    assert frame_light(np.full((2, 3, 4), 7, np.uint16)).constant


@pytest.mark.parametrize(
    "dark", [[4], [0], [11], [0, 1, 2], [10, 11], [3, 4, 5, 6, 7, 8], [1, 3, 5, 7, 9], []], ids=str
)
def test_dark_frames_are_found_wherever_they_are(dark: list[int]) -> None:
    assert dark_frames(lights([DARK if t in dark else raw(t) for t in range(12)])) == dark


@pytest.mark.parametrize("signal", [200, 60, 1000])
def test_bleaching_flashing_and_empty_movies_have_no_dark_frame(signal: float) -> None:
    fading = [raw(t, signal * 0.6**t) for t in range(14)]
    assert dark_frames(lights(fading)) == []
    flashing = [raw(t, 5000 if t in (3, 9) else signal) for t in range(12)]
    assert dark_frames(lights(flashing)) == []
    dimmed = [raw(t, 5000 if t < 3 else 20, particles=0 if t == 3 else 90) for t in range(7)]
    assert frame_light(dimmed[4]).has_signal
    assert dark_frames(lights(dimmed)) == []
    empty = [raw(t, particles=0) for t in range(12)]
    assert dark_frames(lights(empty)) == []
    assert dark_frames({}) == []


def test_warnings_name_frames_by_channel_in_whatever_order_they_were_computed() -> None:
    constant = np.full((10, 60, 80), 100, np.uint16)
    first = [DARK if t in (4, 7, 8) else raw(t) for t in range(12)]
    second = [constant if t == 2 else raw(t) for t in range(12)]
    facts = {t: {"light": [asdict(frame_light(first[t])), asdict(frame_light(second[t]))]} for t in range(12)}
    lines = frame_warnings(facts, ["488nm", "560nm"])
    assert len(lines) == 2
    assert lines[0].startswith("488nm, frames 4, 7 to 8: no signal (dark)")
    assert lines[1].startswith("560nm, frame 2: a single value")
    backwards = dict(reversed(facts.items()))
    assert frame_warnings(backwards, ["488nm", "560nm"]) == lines
    assert frame_warnings({0: {}, 1: facts[1]}, ["488nm", "560nm"]) == []  # a frame that was left out


def test_frames_lost_to_rounding_are_named() -> None:
    fine, lost = (asdict(Rounding(noise=noise, levels=9, highest=9)) for noise in (2.0, 0.1))
    facts = {0: {"rounding": [fine]}, 1: {"rounding": [lost]}, 2: {"rounding": [None]}, 3: {}}
    (line,) = frame_warnings(facts, ["488nm"])
    assert line.startswith("488nm, frame 1: rounding")


def test_long_lists_of_frames_are_cut() -> None:
    assert listed([1, 2, 3, 9]) == "frames 1 to 3, 9"
    assert listed(range(0, 40, 2)).endswith("12, 14 and 12 more")


@pytest.mark.parametrize(("noise", "height"), [(0.12, 7.0), (0.002, 0.5), (3.0, 50.0), (0.2, 400.0)])
def test_rounding_is_judged_by_noise_and_levels(noise: float, height: float) -> None:
    rng = np.random.default_rng(1)
    stack = rng.normal(1, noise, (12, 80, 80))
    stack[:, 10:14, 10:14] += height
    found = rounding_of(stack.astype(np.float32))
    assert found is not None
    assert found.noise == pytest.approx(noise, rel=0.05)
    assert found.levels == pytest.approx(height, abs=4 * noise + 1)
    assert found.loses == (noise < 0.5 and height < 100)
    if found.loses:
        assert found.noise * found.factor >= 2
        assert found.highest * found.factor <= 65535


def test_integers_and_whole_numbers_lose_nothing() -> None:
    stack = raw(0)
    assert rounding_of(stack) is None
    assert rounding_of(stack.astype(np.float32)) is None
    assert rounding_of(np.full((3, 4, 5), 0.5)) is not None
    assert Rounding(noise=0.01, levels=1, highest=60000.0).factor == 1
