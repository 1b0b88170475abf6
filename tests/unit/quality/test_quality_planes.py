"""What planes of a stack are told from how alike they are: simulated volumes, put together in wrong ways."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from spatialdino_core.quality.planes import (
    FRAMES_IN_A_ROW,
    Texture,
    alike_throughout,
    covariance_by_lag,
    ends_and_neighbours,
    frames_move_as_planes,
    pass_through_focus,
    ratio,
    returning,
    texture,
)

SHAPE = (24, 64, 96)
SIGMA = (1.3, 1.25, 1.25)


def movie(
    seed: int,
    frames: int = 4,
    particles: int = 30,
    step: float = 0.4,
    shape: tuple[int, int, int] = SHAPE,
    sigma_z: float = 1.3,
    velocity: tuple[float, float, float] = (0, 0, 0),
    shear: float = 0.0,
    peak: float = 200.0,
    lifetime: float = np.inf,
) -> np.ndarray:
    """Brownian particles with photon and camera noise, uint16 (t, z, y, x); planes sheared along x."""
    rng = np.random.default_rng(seed)

    def anywhere(number: int) -> np.ndarray:
        return rng.uniform(0, 1, (number, 3)) * (max(shape[0], 1), shape[1], shape[2])

    places = anywhere(particles)
    stacks = []
    for _ in range(frames):
        z, y, x = (np.arange(n) for n in shape)
        along_z = np.exp(-((z - places[:, :1]) ** 2) / 2 / sigma_z**2)
        along_y = np.exp(-((y - places[:, 1:2]) ** 2) / 2 / SIGMA[1] ** 2)
        column = places[:, 2, None, None] + shear * z[None, :, None]
        distance = (x - column + shape[2] / 2) % shape[2] - shape[2] / 2
        along_x = np.exp(-(distance**2) / 2 / SIGMA[2] ** 2)
        light = 10 + peak * np.einsum("nz,ny,nzx->zyx", along_z, along_y, along_x)
        stacks.append(np.rint(rng.poisson(light) + rng.normal(100, 1.5, shape)).astype(np.uint16))
        places = places + rng.normal(0, step, places.shape) * (0.4, 1, 1) + velocity
        gone = rng.random(particles) > np.exp(-1 / lifetime)
        places[gone] = anywhere(int(gone.sum()))
    return np.stack(stacks)


def exchanged(stacks: np.ndarray) -> bool:
    """Whether the frames of a movie are found to be planes."""
    seen = [texture(stack) for stack in stacks]
    start = (len(seen) - FRAMES_IN_A_ROW) // 2
    row = [each.mean for each in seen[start : start + FRAMES_IN_A_ROW]]
    return alike_throughout([ends_and_neighbours(each) for each in seen]) and pass_through_focus(row)


@pytest.mark.parametrize("times", [2, 4])
@pytest.mark.parametrize("shear", [0.0, 3.3])
def test_time_points_in_one_stack_are_found_with_their_number_of_planes(times: int, shear: float) -> None:
    flat = movie(1, frames=times, shear=shear).reshape(-1, *SHAPE[1:])
    assert returning(texture(flat), shear) == SHAPE[0]


@pytest.mark.parametrize("axis", ["x", "y"])
@pytest.mark.parametrize("shear", [0.0, 3.3, 8.0])
@pytest.mark.parametrize("channels", [2, 3, 4])
def test_channels_that_take_turns_are_counted(channels: int, shear: float, axis: str) -> None:
    turns = np.stack([movie(10 + c, frames=1, shear=shear)[0] for c in range(channels)], 1)
    turns = turns.reshape(-1, *SHAPE[1:])
    if axis == "y":
        turns = turns.swapaxes(1, 2)
    assert returning(texture(turns), shear, axis) == channels


def test_channels_that_share_half_of_their_particles_are_told_apart() -> None:
    both, one, other = (movie(seed, frames=1, particles=30)[0].astype(int) for seed in (20, 21, 22))
    turns = np.stack([both + one - 110, both + other - 110], 1).reshape(-1, *SHAPE[1:])
    assert returning(texture(turns.astype(np.uint16))) == 2


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("shear", [0.0, 3.3, 8.0])
@pytest.mark.parametrize("particles", [2, 8, 60])
def test_nothing_returns_in_one_volume(seed: int, shear: float, particles: int) -> None:
    stack = movie(100 + seed, frames=1, particles=particles, shear=shear)[0]
    assert returning(texture(stack), shear) is None


def test_two_beads_above_each_other_do_not_make_a_period() -> None:
    z, y, x = np.ogrid[: SHAPE[0], : SHAPE[1], : SHAPE[2]]
    light = sum(
        300 * np.exp(-((z - depth) ** 2) / 3.4 - ((y - 30) ** 2 + (x - 40) ** 2) / 3.1) for depth in (5, 17)
    )
    stack = np.random.default_rng(0).poisson(light + 20) + 100
    seen = texture(stack.astype(np.uint16))
    assert ratio(covariance_by_lag(seen)[6], covariance_by_lag(seen)[12]).value < 0.3  # it does look like one
    assert returning(seen) is None


@pytest.mark.parametrize(
    "kind", ["empty", "constant", "columns", "flicker", "hot pixels", "texture", "thin", "tiny", "one plane"]
)
def test_odd_but_honest_stacks_are_left_alone(kind: str) -> None:
    rng = np.random.default_rng(3)
    column = np.clip(60 + 30 * gaussian_filter(rng.normal(size=SHAPE[1:]), 1.5) / 0.19, 0, None)
    grain = gaussian_filter(rng.normal(size=SHAPE), 1.5)
    hot = np.where(rng.random(SHAPE[1:]) < 0.003, 400, 0)
    profile = 1 + 0.4 * (np.arange(SHAPE[0]) % 2)[:, None, None]
    light = {
        "empty": np.full(SHAPE, 10.0),
        "constant": np.zeros(SHAPE),
        "columns": np.broadcast_to(column, SHAPE),
        "flicker": column * profile,
        "hot pixels": np.broadcast_to(10.0 + hot, SHAPE),
        "texture": np.clip(40 + 15 * grain / grain.std(), 0, None),
        "thin": np.full((2, 64, 96), 10.0),
        "tiny": np.full((24, 8, 8), 10.0),
        "one plane": np.full((1, 64, 96), 10.0),
    }[kind]
    stack = (rng.poisson(light) + 100).astype(np.uint16)
    seen = texture(stack)
    assert returning(seen) is None
    assert returning(seen, 3.3) is None
    assert not pass_through_focus([seen.mean] * (FRAMES_IN_A_ROW - 1))


@pytest.mark.parametrize("seed", range(3))
def test_planes_and_time_points_exchanged_are_found(seed: int) -> None:
    assert exchanged(np.swapaxes(movie(200 + seed, frames=4, particles=60), 0, 1))


@pytest.mark.parametrize("axis", ["x", "y"])
@pytest.mark.parametrize("step", [0.0, 0.4, 4.0])
def test_planes_of_a_skewed_scan_exchanged_with_time_points_are_found(axis: str, step: float) -> None:
    """However fast particles move: what one frame shows, the next shows a shift farther."""
    swapped = np.swapaxes(movie(200, frames=12, step=step, shear=3.3), 0, 1)
    if axis == "y":
        swapped = swapped.swapaxes(2, 3)
    row = [texture(stack) for stack in swapped[7 : 7 + FRAMES_IN_A_ROW]]
    assert frames_move_as_planes(row[:2], 3.3, axis, sure=False)
    assert frames_move_as_planes(row, 3.3, axis)


@pytest.mark.parametrize("velocity", [0.0, 1.7, 3.3, -3.3, 6.6])
def test_time_points_of_a_skewed_scan_are_not_taken_for_planes(velocity: float) -> None:
    """Not even where the specimen drifts from frame to frame as far as the image does from plane to plane."""
    for seed in range(3):
        frames = movie(900 + seed, frames=4, step=0.1, shear=3.3, velocity=(0, 0, velocity))
        assert not frames_move_as_planes([texture(stack) for stack in frames], 3.3)


THIN = (4, 64, 96)
ORDINARY = {
    "diffusing": {"step": 2.0},
    "still": {"step": 0.0},
    "drifting": {"step": 0.1, "velocity": (0, 1.0, 0)},
    "drifting fast": {"step": 0.1, "velocity": (0, 0, 3.9)},
    "coming and going": {"step": 0.1, "lifetime": 3.0},
    "coming and going fast": {"step": 0.1, "lifetime": 1.5},
}


@pytest.mark.parametrize("sigma_z", [1.3, 4.0], ids=["thin", "blurred"])
@pytest.mark.parametrize("kind", ORDINARY)
def test_time_points_of_thin_and_blurred_stacks_are_not_taken_for_planes(kind: str, sigma_z: float) -> None:
    for seed in range(3):
        options = {"step": 0.1} | ORDINARY[kind]
        assert not exchanged(
            movie(300 + seed, frames=16, particles=60, shape=THIN, sigma_z=sigma_z, **options)  # type: ignore[arg-type]
        )


def test_what_is_seen_in_two_frames_only_tells_nothing() -> None:
    """Likeness that is gone after one frame may be of any kind."""
    for seed in range(40):
        drawn = np.random.default_rng(seed).normal(size=(FRAMES_IN_A_ROW + 1, 48, 64))
        seen = gaussian_filter(drawn, (0, 1.2, 1.2)).astype(np.float32)
        assert not pass_through_focus(list(seen[1:] + seen[:-1]))


@pytest.mark.parametrize("seed", range(8))
def test_a_pattern_of_the_camera_makes_no_planes_return(seed: int) -> None:
    """It is seen best where there are no particles: at the ends, which are as far apart as planes can be."""
    rng = np.random.default_rng(seed)
    pattern = rng.normal(0, 10, SHAPE[1:])
    particles = movie(30 + seed, frames=1, particles=40)[0].astype(float)
    for ends in (slice(None, 7), slice(-7, None)):
        particles[ends] = rng.normal(110, 3.5, (7, *SHAPE[1:]))
    assert returning(texture(np.rint(particles + pattern).clip(0).astype(np.uint16))) is None


def test_covariance_is_the_likeness_of_planes_without_noise() -> None:
    """Planes that share a share ρ of their variance have a covariance of ρ, whatever the noise."""
    rng = np.random.default_rng(5)
    share = np.exp(-0.3)
    fields = [rng.normal(size=(240, 240))]
    for _ in range(39):
        fields.append(share * fields[-1] + np.sqrt(1 - share**2) * rng.normal(size=(240, 240)))
    smooth = gaussian_filter(np.stack(fields), (0, 2, 2))
    light = 400 + 25 * smooth / smooth.std()
    stack = np.rint(light + rng.normal(0, 12, light.shape)).astype(np.uint16)
    found = covariance_by_lag(texture(stack)).sum(axis=1)
    for lag in (1, 2, 4):
        assert found[lag] == pytest.approx(share**lag, abs=0.04)


def test_error_of_a_ratio_is_its_scatter() -> None:
    rng = np.random.default_rng(6)
    below = rng.gamma(3.0, size=(4000, 30))
    above = 0.5 * below + rng.normal(0, 0.4, below.shape)
    found = [ratio(a, b) for a, b in zip(above, below, strict=True)]
    assert np.mean([r.value for r in found]) == pytest.approx(0.5, abs=0.01)
    assert np.mean([r.error for r in found]) == pytest.approx(np.std([r.value for r in found]), rel=0.1)
    equal = ratio(np.ones(8), np.full(8, 2.0))
    assert (equal.value, equal.error, equal.blocks) == (0.5, 0.0, pytest.approx(8))
    assert ratio(np.ones(3), -np.ones(3)).value == np.inf


def test_large_stacks_are_looked_at_in_the_middle() -> None:
    rng = np.random.default_rng(7)
    stack = rng.integers(90, 110, (300, 300, 300)).astype(np.uint16)
    seen = texture(stack)
    assert isinstance(seen, Texture)
    assert seen.planes.size <= 2**22
    assert seen.planes.shape[1] == seen.planes.shape[2] > 100
