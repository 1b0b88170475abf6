"""Stacks that hold one channel after the other, and frames of several channels in turns: simulated movies."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from test_quality_planes import movie
from test_quality_plausibility import previewed

from spatialdino_core.quality.planes import Texture, texture
from spatialdino_core.quality.seams import in_turns, likeness_of_neighbours, stacks_in_one, unlike

SMALL = (12, 64, 64)


def told(stacks: np.ndarray, shift: float = 0.0) -> int | None:
    return stacks_in_one([likeness_of_neighbours(texture(stack), shift) for stack in stacks])


@pytest.mark.parametrize("shear", [0.0, 3.7])
def test_two_or_three_stacks_one_after_the_other(shear: float) -> None:
    one, two, three = (movie(seed, frames=2, shape=SMALL, shear=shear) for seed in (1, 2, 5))
    assert told(np.concatenate([one, two], axis=1), shear) == 2
    assert told(np.concatenate([one, two, three], axis=1), shear) == 3
    assert told(one, shear) is None


@pytest.mark.parametrize("kind", ["thin", "thick", "dim", "hollow", "few", "up and down"])
def test_one_stack_has_no_seam(kind: str) -> None:
    kinds = {
        "thin": {"sigma_z": 0.5},
        "thick": {"sigma_z": 3.0},
        "dim": {"peak": 30.0},
        "few": {"particles": 3},
    }
    for seed in range(3):
        stacks = movie(seed, frames=2, **kinds.get(kind, {}))  # type: ignore[arg-type]
        if kind == "hollow":  # nothing in the middle plane
            light = 1 - np.exp(-(((np.arange(24) - 11.5) / 3) ** 2))
            noise = np.random.default_rng(seed).normal(100, 1.5, stacks.shape)
            stacks = np.rint((stacks - 100.0) * light[:, None, None] + noise).clip(0).astype(np.uint16)
        if kind == "up and down":
            stacks = np.concatenate([stacks, stacks[:, ::-1]], axis=1)
        assert told(stacks) is None


def frames_of(*series: np.ndarray) -> list[Texture]:
    """Six frames, of each series in turn."""
    return [texture(series[n % len(series)][n // len(series)]) for n in range(6)]


def test_frames_of_two_or_three_series_take_turns_and_fast_ones_do_not() -> None:
    one, two, three = (movie(seed, frames=6, shape=SMALL) for seed in (1, 2, 5))
    assert in_turns(frames_of(one)) is None
    assert in_turns(frames_of(one, two)) == 2
    assert in_turns(frames_of(one, two, three)) == 3
    assert in_turns(frames_of(one, two)[:4]) is None  # too few to tell
    fast = frames_of(movie(1, frames=6, shape=SMALL, step=5.0))
    assert unlike(*fast[:2])
    assert in_turns(fast) is None
    assert not unlike(*frames_of(one)[:2])


def test_channels_one_after_the_other_are_refused_unless_the_sheet_says_so(tmp_path: Path) -> None:
    stacks = np.concatenate([movie(seed, frames=2, shape=SMALL) for seed in (1, 2)], axis=1)
    problem = previewed(tmp_path, stacks)["problem"]
    assert "stacks of 24 planes of which neighbours are alike, but not where the first of 2 stacks" in problem
    assert "to c2z12yx, and give each a row with its file_channel, 1 to 2" in problem
    assert previewed(tmp_path, stacks, axes="z24yx")["problem"] is None


def test_frames_in_turns_are_refused_with_a_remedy_that_fits_the_files(tmp_path: Path) -> None:
    one, two = (movie(seed, frames=4, shape=SMALL) for seed in (1, 2))
    turns = np.stack([one, two], axis=1).reshape(-1, *SMALL)
    problem = previewed(tmp_path / "one", turns, one_file=True)["problem"]
    assert "2 series that take turns" in problem
    assert "t4c2z12yx" in problem
    problem = previewed(tmp_path / "many", turns)["problem"]
    assert "Put the files of each into a folder of its own" in problem
    assert previewed(tmp_path / "many", turns, axes="z12yx")["problem"] is None
